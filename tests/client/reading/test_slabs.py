"""Scans that are too large to be held: read slab by slab, they are what they are if held."""

from __future__ import annotations

import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from client.writers import transcode, write_image, zip_up
from pydicom.uid import RLELossless

from dlild_client import slabs
from dlild_client.errors import MissingSlicesError, NotHUError, TooLargeError, UnreadableFileError
from dlild_client.preparation.grid import to_grid
from dlild_client.reading import assemble, survey
from dlild_client.reading.dicom import decode
from dlild_client.reading.images import read, voxeldata
from dlild_client.reading.read import read_volume
from dlild_client.results.nifti import write_nifti
from dlild_client.slabs import Slabs
from dlild_client.volume import Volume

CONTAINERS = ["nii", "nii.gz", "nrrd", "mha", "dicom", "zip", "rle"]


@pytest.fixture
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that make a large scan of a small one."""
    for module in (read, assemble):
        monkeypatch.setattr(module, "HELD_VOXELS", 0)
    monkeypatch.setattr(slabs, "PIECE_VOXELS", 25_000)  # two slices and a bit
    monkeypatch.setattr(voxeldata, "_SNAPSHOT_BYTES", 70_000)
    monkeypatch.setattr(voxeldata, "_CHUNK", 10_000)


@pytest.fixture
def noisy(chest: Volume) -> Volume:
    rng = np.random.default_rng(5)
    noise = rng.integers(-30, 30, chest.shape).astype(np.int16)
    return replace(chest, array=chest.array + noise, origin_mm=(-150.0, -130.0, -300.0))


def write(volume: Volume, name: str, tmp_path: Path, series_writer) -> Path:
    if name in {"dicom", "zip", "rle"}:
        folder = series_writer.write(volume)
        if name == "zip":
            return zip_up(folder, tmp_path / "scan.zip")
        if name == "rle":
            for path in folder.iterdir():
                transcode(path, RLELossless)
        return folder
    return write_image(volume, tmp_path / f"scan.{name}")


def both(path: Path, request: pytest.FixtureRequest) -> tuple[Volume, Volume]:
    held = read_volume(path)
    request.getfixturevalue("nothing_held")
    return held, read_volume(path)


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_same_in_any_container(noisy, tmp_path, series_writer, contract, request, name):
    held, slabbed = both(write(noisy, name, tmp_path, series_writer), request)
    assert isinstance(held.array, np.ndarray)
    assert isinstance(slabbed.array, Slabs)
    assert slabbed.shape == held.shape
    assert slabbed.series == held.series  # the digest, too
    assert slabbed.flags == held.flags
    np.testing.assert_array_equal(np.asarray(slabbed.array), held.array)
    a, b = to_grid(held, contract), to_grid(slabbed, contract)
    np.testing.assert_array_equal(a.array, b.array)
    assert a.origin_mm == b.origin_mm


@pytest.mark.parametrize("orientation", ["RAI", "LPI", "SRP", "ASL", "IPR"])
def test_the_same_with_axes_in_any_order(noisy, tmp_path, contract, request, orientation):
    image = sitk.GetImageFromArray(noisy.array)
    image.SetSpacing(noisy.spacing_mm[::-1])
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path), useCompression=True)
    held, slabbed = both(path, request)
    assert slabbed.flags == held.flags
    assert slabbed.series == held.series
    # Sums in another order: a voxel may be rounded the other way.
    difference = to_grid(held, contract).array.astype(int) - to_grid(slabbed, contract).array
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) < 0.001 * difference.size


def test_the_same_with_oblique_axes(noisy, tmp_path, contract, request):
    turn = np.radians(10)
    sine, cosine = np.sin(turn), np.cos(turn)
    tilted = np.array([[0, 0, 1], [sine, cosine, 0], [cosine, -sine, 0]])
    write_nifti(replace(noisy, direction=tilted), tmp_path / "scan.nii.gz")
    held, slabbed = both(tmp_path / "scan.nii.gz", request)
    np.testing.assert_array_equal(to_grid(held, contract).array, to_grid(slabbed, contract).array)


@pytest.mark.parametrize("name", ["nii.gz", "dicom"])
def test_padding_is_found_and_cleared(noisy, tmp_path, series_writer, request, name):
    _, y, x = np.indices(noisy.shape)
    outside = ((y - 44.5) / 45) ** 2 + ((x - 59.5) / 60) ** 2 > 1
    array = np.where(outside, 0, noisy.array).astype(np.int16)
    path = write(noisy.with_array(array), name, tmp_path, series_writer)
    held, slabbed = both(path, request)
    assert "padding_found" in held.flags
    assert slabbed.flags == held.flags
    assert slabbed.series == held.series
    np.testing.assert_array_equal(np.asarray(slabbed.array), held.array)


@pytest.mark.usefixtures("nothing_held")
def test_what_is_refused_if_held_is_refused(noisy, tmp_path):
    blank = noisy.array.copy()
    blank[30] = -1000
    with pytest.raises(MissingSlicesError, match="1 slice holds no picture"):
        read_volume(write_image(noisy.with_array(blank), tmp_path / "blank.mha"))
    with pytest.raises(NotHUError, match="are not the HU of a chest"):
        read_volume(write_image(noisy.with_array(noisy.array // 100), tmp_path / "scaled.nrrd"))
    write_nifti(noisy, tmp_path / "whole.nii.gz")
    content = bytearray((tmp_path / "whole.nii.gz").read_bytes())
    content[-6] ^= 1  # in the checksum
    (tmp_path / "sum.nii.gz").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"sum\.nii\.gz: cut short or corrupt"):
        read_volume(tmp_path / "sum.nii.gz")


@pytest.mark.usefixtures("nothing_held")
def test_a_file_that_changes_before_it_is_resampled_is_an_error(noisy, tmp_path, contract):
    write_nifti(noisy, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    (tmp_path / "scan.nii").write_bytes(b"")
    with pytest.raises(UnreadableFileError, match=r"scan\.nii: cut short"):
        to_grid(volume, contract)
    (tmp_path / "scan.nii").unlink()
    with pytest.raises(UnreadableFileError, match=r"scan\.nii: No such file"):
        to_grid(volume, contract)


@pytest.mark.parametrize("packed", [False, True])
def test_memory_does_not_grow_with_the_scan(chest_maker, tmp_path, contract, monkeypatch, packed):
    """What is allocated at most stays well under the scan itself, 33 MB."""
    chest = chest_maker((240, 280, 250), (1.0, 1.0, 1.0))
    write_nifti(chest, tmp_path / "scan.nii")
    if packed:
        content = gzip.compress((tmp_path / "scan.nii").read_bytes(), 1)
        (tmp_path / "scan.nii").write_bytes(content)
    del chest
    monkeypatch.setattr(read, "HELD_VOXELS", 0)
    monkeypatch.setattr(slabs, "PIECE_VOXELS", 1 << 18)
    tracemalloc.start()
    try:
        grid = to_grid(read_volume(tmp_path / "scan.nii"), contract)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert grid.shape == (160, 187, 167)
    assert peak - grid.array.nbytes < 20e6


def test_an_array_is_given_where_one_is_wanted_and_nothing_else(noisy, tmp_path, request):
    write_nifti(noisy, tmp_path / "scan.nii")
    held, slabbed = both(tmp_path / "scan.nii", request)
    assert (slabbed.array.ndim, slabbed.array.size) == (3, held.array.size)
    np.testing.assert_array_equal(np.asarray(slabbed.array[10:20], float), held.array[10:20])
    with pytest.raises(TypeError, match="one slice after the other"):
        slabbed.array[::2]


@pytest.mark.parametrize("name", ["nii", "nii.gz", "nrrd", "mha", "dicom", "zip"])
def test_the_survey_says_what_reading_says_of_too_large_scans(
    noisy, tmp_path, series_writer, monkeypatch, name
):
    path = write(noisy, name, tmp_path, series_writer)
    monkeypatch.setattr(decode, "MAXIMUM_VOXELS", noisy.array.size - 1)
    told = r"120 x 90 x 60 voxels are more than 1 million"
    with pytest.raises(TooLargeError, match=told) as raised:
        read_volume(path)
    if name in {"dicom", "zip"}:
        found = survey.survey_series(path)
        assert found.chosen is None
        assert found.series[0].error == "TooLarge"
        assert isinstance(found.error, TooLargeError)
        assert str(raised.value).endswith(str(found.error))
    else:
        with pytest.raises(TooLargeError, match=told):
            survey.survey_series(path)


def test_the_same_with_slices_in_uneven_steps(noisy, series_writer, contract, request):
    def edit(ds, i):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, z + (2.0 if i > 30 else 0.0)]

    held, slabbed = both(series_writer.write(noisy, edit=edit), request)
    assert held.slice_positions_mm is not None
    assert slabbed.slice_positions_mm == held.slice_positions_mm
    np.testing.assert_array_equal(to_grid(held, contract).array, to_grid(slabbed, contract).array)
