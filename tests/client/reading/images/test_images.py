from __future__ import annotations

import zipfile
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from client.writers import write_image

from dlild_client.errors import (
    GeometryError,
    NoSeriesError,
    NotCTError,
    NotHUError,
    TooFewSlicesError,
    TooLargeError,
    UnreadableFileError,
)
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.reading.survey import survey_series


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha"])
def test_a_volume_comes_back_from_a_file(tmp_path, chest, name):
    placed = replace(chest, origin_mm=(-100.0, -80.0, 40.0))
    write_image(placed, tmp_path / name)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, chest.array)
    assert volume.spacing_mm == pytest.approx(chest.spacing_mm)
    assert volume.origin_mm == pytest.approx(placed.origin_mm)
    np.testing.assert_allclose(volume.direction, chest.direction, atol=1e-6)
    assert volume.series.source == "image"
    assert volume.flags == ("thick_slices", "spacing_far_from_training")


def test_a_nifti_and_its_dicom_give_the_same_grid(tmp_path, chest, series_writer, contract):
    from_dicom = read_volume(series_writer.write(chest))
    flipped = sitk.Flip(_image(from_dicom), [True, True, False])
    sitk.WriteImage(flipped, str(tmp_path / "scan.nii.gz"))
    from_nifti = read_volume(tmp_path / "scan.nii.gz")
    a, b = to_grid(from_dicom, contract), to_grid(from_nifti, contract)
    np.testing.assert_allclose(a.origin_mm, b.origin_mm, atol=1e-3)
    assert np.abs(a.array.astype(int) - b.array).max() <= 1


@pytest.mark.parametrize("name", ["pair.hdr", "PAIR.IMG"])
def test_a_pair_of_files_is_distinguished_from_what_is_no_image(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(348))
    with pytest.raises(
        UnreadableFileError, match=rf"{name}: a pair of .hdr and .img .* one .nii file"
    ):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["scan.tar.gz", "scan.7z", "scan.RAR"])
def test_archives_that_are_not_read_are_reported(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b" + bytes(400))
    with pytest.raises(
        UnreadableFileError, match=rf"{name}: of archives only .zip is read; unpack it"
    ):
        read_volume(tmp_path / name)


def test_an_archive_of_image_files_is_to_be_unpacked(tmp_path, chest):
    write_image(chest, tmp_path / "scan.nii")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.write(tmp_path / "scan.nii", "scan.nii")
    with pytest.raises(
        NoSeriesError, match=r"scan\.zip: no DICOM image in this archive; unpack it"
    ):
        read_volume(tmp_path / "scan.zip")
    assert "unpack it" in str(survey_series(tmp_path / "scan.zip").error)


@pytest.mark.parametrize(("step", "told"), [(2.0, None), (4.0, False), (10.0, True)])
def test_wide_steps_of_an_image_may_be_gaps(tmp_path, chest, step, told):
    count = max(10, round(240 / step))
    array = np.repeat(chest.array, -(-count // len(chest.array)), axis=0)[:count]
    write_image(replace(chest, array=array, spacing_mm=(step, 2.0, 2.0)), tmp_path / "scan.nii")
    flags = {str(flag): flag for flag in read_volume(tmp_path / "scan.nii").flags}
    assert ("thick_slices" in flags) is (told is not None)
    if told is not None:
        assert "thickness_mm" not in flags["thick_slices"].values
        assert ("gaps may lie between the slices" in flags["thick_slices"].text) is told


def _image(volume):
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm)
    return image


def test_nan_outside_the_field_of_view_is_air(tmp_path, chest):
    array = chest.array.astype(np.float32)
    array[:, 0] = np.nan
    write_image(replace(chest, array=array), tmp_path / "scan.nrrd")
    assert np.all(read_volume(tmp_path / "scan.nrrd").array[:, 0] == -1024)


def test_files_that_are_no_chest_ct_are_refused(tmp_path, chest):
    def write(name, array, spacing=chest.spacing_mm):
        write_image(replace(chest, array=array, spacing_mm=spacing), tmp_path / name)
        return tmp_path / name

    with pytest.raises(NotHUError, match="values from 0 to 5"):
        read_volume(write("mask.nii", (chest.array > 0).astype(np.int16) * 5))
    with pytest.raises(TooFewSlicesError, match="over 20 mm"):
        read_volume(write("thin.nii", chest.array, (20 / 60, 3, 3)))
    with pytest.raises(GeometryError, match="cannot be right"):
        read_volume(write("huge.nii", chest.array, (30, 3, 3)))
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a gzip")
    with pytest.raises(UnreadableFileError, match=r"broken\.nii\.gz"):
        read_volume(broken)
    colours = sitk.GetImageFromArray(np.zeros((12, 12, 12, 3), dtype=np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "rgb.nrrd"))
    with pytest.raises(NotCTError, match=r"3 value\(s\)"):
        read_volume(tmp_path / "rgb.nrrd")
    four = sitk.GetImageFromArray(np.zeros((2, 12, 12, 12), dtype=np.int16), isVector=False)
    sitk.WriteImage(four, str(tmp_path / "time.nii"))
    with pytest.raises(NotCTError, match="4 dimensions"):
        read_volume(tmp_path / "time.nii")


def test_one_moment_of_four_dimensions_is_a_volume(tmp_path, chest):
    image = sitk.GetImageFromArray(chest.array[None], isVector=False)
    image.SetSpacing((*chest.spacing_mm[::-1], 1.0))
    sitk.WriteImage(image, str(tmp_path / "one.nii.gz"))
    volume = read_volume(tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(volume.array, chest.array)
    assert volume.spacing_mm == pytest.approx(chest.spacing_mm)


def test_a_constant_outside_the_field_of_view_is_air(tmp_path, chest):
    array = chest.array.copy()
    _, y, x = np.indices(array.shape)
    outside = ((y - 44.5) / 45) ** 2 + ((x - 59.5) / 60) ** 2 > 1
    array[outside] = 0
    write_image(replace(chest, array=array), tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    assert np.all(volume.array[outside] == -1024)
    np.testing.assert_array_equal(volume.array[~outside], chest.array[~outside])
    assert next(f for f in volume.flags if f == "padding_found").values == {"hu": 0}


def test_a_header_that_asks_for_too_much_is_refused_unread(tmp_path):
    (tmp_path / "huge.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 20000 20000 20000\nElementType = MET_SHORT\n"
        "ElementSpacing = 1 1 1\nElementDataFile = huge.raw\n"
    )
    (tmp_path / "huge.raw").write_bytes(b"")
    with pytest.raises(TooLargeError, match="20000 x 20000 x 20000 voxels"):
        read_volume(tmp_path / "huge.mhd")


def test_sheared_axes_are_read_as_they_are(tmp_path, chest):
    write_image(chest, tmp_path / "scan.nii")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    content[252:256] = (0).to_bytes(2, "little") + (1).to_bytes(2, "little")  # sform counts
    rows = np.array([[3, 1.5, 0, 0], [0, 3, 0, 0], [0, 0, 4, 0]], dtype="<f4")
    content[280:328] = rows.tobytes()
    (tmp_path / "scan.nii").write_bytes(content)
    volume = read_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume.array, chest.array)
    steps = np.asarray(volume.direction) * volume.spacing_mm
    # NIfTI's x and y run against those of DICOM.
    np.testing.assert_allclose(steps[:, ::-1], rows[:, :3] * [[-1], [-1], [1]])


@pytest.mark.parametrize("share", [0.4, 0.9, 0.999])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, chest, name, share):
    path = tmp_path / name
    write_image(chest, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableFileError, match=name):
        read_volume(path)
