"""Cases on disk: what is refused, how they are read, how they are split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export.small_cases import case_arrays, write_case, write_cases
from hypothesis import given
from hypothesis import strategies as st

from dlild_export.data.prepare import prepared_files
from dlild_export.training.cases import (
    ArrayCache,
    CaseError,
    TrainingCase,
    load_arrays,
    open_case,
    split,
)


def test_a_case_says_whose_it_is(tmp_path: Path) -> None:
    case = open_case(write_case(tmp_path / "one.npz", case_arrays(0), "somebody"))

    assert (case.name, case.group, case.shape) == ("one", "somebody", (40, 36, 44))


def test_phantoms_without_info_are_their_own_patients(tmp_path: Path) -> None:
    np.savez(tmp_path / "7.npz", spec="{}", **case_arrays(0))

    assert open_case(tmp_path / "7.npz").group == "7"


def test_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    arrays = case_arrays(3)
    fortran = np.asfortranarray(arrays["labels"])
    path = write_case(tmp_path / "one.npz", {"hu": arrays["hu"], "labels": fortran})

    hu, labels = load_arrays(path)

    assert isinstance(hu, np.memmap)
    assert isinstance(labels, np.memmap)
    np.testing.assert_array_equal(hu, arrays["hu"])
    np.testing.assert_array_equal(labels, arrays["labels"])


def test_compressed_cases_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.npz" for seed in range(3)]
    for seed, path in enumerate(paths):
        np.savez_compressed(path, **case_arrays(seed))
    size = sum(array.nbytes for array in case_arrays(0).values())
    cache = ArrayCache(bound_bytes=2.5 * size)

    first = cache.get(paths[0])
    cache.get(paths[1])
    assert cache.get(paths[0])[0] is first[0]
    cache.get(paths[2])  # the second was used longest ago
    assert cache.get(paths[0])[0] is first[0]
    assert len(cache._kept) == 2
    np.testing.assert_array_equal(cache.get(paths[1])[1], case_arrays(1)["labels"])


def _nan(arrays: dict[str, np.ndarray]) -> None:
    arrays["hu"] = arrays["hu"].astype(np.float32)
    arrays["hu"][1, 2, 3] = np.nan


def _label_nine(arrays: dict[str, np.ndarray]) -> None:
    arrays["labels"][0, 0, 0] = 9


def _negative_label(arrays: dict[str, np.ndarray]) -> None:
    arrays["labels"] = arrays["labels"].astype(np.int16)
    arrays["labels"][0, 0, 0] = -1


def _fractions(arrays: dict[str, np.ndarray]) -> None:
    arrays["labels"] = arrays["labels"].astype(np.float32)


def _cut(arrays: dict[str, np.ndarray]) -> None:
    arrays["labels"] = arrays["labels"][:-1]


def _flat(arrays: dict[str, np.ndarray]) -> None:
    arrays["hu"], arrays["labels"] = arrays["hu"][0], arrays["labels"][0]


def _no_air(arrays: dict[str, np.ndarray]) -> None:
    arrays["hu"] = (arrays["hu"] + 1024).astype(np.int16)


def _no_lung(arrays: dict[str, np.ndarray]) -> None:
    arrays["labels"][arrays["labels"] < 255] = 0


def _no_labels(arrays: dict[str, np.ndarray]) -> None:
    del arrays["labels"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_nan, "1 voxels of hu are not finite"),
        (_label_nine, r"labels \[9\] are none"),
        (_negative_label, r"labels \[-1\] are none"),
        (_fractions, "labels float32"),
        (_cut, r"hu has shape \(40, 36, 44\) and labels \(39, 36, 44\)"),
        (_flat, r"must be \(z, y, x\)"),
        (_no_air, "no Hounsfield units"),
        (_no_lung, "no voxel is labelled as lung"),
        (_no_labels, "labels"),
    ],
)
def test_a_bad_case_is_refused_by_name(tmp_path: Path, spoil: object, message: str) -> None:
    arrays = case_arrays(0)
    spoil(arrays)  # type: ignore[operator]
    path = write_case(tmp_path / "bad-one.npz", arrays)

    with pytest.raises(CaseError, match=f"bad-one.npz: .*{message}"):
        open_case(path)


@pytest.mark.parametrize("kept", [0, 10, 100, 50_000, -30])
def test_a_truncated_case_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    path = write_case(tmp_path / "short.npz", case_arrays(0))
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(CaseError, match=r"short\.npz: cannot be read"):
        open_case(path)


def test_info_that_is_no_object_is_refused(tmp_path: Path) -> None:
    for number, info in enumerate(("{", "[1]")):
        path = tmp_path / f"{number}.npz"
        np.savez(path, info=info, **case_arrays(0))
        with pytest.raises(CaseError, match=f"{number}.npz: info is no JSON"):
            open_case(path)


def test_an_empty_folder_says_where_cases_come_from(tmp_path: Path) -> None:
    (tmp_path / "unfinished-3.npz").touch()
    (tmp_path / ".case.part").touch()

    with pytest.raises(FileNotFoundError, match=r"no cases .* dataset.json"):
        prepared_files(tmp_path)


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_cases(tmp_path, 3)

    assert [f.name for f in prepared_files(tmp_path)] == ["case-0.npz", "case-1.npz", "case-2.npz"]


@given(
    groups=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 5),
)
def test_no_patient_is_on_both_sides(groups: list[int], share: float, seed: int) -> None:
    cases = [TrainingCase(Path(f"{i}"), f"{i}", f"{g}", (8, 8, 8)) for i, g in enumerate(groups)]

    learned, held_out = split(cases, share, seed)

    assert learned
    assert sorted(c.name for c in (*learned, *held_out)) == sorted(c.name for c in cases)
    assert not {c.group for c in learned} & {c.group for c in held_out}
    patients = len(set(groups))
    assert abs(len({c.group for c in held_out}) - share * patients) <= 1


def test_a_set_that_grows_keeps_its_split() -> None:
    cases = [TrainingCase(Path(f"{i}"), f"{i}", f"{i}", (8, 8, 8)) for i in range(40)]

    before = {c.name for c in split(cases[:20], 0.2, 0)[1]}
    after = {c.name for c in split(cases, 0.2, 0)[1]}

    order = [c.name for c in split(cases, 0.99, 0)[1]]
    assert len(before) == 4
    assert len(after) == 8
    assert len(order) == 39
