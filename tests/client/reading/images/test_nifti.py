"""Whole NIfTI files are told from those that ITK reads without a word though they are not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.errors import UnreadableFileError
from dlild_client.reading.images.nifti import survey


def write(path: Path, array: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=True)
    return path


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("kind", ["int16", "uint8", "float32", "float64"])
def test_a_whole_file(tmp_path: Path, name: str, kind: str) -> None:
    path = write(tmp_path / name, np.zeros((4, 5, 6), kind))

    assert survey(path).shape == (6, 5, 4)
    assert survey(path).not_finite == 0


def test_nan_and_infinity_are_counted(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[1, 2], array[3, 0, 0] = np.nan, -np.inf

    assert survey(write(tmp_path / "x.nii.gz", array)).not_finite == 7


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("nifti")
    array = np.random.default_rng(0).integers(-1000, 400, (6, 7, 8)).astype(np.int16)
    return {name: write(folder / name, array).read_bytes() for name in ("x.nii", "x.nii.gz")}


@given(share=st.floats(0, 0.999), packed=st.booleans())
def test_no_file_that_is_cut_short_passes(
    contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, share: float, packed: bool
) -> None:
    name = "x.nii.gz" if packed else "x.nii"
    path = tmp_path_factory.getbasetemp() / f"cut-{name}"
    whole = contents[name]
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(UnreadableFileError, match=f"cut-{name}"):
        survey(path)


@given(place=st.integers(10, 10_000), bit=st.integers(0, 7))
def test_no_packed_file_with_a_wrong_bit_passes(
    contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    content = bytearray(contents["x.nii.gz"])
    content[10 + place % (len(content) - 10)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "bit.nii.gz"
    path.write_bytes(content)

    with pytest.raises(UnreadableFileError):
        survey(path)
