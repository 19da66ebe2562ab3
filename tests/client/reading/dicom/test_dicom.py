from __future__ import annotations

import io
import re
import warnings
from dataclasses import asdict, replace

import numpy as np
import pydicom
import pytest

from dlild_client.errors import (
    InputError,
    MissingSlicesError,
    NoSeriesError,
    TooFewSlicesError,
    UnreadableFileError,
)
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.assemble import read_dicom
from dlild_client.reading.read import read_volume


def test_a_series_becomes_the_volume_it_was_written_from(series_writer, scan):
    volume = read_dicom(series_writer.write(scan))
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.spacing_mm == pytest.approx(scan.spacing_mm)
    assert volume.origin_mm == pytest.approx((-150, -130, -300))
    assert volume.direction == scan.direction
    assert volume.flags == ("thick_slices", "spacing_far_from_training")
    assert volume.series.slices == 30
    assert volume.series.image_shape == (24, 20)
    assert volume.series.kernel == "B60f"


def test_nothing_of_the_patient_gets_into_the_volume(series_writer, scan):
    volume = read_dicom(series_writer.write(scan, name="SECRET-FOLDER"))
    told = str(asdict(volume.series)) + str(volume.flags)
    assert "SECRET" not in told
    assert series_writer.study not in told


def test_feet_first_and_reversed_rows_give_the_same_grid(series_writer, scan, contract):
    straight = read_dicom(series_writer.write(scan))
    upside_down = replace(scan, array=scan.array[::-1, ::-1, ::-1])
    ends = [-150 + 19 * 3.0, -130 + 23 * 2.0, -300 + 29 * 4.0]

    def edit(ds, i):
        ds.ImagePositionPatient = [ends[0], ends[1], ends[2] - 4.0 * i]

    turned = read_dicom(
        series_writer.write(upside_down, "turned", edit, orientation=(-1, 0, 0, 0, -1, 0))
    )
    a, b = to_grid(straight, contract), to_grid(turned, contract)
    np.testing.assert_array_equal(a.array, b.array)
    np.testing.assert_allclose(a.origin_mm, b.origin_mm)


def test_slices_between_other_files_are_found(series_writer, scan):
    folder = series_writer.write(scan, "deep/er")
    (folder / "notes.txt").write_text("no slice")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "lies.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    volume = read_volume(folder.parent)
    assert volume.shape == scan.shape
    # What looks like DICOM and is none is never passed over in silence.
    flag = next(f for f in volume.flags if f == "unreadable_files")
    assert flag.values == {"files": 2}


def test_a_bare_data_set_without_preamble_is_read(series_writer, scan):
    folder = series_writer.write(scan)
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        with path.open("wb") as file:
            buffer = io.BytesIO()
            ds.save_as(buffer, enforce_file_format=True)
            file.write(buffer.getvalue()[132:])
    np.testing.assert_array_equal(read_dicom(folder).array, scan.array)


def test_a_broken_slice_is_named_with_its_transfer_syntax(series_writer, scan):
    folder = series_writer.write(scan)
    path = sorted(folder.iterdir())[8]
    ds = pydicom.dcmread(path)
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(path)
    with pytest.raises(UnreadableFileError, match="Explicit VR Little Endian") as error:
        read_dicom(folder)
    assert path.name in str(error.value)
    assert str(folder) not in str(error.value)


def test_one_file_of_a_series_says_to_give_the_folder(series_writer, scan):
    path = sorted(series_writer.write(scan).iterdir())[0]
    with pytest.raises(TooFewSlicesError, match="give the folder"):
        read_volume(path)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "empty").mkdir()
    text = tmp_path / "letter.txt"
    text.write_text("Dear all")
    with pytest.raises(NoSeriesError, match="empty"):
        read_volume(tmp_path / "empty")
    with pytest.raises(NoSeriesError, match="no DICOM image"):
        read_volume(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"letter\.txt"):
        read_volume(text)
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_volume(tmp_path / "absent")


def test_a_real_scan_is_read_whole(shared_data):
    volume = read_volume(shared_data / "lidc-idri-0314" / "dicom")
    assert volume.shape == (275, 512, 512)
    assert volume.spacing_mm == pytest.approx((1.0, 0.78125, 0.78125))
    assert volume.flags == ()
    assert (volume.array.min(), volume.array.max()) == (-1000, 1979)
    assert volume.series.manufacturer == "Philips"
    # The trachea is air in the upper slices, whatever end the scan began with.
    assert volume.direction[2][0] == 1


def test_a_file_cut_off_within_its_pixels_is_named(series_writer, scan):
    folder = series_writer.write(scan)
    path = sorted(folder.iterdir())[8]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFileError, match="copy or export it again") as error:
        read_dicom(folder)
    assert path.name in str(error.value)


def test_an_unreadable_slice_is_named_beside_the_gap_it_leaves(series_writer, scan):
    folder = series_writer.write(scan)
    path = sorted(folder.iterdir())[8]
    path.write_bytes(path.read_bytes()[:140])
    with pytest.raises(
        MissingSlicesError, match=re.escape(f"cannot be read, the first {path.name}")
    ):
        read_dicom(folder)


def test_warnings_of_pydicom_and_what_they_quote_stay_inside(series_writer, scan, caplog, recwarn):
    def edit(ds, i):
        ds.Manufacturer = "SECRET" * 20  # longer than its type allows

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = series_writer.write(scan, edit=edit)
    with pytest.warns(UserWarning, match="64"):
        _ = pydicom.dcmread(next(folder.iterdir())).Manufacturer
    filters = list(warnings.filters)
    recwarn.clear()
    caplog.clear()
    read_volume(folder)
    assert not recwarn.list
    assert not caplog.text
    assert warnings.filters == filters


@pytest.mark.parametrize("rows", [0, 4097, 65535])
def test_slices_of_impossible_size_are_refused_before_anything_is_allocated(
    series_writer, scan, rows
):
    def edit(ds, i):
        ds.Rows = rows

    with pytest.raises(InputError, match=f"{rows} x 20|no pixel data"):
        read_dicom(series_writer.write(scan, edit=edit))
