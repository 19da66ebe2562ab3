"""Cases on the grid: the client's own HU bit for bit, exact labels, and never prepared twice."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import dlild_client.preparation.prepare
from dlild_client.contract import Contract
from dlild_client.preparation.surroundings import cut_window
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.data.contracts import find_contract
from dlild_export.data.faults import DatasetError
from dlild_export.data.labels import IGNORE
from dlild_export.data.prepare import labels_to_grid, prepare, prepared_files, read_info
from dlild_export.data.scans import LabelledScan

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_contract() -> Contract:
    return find_contract(ROOT / "model_repository")


def test_training_reads_what_the_client_sends(
    files: Any, real_contract: Contract, tmp_path: Path
) -> None:
    """The windows of a scan, cut from the prepared case, are those that the client sends of it.

    What lies beside the patient stays in the case, so that the network learns what it is.
    """
    (path, _) = prepare(files.folder, tmp_path / "out", contract=real_contract)

    volume = read_volume(files.image())
    sent = dlild_client.preparation.prepare.prepare(volume, real_contract)
    with np.load(path) as stored:
        hu = stored["hu"]
    assert hu.dtype == np.int16
    np.testing.assert_array_equal(hu, sent.grid.array)
    padding = real_contract.hu.padding
    count = 0
    for origin, window in sent.windows(padding):
        cut = cut_window(hu, sent.seen, sent.box, origin, sent.plan.shape, padding)
        assert window.tobytes() == cut.tobytes()
        count += 1
    assert count > 0


def test_training_reads_what_the_client_sends_of_dicom(
    scan: LabelledScan, real_contract: Contract, dicom_writer: Any, tmp_path: Path
) -> None:
    folder = dicom_writer(scan, pixel_mm=2.5, slice_mm=4.0, tilt_deg=9.0, padding_hu=-2000)

    (path,) = prepare(folder, tmp_path / "out", contract=real_contract)

    sent = dlild_client.preparation.prepare.prepare(read_volume(folder / "a"), real_contract)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["hu"], sent.grid.array)


def test_the_case_says_what_it_is(
    files: Any, scan: LabelledScan, contract: Contract, tmp_path: Path
) -> None:
    (files.folder / "cases.json").write_text(
        json.dumps({"a": {"pattern": "mixed", "severity": 0.3, "name": "not this"}})
    )
    path, other = prepare(files.folder, tmp_path / "out", contract=contract)

    info = read_info(path)
    assert info["name"] == info["group"] == "a"
    assert info["spacing_mm"] == [5.0] * 3
    assert info["source"] == "nnunet"
    assert info["dl_ild_percent"] == pytest.approx(30, abs=0.1)
    assert info["pattern"] == "mixed"
    assert "pattern" not in read_info(other)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["labels"], scan.labels)


def test_nothing_is_prepared_twice_and_changes_are(
    files: Any, contract: Contract, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    paths = prepare(files.folder, out, contract=contract)
    before = [p.stat().st_mtime_ns for p in paths]

    assert prepare(files.folder, out, contract=contract) == paths == prepared_files(out)
    assert [p.stat().st_mtime_ns for p in paths] == before

    files.edit(files.label("b"), lambda v: np.where(v == 4, 3, v).astype(np.uint8))
    prepare(files.folder, out, contract=contract)
    assert paths[0].stat().st_mtime_ns == before[0]
    with np.load(paths[1]) as stored:
        assert not (stored["labels"] == 4).any()

    finer = replace(contract, grid=replace(contract.grid, spacing_mm=(4.0,) * 3))
    prepare(files.folder, out, contract=finer)
    assert read_info(paths[0])["spacing_mm"] == [4.0] * 3


def test_a_half_written_case_is_written_anew(
    files: Any, contract: Contract, tmp_path: Path
) -> None:
    paths = prepare(files.folder, tmp_path, contract=contract)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    (tmp_path / ".a.1.part").write_bytes(b"what a killed run left")

    prepare(files.folder, tmp_path, contract=contract)

    assert len(paths[0].read_bytes()) == len(whole)
    assert prepared_files(tmp_path) == paths


def test_good_cases_are_kept_when_others_are_refused(
    files: Any, contract: Contract, tmp_path: Path
) -> None:
    files.edit(files.label("a"), np.zeros_like)
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []

    with pytest.raises(DatasetError, match=r"labelsTr/a\.nii\.gz: 0 mL of lung"):
        prepare(files.folder, out, contract=contract, progress=lambda *at: seen.append(at))

    assert [p.name for p in prepared_files(out)] == ["b.npz"]
    assert seen == [(1, 2), (2, 2)]


def test_processes_prepare_the_same(files: Any, contract: Contract, tmp_path: Path) -> None:
    alone = prepare(files.folder, tmp_path / "one", contract=contract)
    together = prepare(files.folder, tmp_path / "two", contract=contract, workers=2)

    for one, two in zip(alone, together, strict=True):
        with np.load(one) as a, np.load(two) as b:
            assert all(np.array_equal(a[key], b[key]) for key in ("hu", "labels", "info"))


def test_labels_of_ones_own_naming(files: Any, contract: Contract, tmp_path: Path) -> None:
    names = {"background": 0, "parenchym": 1, "GGO": 2, "Reticular": 3, "HC": 4, "Cons.": 5}
    files.describe(labels=names)
    with pytest.raises(DatasetError, match="'parenchym' is none of"):
        prepare(files.folder, tmp_path, contract=contract)

    own = {"parenchym": "lung", "HC": "honeycombing", "Cons.": "consolidation"}
    (path, _) = prepare(files.folder, tmp_path, contract=contract, overrides=own)

    with np.load(path) as stored:
        assert set(np.unique(stored["labels"])) == set(range(6))
    rows = "".join(f"{theirs},{ours}\n" for theirs, ours in own.items())
    (files.folder / "label_map.csv").write_text("theirs,ours\n" + rows)
    before = path.stat().st_mtime_ns
    prepare(files.folder, tmp_path, contract=contract)
    assert path.stat().st_mtime_ns == before  # the same labels, said elsewhere

    (files.folder / "label_map.csv").write_text("lung;parenchym\n1;2\n")
    with pytest.raises(DatasetError, match=r"label_map\.csv: not a table"):
        prepare(files.folder, tmp_path, contract=contract)


def test_cases_that_have_gone_are_not_trained_on(
    files: Any, contract: Contract, tmp_path: Path
) -> None:
    prepare(files.folder, tmp_path / "out", contract=contract)
    (tmp_path / "out" / "own.npz").write_bytes(b"somebody else's")
    files.drop("a")

    prepare(files.folder, tmp_path / "out", contract=contract)

    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b.npz", "own.npz"]


def test_a_broken_cases_json_is_named(files: Any, contract: Contract, tmp_path: Path) -> None:
    (files.folder / "cases.json").write_text("[1")

    with pytest.raises(DatasetError, match=r"cases\.json"):
        prepare(files.folder, tmp_path, contract=contract)


def test_no_prepared_cases_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dlild-export phantom"):
        prepared_files(tmp_path)


@examples(25)
@given(
    order=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    spacing=st.tuples(*[st.floats(2.0, 7.0)] * 3),
    seed=st.integers(0, 99),
)
def test_turning_a_scan_round_leaves_its_labels_as_they_were(
    contract: Contract,
    order: list[int],
    signs: tuple[int, int, int],
    spacing: tuple[float, float, float],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 5, IGNORE], (4, 5, 3)).astype(np.uint8)
    labels = coarse.repeat(4, 0).repeat(3, 1).repeat(5, 2)
    upright = Volume(np.zeros(labels.shape, np.int16), spacing, (10.0, -20.0, 30.0))
    flips = tuple(slice(None, None, s) for s in signs)

    turned_labels = labels[flips].transpose(order)
    first = [0 if s > 0 else n - 1 for s, n in zip(signs, labels.shape, strict=True)]
    direction = np.asarray(upright.direction) * np.array(signs)
    turned = Volume(
        np.zeros(turned_labels.shape, np.int16),
        tuple(np.array(spacing)[order]),
        tuple(upright.points_mm(first)),
        tuple(map(tuple, direction[:, order])),
    )

    np.testing.assert_array_equal(
        labels_to_grid(turned, turned_labels, contract), labels_to_grid(upright, labels, contract)
    )


def test_a_resampled_voxel_gets_its_largest_class(contract: Contract) -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[:, :, 4:] = 2
    labels[:, :, 10:] = IGNORE
    volume = Volume(np.zeros(labels.shape, np.int16), (5.0, 5.0, 4.0))

    on_grid = labels_to_grid(volume, labels, contract)

    # 12 voxels of 4 mm become 10 of 5 mm, centred: borders at 15 and 39 mm of 48, less 1 mm.
    assert on_grid.shape == (12, 12, 10)
    np.testing.assert_array_equal(on_grid[6, 6], [0, 0, 0, 2, 2, 2, 2, 2, IGNORE, IGNORE])


def test_files_are_recognised_by_content_not_by_folder(
    files: Any, contract: Contract, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (path, _) = prepare(files.folder, out, contract=contract)
    before = path.stat().st_mtime_ns
    elsewhere = tmp_path / "moved"
    shutil.move(files.folder, elsewhere)

    prepare(elsewhere, out, contract=contract)

    assert path.stat().st_mtime_ns == before
    os.utime(elsewhere / "imagesTr" / "a_0000.nii.gz")
    prepare(elsewhere, out, contract=contract)
    assert path.stat().st_mtime_ns != before
