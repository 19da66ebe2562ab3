"""Every fault of a dataset, injected into real files, is found and named by check and prepare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dlild_client.contract import Contract
from dlild_export.data.check import check_dataset
from dlild_export.data.faults import DatasetError, Kind
from dlild_export.data.prepare import prepare

IMAGE, LABEL = "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"


def cut_short(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def twice(files: Any) -> None:
    """The scan again: in another file, other labels, other compression."""
    scan = sitk.ReadImage(str(files.image("a")))
    sitk.WriteImage(scan, str(files.image("b")), useCompression=True, compressionLevel=1)
    shutil.copy(files.label("a"), files.label("b"))


def with_nan(hu: np.ndarray) -> np.ndarray:
    spoilt = hu.astype(np.float32)
    spoilt[3:6] = np.nan
    return spoilt


def in_the_liver(labels: np.ndarray) -> np.ndarray:
    spoilt = labels.copy()
    _, y, x = (n // 2 for n in labels.shape)
    spoilt[1:4, y : y + 4, x : x + 4] = 5
    return spoilt


def exchanged(files: Any) -> None:
    names = json.loads((files.folder / "dataset.json").read_text())["labels"]
    names["lung"], names["ground_glass"] = names["ground_glass"], names["lung"]
    files.describe(labels=names)


def moved(move: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda f: f.move(f.label(), move)


def image(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    return lambda f: f.edit(f.image(), change)


def label(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    return lambda f: f.edit(f.label(), change)


def both(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    return lambda f: (f.edit(f.image(), change), f.edit(f.label(), change))[0]


FAULTS: list[tuple[str, Callable[[Any], None], Kind, str, str]] = [
    # what is done, how, and the kind, the file and the words of the fault that must be found
    ("image cut short", lambda f: cut_short(f.image()), Kind.UNREADABLE, IMAGE, "cut short"),
    ("image corrupt", lambda f: flip_a_bit(f.image()), Kind.UNREADABLE, IMAGE, "corrupt"),
    ("image empty", lambda f: f.image().write_bytes(b""), Kind.UNREADABLE, IMAGE, "NIfTI"),
    ("image is text", lambda f: f.image().write_text("x" * 999), Kind.UNREADABLE, IMAGE, "NIfTI"),
    ("labels cut short", lambda f: cut_short(f.label()), Kind.UNREADABLE, LABEL, "cut short"),
    ("NaN", image(with_nan), Kind.NOT_FINITE, IMAGE, "voxels are NaN or infinite"),
    ("NaN labels", label(with_nan), Kind.NOT_FINITE, LABEL, "NaN"),
    (
        "grey values",
        image(lambda h: ((h.clip(-1000, 600) + 1000.0) / 1600 * 255).astype(np.uint8)),
        Kind.NOT_HU,
        IMAGE,
        "not the HU",
    ),
    (
        "0 to 1",
        image(lambda h: ((h + 1024.0) / 3072).astype(np.float32)),
        Kind.NOT_HU,
        IMAGE,
        "not the HU",
    ),
    ("z-score", image(lambda h: (h - h.mean()) / h.std()), Kind.NOT_HU, IMAGE, "not the HU"),
    ("offset", image(lambda h: (h + 1024).astype(np.uint16)), Kind.NOT_HU, IMAGE, "not the HU"),
    (
        "offset behind padding",
        image(lambda h: np.where(np.indices(h.shape)[2] < 2, -2000, h + 1024)),
        Kind.NOT_HU,
        IMAGE,
        "no lungs, or values that are not HU",
    ),
    (
        "tissue too dense",
        image(lambda h: np.where(h > -300, h + 600, h)),
        Kind.NOT_HU,
        IMAGE,
        "soft tissue has a median of",
    ),
    ("shape", label(lambda v: v[:-1]), Kind.GEOMETRY, LABEL, "but the image has"),
    ("spacing", moved(lambda i: i.SetSpacing((5, 5, 5.1))), Kind.GEOMETRY, LABEL, "spacing (5.1"),
    ("origin", moved(lambda i: i.SetOrigin((0, 0, 9))), Kind.GEOMETRY, LABEL, "origin (0, 0, 9)"),
    (
        "direction",
        moved(lambda i: i.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))),
        Kind.GEOMETRY,
        LABEL,
        "direction",
    ),
    (
        "unknown value",
        label(lambda v: np.where(v == 4, 9, v).astype(np.uint8)),
        Kind.UNKNOWN_LABEL,
        LABEL,
        "value 9, but dataset.json has 0 (background), 1 (lung)",
    ),
    (
        "halves",
        label(lambda v: np.where(v == 4, 3.5, v).astype(np.float32)),
        Kind.NOT_A_LABEL,
        LABEL,
        "no whole numbers, such as 3.5",
    ),
    ("empty mask", label(np.zeros_like), Kind.EMPTY, LABEL, "an empty mask"),
    (
        "lesions only",
        label(lambda v: np.where(v == 1, 0, v).astype(np.uint8)),
        Kind.MISPLACED,
        LABEL,
        "of the lung that the image shows",
    ),
    ("names exchanged", exchanged, Kind.MISPLACED, LABEL, "are the names exchanged?"),
    (
        "consolidation in air",
        label(lambda v: np.where(v == 5, 1, np.where(v == 1, 5, v)).astype(np.uint8)),
        Kind.MISPLACED,
        LABEL,
        "which is aerated",
    ),
    ("left and right", label(lambda v: v[:, :, ::-1]), Kind.FLIPPED, LABEL, "left to right"),
    ("front and back", label(lambda v: v[:, ::-1]), Kind.FLIPPED, LABEL, "front to back"),
    ("up and down", label(lambda v: v[::-1]), Kind.FLIPPED, LABEL, "upside down"),
    ("scan on its head", both(lambda v: v[::-1]), Kind.FLIPPED, IMAGE, "upside down"),
    ("scan on its face", both(lambda v: v[:, ::-1]), Kind.FLIPPED, IMAGE, "the spine lies"),
    ("lesion in the liver", label(in_the_liver), Kind.LESION_OUTSIDE, LABEL, "mm from any lung"),
    (
        "four dimensions",
        image(lambda h: np.stack([h, h])),
        Kind.NOT_A_CHEST,
        IMAGE,
        "not one grey 3D image",
    ),
    ("too few slices", both(lambda v: v[:8]), Kind.NOT_A_CHEST, IMAGE, "10 slices"),
    ("same scan twice", twice, Kind.DUPLICATE, "imagesTr/b_0000.nii.gz", "same scan"),
    ("no labels", lambda f: f.label().unlink(), Kind.PAIR, IMAGE, "an image without labels"),
    ("no image", lambda f: f.image().unlink(), Kind.PAIR, LABEL, "labels without an image"),
    (
        "unknown name",
        lambda f: f.describe(labels={"background": 0, "lung": 1, "emphysema": 2}),
        Kind.UNKNOWN_LABEL,
        "dataset.json",
        "'emphysema' is none of",
    ),
]


def test_a_clean_dataset_has_no_fault(clean: Path, contract: Contract) -> None:
    report = check_dataset(clean, contract)

    assert report.faults == ()
    first = report.cases[0]
    assert first.dl_ild_percent == pytest.approx(30, abs=0.1)
    assert first.class_ml["lung"] > 1000
    assert json.loads(report.to_json())["clean"] is True


@pytest.mark.parametrize(
    ("spoil", "kind", "where", "words"),
    [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS],
)
def test_a_fault_is_found_and_refused(
    files: Any,
    contract: Contract,
    tmp_path: Path,
    spoil: Callable[[Any], None],
    kind: Kind,
    where: str,
    words: str,
) -> None:
    if spoil is not twice:
        files.drop("b")  # a second case only takes time
    spoil(files)

    report = check_dataset(files.folder, contract)

    found = [f for f in report.faults if f.kind is kind and f.where == where]
    assert found, report.faults
    assert any(words in f.reason for f in found), found
    with pytest.raises(DatasetError) as refused:
        prepare(files.folder, tmp_path / "out", contract=contract)
    assert set(found) <= set(refused.value.faults)


def test_all_faults_are_listed_at_once(files: Any, contract: Contract) -> None:
    cut_short(files.image("a"))
    files.edit(files.label("a"), lambda v: np.full_like(v, 9))
    files.edit(files.image("b"), with_nan)
    files.move(files.label("b"), lambda i: i.SetOrigin((0, 0, 0)))
    (files.folder / "imagesTr" / "c_0000.nii.gz").write_bytes(b"")

    report = check_dataset(files.folder, contract)

    assert {(f.kind, f.case) for f in report.faults} == {
        (Kind.UNREADABLE, "a"),
        (Kind.UNKNOWN_LABEL, "a"),
        (Kind.NOT_FINITE, "b"),
        (Kind.PAIR, "c"),
        (Kind.DATASET, None),  # numTraining
    }


def test_test_images_must_not_be_training_images(files: Any, contract: Contract) -> None:
    (files.folder / "imagesTs").mkdir()
    shutil.copy(files.image("b"), files.folder / "imagesTs" / "z_0000.nii.gz")

    (fault,) = check_dataset(files.folder, contract).faults

    assert fault.kind is Kind.STRADDLING
    assert fault.where == "imagesTs/z_0000.nii.gz"
    assert "training case b" in fault.reason


def test_what_is_to_be_ignored_is_no_fault(files: Any, contract: Contract) -> None:
    names = json.loads((files.folder / "dataset.json").read_text())["labels"]
    files.describe(labels=names | {"ignore": 9})
    files.edit(files.label(), lambda v: np.where(v == 4, 9, v).astype(np.uint8))

    report = check_dataset(files.folder, contract)

    assert report.faults == ()
    assert report.cases[0].class_ml["ignore"] > 0
    assert report.cases[0].class_ml["honeycombing"] == 0


def test_classes_that_nobody_has_are_noted(files: Any, contract: Contract) -> None:
    for name in ("a", "b"):
        files.edit(files.label(name), lambda v: np.where(v == 4, 3, v).astype(np.uint8))

    report = check_dataset(files.folder, contract)

    assert report.faults == ()
    assert any("no case has honeycombing" in note for note in report.notes)


def test_groups_are_asked_for(files: Any, contract: Contract) -> None:
    assert not any("groups.csv" in note for note in check_dataset(files.folder, contract).notes)

    (files.folder / "groups.csv").unlink()

    assert any("groups.csv" in note for note in check_dataset(files.folder, contract).notes)


def test_processes_find_the_same(files: Any, contract: Contract) -> None:
    cut_short(files.image("a"))

    alone = check_dataset(files.folder, contract)
    together = check_dataset(files.folder, contract, workers=2)

    assert together == alone
