from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from dlild_client.reading.dicom.protocol import judge_breath, judge_posture
from dlild_client.reading.dicom.values import Numbers
from dlild_client.reading.read import read_volume
from dlild_client.reading.survey import survey_series


def change(**tags):
    return lambda ds, i: [setattr(ds, name, value) for name, value in tags.items()] and None


def add(folder, **tags):
    """Add an object like the fifth slice under the same series UID."""
    ds = pydicom.dcmread(sorted(folder.iterdir())[5])
    ds.SOPInstanceUID, ds.InstanceNumber = generate_uid(), 999
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.save_as(folder / "other.dcm")


CORONAL = [1, 0, 0, 0, 0, -1]


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"},
        {"Modality": "RTSTRUCT"},
        {"ImageType": ["DERIVED", "SECONDARY", "MIP"], "ImageOrientationPatient": CORONAL},
        {"ImageOrientationPatient": CORONAL},
        {"ImageOrientationPatient": CORONAL, "PixelSpacing": [0.5, 0.5]},
    ],
    ids=str,
)
def test_what_is_no_slice_is_left_out_with_a_flag(series_writer, scan, tags):
    folder = series_writer.write(scan)
    add(folder, **tags)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert {"other_objects_dropped", "several_acquisitions"} & set(volume.flags)
    assert survey_series(folder).chosen.images == len(scan.array)


@pytest.mark.parametrize(
    "tags",
    [
        {"AcquisitionNumber": 9, "SOPInstanceUID": "1.2.3"},
        {"SeriesNumber": 9},
        {"SliceThickness": 8.0},
        {"LossyImageCompression": "01"},
        {},
    ],
    ids=str,
)
def test_a_second_stack_under_the_same_uid_is_parted(series_writer, scan, tags):
    """It may differ in one thing only, be it the instance numbers."""
    uid = {"SOPInstanceUID": "1.2.3"} if "AcquisitionNumber" in tags else {}

    def second(ds, i):
        ds.SeriesInstanceUID, ds.InstanceNumber = "1.2.9", 101 + i
        change(**tags)(ds, i)

    series_writer.write(scan, "ct/a", change(AcquisitionNumber=1, SeriesInstanceUID="1.2.9", **uid))
    series_writer.write(scan.with_array(scan.array + 1), "ct/b", second)
    volume = read_volume(series_writer.folder / "ct")
    np.testing.assert_array_equal(volume.array, scan.array)
    flag = "lossy_copies_dropped" if "LossyImageCompression" in tags else "several_acquisitions"
    assert flag in volume.flags


def test_slices_with_a_series_uid_each_are_one_scan(series_writer, scan):
    def edit(ds, i):
        ds.SeriesInstanceUID = f"1.2.{i + 1}"

    path = series_writer.write(scan, edit=edit)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert next(f for f in volume.flags if f == "series_joined").values == {"series": 30}
    assert survey_series(path).chosen.images == 30


def test_secondary_captures_with_the_geometry_of_a_ct_are_read_with_a_flag(series_writer, scan):
    path = series_writer.write(scan, edit=change(SOPClassUID=SecondaryCaptureImageStorage))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert "secondary_capture_scored" in volume.flags


def test_an_id_in_another_case_and_an_empty_modality_do_not_part_a_series(series_writer, scan):
    def edit(ds, i):
        ds.PatientID = "secret-id " if i % 2 else "SECRET-ID"
        ds.Modality = ""

    assert read_volume(series_writer.write(scan, edit=edit)).shape == scan.shape


def test_a_table_of_contents_under_another_name_is_not_unreadable(series_writer, scan, tmp_path):
    from client.writers import write_medium  # noqa: PLC0415

    medium = write_medium(series_writer.write(scan), tmp_path / "medium").parent
    (medium / "DICOMDIR").rename(medium / "DIRFILE")
    volume = read_volume(medium)
    assert volume.shape == scan.shape
    assert "unreadable_files" not in volume.flags


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"SeriesDescription": "HRCT in exspiratione"}, {"SeriesDescription": "HRCT insp"}),
        ({"PatientPosition": "FFP"}, {"PatientPosition": "FFS"}),
        ({"ProtocolName": "Thorax Bauchlage"}, {"PatientPosition": "HFS"}),
    ],
)
def test_expiration_and_prone_rank_lower_and_are_flagged_alone(series_writer, scan, worse, better):
    place = series_writer.folder / "study"
    series_writer.write(scan, "study/a", change(**worse, SeriesNumber=1))
    series_writer.write(scan.with_array(scan.array - 1), "study/b", change(**better))
    assert survey_series(place).chosen.number == 3
    alone = read_volume(place, series="1")
    assert {"expiration_likely", "not_supine"} & set(alone.flags)


@pytest.mark.parametrize(
    ("text", "breath", "posture"),
    [
        ("Thorax EXP 1mm", "expiration", ""), ("呼气", "expiration", ""), ("俯卧", "", "prone"),
        ("procubito", "", "prone"), ("Insp/Exp", "", ""), ("Exposure, respiratory gated", "", ""),
        ("not prone", "", ""), ("выдох, на животе", "expiration", "prone"),
    ],
)  # fmt: skip
def test_descriptions_in_many_languages(text, breath, posture):
    assert (judge_breath([text]), judge_posture([text], "")) == (breath, posture)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,78125\\0,78125", (0.78125, 0.78125)), ("0.78 mm\\0.78mm", (0.78, 0.78)),
        ("[0.78, 0.78]", (0.78, 0.78)), ("1,250\\1,250", (1.25, 1.25)), ("1,2", None),
        ("0.78 inch\\0.78 inch", None), ("abc\\1", None),
    ],
)  # fmt: skip
def test_numbers_are_read_where_one_reading_is_possible(text, values):
    ds = pydicom.Dataset()
    ds.add_new("PixelSpacing", "UT", text)
    numbers = Numbers()
    assert numbers.several(ds, "PixelSpacing", 2, "mm") == values
    assert (values is None) == ("PixelSpacing" in numbers.unreadable)


def test_a_comma_that_may_be_one_between_thousands_is_not_guessed():
    ds = pydicom.Dataset()
    ds.add_new("RescaleIntercept", "UT", "-1,024")
    assert Numbers().one(ds, "RescaleIntercept", "HU") is None
    ds.add_new("PixelSpacing", "UT", "0.7\\0.7")
    assert Numbers().one(ds, "RescaleIntercept", "HU") == -1024
