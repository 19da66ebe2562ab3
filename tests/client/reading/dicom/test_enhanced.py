from __future__ import annotations

import copy

import numpy as np
import pydicom
import pytest
from client.writers import write_enhanced, write_medium, zip_up
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless, RLELossless

from dlild_client.errors import InputError, MissingGeometryError, MissingSlicesError, NotCTError
from dlild_client.reading.dicom.headers import read_header
from dlild_client.reading.dicom.hu import read_hu
from dlild_client.reading.read import read_volume
from dlild_client.reading.sources import FileSource
from dlild_client.reading.survey import survey_series
from dlild_client.volume import Volume


def same(volume, straight):
    np.testing.assert_array_equal(volume.array, straight.array)
    assert volume.spacing_mm == pytest.approx(straight.spacing_mm)
    assert volume.origin_mm == pytest.approx(straight.origin_mm)
    assert volume.direction == straight.direction
    assert volume.series.kernel == straight.series.kernel
    return True


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("uid", [None, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("turned", [False, True])
def test_an_enhanced_object_is_the_series_it_was_made_of(
    series_writer, scan, tmp_path, per_frame, uid, turned
):
    folder = series_writer.write(scan)
    path = write_enhanced(
        folder, tmp_path / "one.dcm", uid=uid, per_frame=per_frame,
        order=(lambda n: -n) if turned else (lambda n: (n * 7) % 31),
    )  # fmt: skip
    assert same(read_volume(path), read_volume(folder))


def test_an_enhanced_object_in_a_folder_an_archive_or_on_a_medium(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    (tmp_path / "study").mkdir()
    write_enhanced(folder, tmp_path / "study" / "one.dcm")
    straight = read_volume(folder)
    for place in (
        tmp_path / "study",
        zip_up(tmp_path / "study", tmp_path / "study.zip"),
        write_medium(tmp_path / "study", tmp_path / "medium"),
    ):
        assert same(read_volume(place), straight)


def test_rescale_may_differ_from_frame_to_frame(series_writer, scan, tmp_path, pixel_setter):
    def edit(ds, i):
        ds.RescaleIntercept = -i
        pixel_setter(ds, scan.array[i] + i)

    path = write_enhanced(
        series_writer.write(scan, edit=edit), tmp_path / "one.dcm", per_frame=True
    )
    np.testing.assert_array_equal(read_volume(path).array, scan.array)


def test_a_missing_frame_and_a_frame_without_position_are_noticed(series_writer, scan, tmp_path):
    folder = series_writer.write(scan, edit=lambda ds, i: i != 9)
    with pytest.raises(MissingSlicesError, match="1 slice is missing"):
        read_volume(write_enhanced(folder, tmp_path / "gap.dcm"))
    path = write_enhanced(series_writer.write(scan, "whole"), tmp_path / "one.dcm")
    ds = pydicom.dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence
    ds.save_as(path)
    with pytest.raises(MissingGeometryError, match=r"one\.dcm"):
        read_volume(path)


def test_two_phases_in_one_object_are_parted(series_writer, scan, tmp_path):
    def edit(ds, i):
        ds.AcquisitionNumber = 1 + i % 2
        ds.ImagePositionPatient[2] = -300 + 8.0 * (i // 2)

    volume = read_volume(
        write_enhanced(series_writer.write(scan, edit=edit), tmp_path / "phases.dcm")
    )
    np.testing.assert_array_equal(volume.array, scan.array[::2])
    assert "several_acquisitions" in volume.flags


def test_frames_without_functional_groups_are_no_geometry(series_writer, scan, tmp_path):
    path = write_enhanced(series_writer.write(scan), tmp_path / "bare.dcm")
    ds = pydicom.dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence, ds.SharedFunctionalGroupsSequence
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.save_as(path)
    with pytest.raises(MissingGeometryError, match="30 frames in one file without positions"):
        read_volume(path)


@pytest.mark.parametrize("frames", [0, -3, 29, 31, 10**9])
def test_a_number_of_frames_that_does_not_fit_is_refused(series_writer, scan, tmp_path, frames):
    path = write_enhanced(series_writer.write(scan), tmp_path / "one.dcm")
    ds = pydicom.dcmread(path)
    ds.NumberOfFrames = frames
    ds.save_as(path)
    with pytest.raises(InputError, match=r"one\.dcm"):
        read_volume(path)


def test_a_map_of_perfusion_is_no_ct(series_writer, scan, tmp_path):
    path = write_enhanced(series_writer.write(scan), tmp_path / "map.dcm")
    ds = pydicom.dcmread(path)
    kind = Dataset()
    kind.FrameType = ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]
    ds.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [kind]
    ds.save_as(path)
    with pytest.raises(NotCTError, match=r"map \(PERFUSION/RCBF"):
        read_volume(path)


# Real files


def test_real_enhanced_objects_decode_like_their_uncompressed_twin(shared_data):
    def hu(path):
        out = np.empty((2, 512, 512), dtype=np.int16)
        for header in read_header(FileSource(path)):
            read_hu(header, out[header.frame])
        return out

    folder = shared_data / "enhanced-ct"
    truth = hu(folder / "CT0012.explicit_little_endian.dcm")
    # 0 to 1196 stored, and -1024 as the functional groups say; nothing at the top level does.
    assert (truth.min(), truth.max()) == (-1024, 172)
    for path in sorted(folder.iterdir()):
        np.testing.assert_array_equal(hu(path), truth)


def test_real_enhanced_maps_are_set_aside_by_name(shared_data):
    for path in sorted((shared_data / "enhanced-ct").iterdir()):
        with pytest.raises(NotCTError, match="PERFUSION/RCBF") as error:
            read_volume(path)
        assert path.name in str(error.value)
        assert survey_series(path).series[0].images == 2


def test_a_second_stack_across_the_first_is_distinguished(series_writer, scan, chest, tmp_path):
    """One object with a chest, and a few coronal slices of it."""
    whole = Volume(chest.array[:, :24, :20], scan.spacing_mm)
    path = write_enhanced(series_writer.write(whole), tmp_path / "two.dcm", per_frame=True)
    ds = pydicom.dcmread(path)
    across = copy.deepcopy(list(ds.PerFrameFunctionalGroupsSequence[:6]))
    for i, frame in enumerate(across):
        frame.FrameContentSequence[0].StackID = "2"
        frame.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-150, 4 * i, -200]
    ds.PerFrameFunctionalGroupsSequence = [*ds.PerFrameFunctionalGroupsSequence, *across]
    ds.NumberOfFrames = len(ds.PerFrameFunctionalGroupsSequence)
    ds.PixelData += ds.PixelData[: 6 * whole.array[0].nbytes]
    ds.save_as(path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, whole.array)
    assert "several_acquisitions" in volume.flags
