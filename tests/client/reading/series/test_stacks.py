from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from dlild_client.errors import (
    GeometryError,
    InputError,
    IrregularSpacingError,
    MissingGeometryError,
    MissingSlicesError,
    MixedOrientationError,
    MixedShapeError,
    NotCTError,
    RepeatedPositionError,
    TooFewSlicesError,
)
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.assemble import read_dicom
from dlild_client.reading.read import read_volume
from dlild_client.reading.series.candidates import SeriesRules
from dlild_client.reading.series.geometry import Tolerances
from dlild_client.volume import Volume


def test_a_tilted_gantry_is_corrected_with_a_flag(series_writer, contract):
    angle = np.radians(12)
    z, y, x = np.meshgrid(
        np.arange(60) * 3.0, np.arange(100) * 2.0, np.arange(90) * 2.0, indexing="ij"
    )
    # Rows lean: their patient z grows with y. A ball in the patient, seen by the tilted slices.
    py, pz = y * np.cos(angle), z + y * np.sin(angle)
    ball = (x - 90) ** 2 + (py - 100) ** 2 + (pz - 110) ** 2 < 40**2
    scan = Volume(np.where(ball, 0, -1000).astype(np.int16), (3.0, 2.0, 2.0))
    row = (1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle)))
    volume = read_dicom(series_writer.write(scan, orientation=row))
    assert "gantry_tilt_corrected" in volume.flags
    assert volume.spacing_mm[0] == pytest.approx(3.0, abs=1e-3)
    grid = to_grid(volume, contract)
    share = np.clip((grid.array.astype(float) + 1000) / 1000, 0, None)
    middle = np.array([np.average(i, weights=share) for i in np.indices(grid.shape)])
    np.testing.assert_allclose(
        grid.points_mm(middle), [-150 + 90, -130 + 100, -300 + 110], atol=0.5
    )
    assert share.sum() * 3.375 == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.02)


def test_rounded_positions_are_even_enough(series_writer, scan):
    def edit(ds, i):
        ds.ImagePositionPatient[2] = round(-300 + 0.625 * 6.4 * i, 1)

    assert read_dicom(series_writer.write(scan, edit=edit)).shape == scan.shape


def leave_out(*gone):
    return lambda ds, i: i not in gone


def test_missing_slices_are_counted(series_writer, scan):
    with pytest.raises(
        MissingSlicesError, match=r"2 slices are missing: the step is 4.00 mm, but 12.00"
    ):
        read_dicom(series_writer.write(scan, edit=leave_out(10, 11)))


def test_uneven_steps_are_reported_in_mm(series_writer, scan):
    def edit(ds, i):
        ds.ImagePositionPatient[2] += 2.5 if i >= 15 else 0

    volume = read_dicom(series_writer.write(scan, edit=edit))
    flag = next(f for f in volume.flags if f == "uneven_steps")
    assert flag.values["steps"] == "4 mm x 28, 6.5 mm x 1"
    np.testing.assert_allclose(np.diff(volume.slice_positions_mm), [4] * 14 + [6.5] + [4] * 14)


def test_a_scan_that_drifts_sideways_is_refused(series_writer, scan):
    def edit(ds, i):
        ds.ImagePositionPatient[0] += 15 if i == 7 else 0

    with pytest.raises(GeometryError, match="sideways"):
        read_dicom(series_writer.write(scan, edit=edit))


def test_two_orientations_in_one_series_are_refused(series_writer, scan):
    def edit(ds, i):
        if i % 5 == 0:
            ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    with pytest.raises(MixedOrientationError, match=r"2 orientations, 90\.0°"):
        read_dicom(series_writer.write(scan, edit=edit))


def test_two_pixel_spacings_in_one_series_are_refused(series_writer, scan):
    def edit(ds, i):
        if i == 4:
            ds.PixelSpacing = [2.1, 3.0]

    with pytest.raises(MixedShapeError, match=r"\[2\.0, 3\.0\] and \[2\.1, 3\.0\]"):
        read_dicom(series_writer.write(scan, edit=edit))


def test_the_same_image_twice_is_dropped_with_a_flag(series_writer, scan):
    folder = series_writer.write(scan)
    one = sorted(folder.iterdir())[5]
    (folder / "copy.dcm").write_bytes(one.read_bytes())
    volume = read_dicom(folder)
    assert volume.shape == scan.shape
    assert "repeated_slices_dropped" in volume.flags


def test_different_images_at_one_position_are_refused(series_writer, scan, pixel_setter):
    folder = series_writer.write(scan)
    ds = pydicom.dcmread(sorted(folder.iterdir())[5])
    ds.SOPInstanceUID = generate_uid()
    pixel_setter(ds, ds.pixel_array + 1)
    ds.save_as(folder / "other.dcm")
    with pytest.raises(RepeatedPositionError, match="31 images share 30 position"):
        read_dicom(folder)


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_missing_geometry_is_named(series_writer, scan, tag):
    def edit(ds, i):
        if i == 3:
            delattr(ds, tag)

    with pytest.raises(MissingGeometryError, match=r"-3\.dcm: no (image|pixel)"):
        read_dicom(series_writer.write(scan, edit=edit))


@pytest.mark.parametrize(
    ("folder", "kind", "words"),
    [
        ("gantrytilting/001", TooFewSlicesError, "4 slices over 19 mm"),
        ("notavolume/001", RepeatedPositionError, "4 images share 1 position"),
        ("slicecount/001", NotCTError, r"MR, not CT \(2 images\)"),
        ("sliceincrement/001", IrregularSpacingError, "5.00 to 10.00 mm"),
        (
            "sliceincrement/002",
            MissingSlicesError,
            "1 slice is missing: the step is 0.75 mm, but 1.50",
        ),
        ("sliceorientation/001", NotCTError, "4 images in 2 orientations"),
    ],
)
def test_every_real_fault_has_its_own_error(shared_data, folder, kind, words):
    with pytest.raises(InputError, match=words) as error:
        read_volume(shared_data / "dicom-faults" / folder)
    assert type(error.value) is kind


def test_a_real_tilt_is_corrected_where_slices_suffice(shared_data):
    rules = SeriesRules(minimum_slices=4, minimum_coverage_mm=10)
    volume = read_dicom(shared_data / "dicom-faults" / "gantrytilting" / "001", rules)
    assert "gantry_tilt_corrected" in volume.flags
    assert volume.spacing_mm[0] == pytest.approx(5.0)
    assert volume.direction[2][0] == pytest.approx(1.0)


def by(name):
    """Bend a series so that every second slice is another acquisition at the position before."""

    def edit(ds, i):
        ds.ImagePositionPatient[2] = -300 + 8.0 * (i // 2)
        setattr(ds, name, {"ConvolutionKernel": "B30f" if i % 2 else "B70f"}.get(name, 1 + i % 2))

    return edit


@pytest.mark.parametrize(
    "name", ["AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel"]
)
def test_two_acquisitions_in_one_series_are_parted_with_a_flag(series_writer, scan, name):
    volume = read_dicom(series_writer.write(scan, edit=by(name)))
    np.testing.assert_array_equal(volume.array, scan.array[::2])
    flag = next(f for f in volume.flags if f == "several_acquisitions")
    assert flag.values["acquisitions"] == 2


def test_two_acquisitions_that_nothing_distinguishes_are_refused(series_writer, scan):
    with pytest.raises(RepeatedPositionError, match="30 images share 15 position"):
        read_dicom(series_writer.write(scan, edit=by("SliceLocation")))


def test_a_second_acquisition_that_is_no_volume_is_left_out(series_writer, scan):
    def edit(ds, i):
        ds.AcquisitionNumber = 2 if i == 29 else 1
        if i == 29:
            ds.ImagePositionPatient[2] = -300

    volume = read_dicom(series_writer.write(scan, edit=edit))
    assert volume.shape[0] == 29
    assert "several_acquisitions" in volume.flags


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PixelSpacing", [0.0, 0.0], "cannot be right"),
        ("PixelSpacing", [-1.0, 1.0], "cannot be right"),
        ("PixelSpacing", [1.0], "no pixel spacing"),
        ("ImagePositionPatient", ["", "", ""], "no image position"),
        ("ImagePositionPatient", [1e9, 0, 0], "cannot be right"),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0], "unit vectors"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "not square"),
    ],
)
def test_numbers_that_are_no_geometry_are_named(series_writer, scan, name, value, words):
    def edit(ds, i):
        if i == 3:
            setattr(ds, name, value)

    with pytest.raises(MissingGeometryError, match=words):
        read_dicom(series_writer.write(scan, edit=edit))


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "abc", ""])
def test_text_instead_of_a_position_is_a_missing_one(series_writer, scan, text):
    folder = series_writer.write(scan)
    path = sorted(folder.iterdir())[3]
    ds = pydicom.dcmread(path)
    old = f"{ds.ImagePositionPatient[2]}".encode()
    content = path.read_bytes()
    assert content.count(b"\\" + old) == 1
    path.write_bytes(
        content.replace(b"\\" + old, b"\\" + text.encode().ljust(len(old))[: len(old)])
    )
    with pytest.raises(MissingGeometryError, match="no image position"):
        read_dicom(folder)


def test_two_sizes_in_one_series_are_refused(series_writer, scan, pixel_setter):
    def edit(ds, i):
        if i == 4:
            ds.Rows = 12
            pixel_setter(ds, scan.array[i, :12])

    with pytest.raises(MixedShapeError, match="12 x 20 and 24 x 20"):
        read_dicom(series_writer.write(scan, edit=edit))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda ds, i: setattr(ds, "InstanceNumber", 30 - i), None),
        (lambda ds, i: setattr(ds, "InstanceNumber", 1), None),
        (lambda ds, i: setattr(ds, "SOPInstanceUID", "1.2.3"), None),
        (lambda ds, i: setattr(ds, "SliceLocation", 0), None),
        (lambda ds, i: setattr(ds, "SpacingBetweenSlices", -4), None),
        (lambda ds, i: setattr(ds, "FrameOfReferenceUID", f"1.2.{i}"), None),
        (lambda ds, i: setattr(ds, "SliceThickness", 1.0), "gaps_between_slices"),
        (lambda ds, i: setattr(ds, "SliceThickness", None), None),
    ],
)
def test_tags_that_say_something_else_do_not_move_the_slices(series_writer, scan, change, kind):
    volume = read_dicom(series_writer.write(scan, edit=change))
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.spacing_mm == pytest.approx(scan.spacing_mm)
    assert kind is None or kind in volume.flags


def test_tolerances_are_parameters(series_writer, scan):
    def edit(ds, i):
        ds.ImagePositionPatient[2] += 0.5 * (i % 2)

    folder = series_writer.write(scan, edit=edit)
    assert read_dicom(folder).slice_positions_mm is not None
    rules = SeriesRules(tolerances=Tolerances(step_mm=1.1))
    assert read_dicom(folder, rules).slice_positions_mm is None
    with pytest.raises(IrregularSpacingError, match=r"a gap of 4\.50 mm .* at most 4 mm"):
        read_dicom(folder, SeriesRules(tolerances=Tolerances(gap_mm=4.0)))


def _two_acquisitions(series_writer, first, second, shift_mm):
    """One series of two acquisitions; the second begins higher."""

    def edit(acquisition, start_mm):
        def change(ds, i):
            ds.SeriesInstanceUID, ds.AcquisitionNumber = "1.2.3", acquisition
            ds.ImagePositionPatient = [-150, -130, start_mm + 4 * i]
            ds.InstanceNumber = 100 * acquisition + i

        return change

    series_writer.write(second, "ct/second", edit(2, -300 + shift_mm))
    return series_writer.write(first, "ct", edit(1, -300))


def test_acquisitions_between_each_other_s_slices_are_distinguished(series_writer, scan, chest):
    """Of a chest and a shorter acquisition, as multi-phase scans are archived."""
    whole = Volume(chest.array[:, :24, :20], scan.spacing_mm)
    volume = read_volume(_two_acquisitions(series_writer, scan, whole, 61.5))
    np.testing.assert_array_equal(volume.array, whole.array)
    flag = next(f for f in volume.flags if f == "several_acquisitions")
    assert flag.values == {"acquisitions": 2, "scored": 2}


@pytest.mark.parametrize("shift_mm", [61.5, 125.5], ids=["overlapping", "behind"])
def test_parts_of_a_chest_are_not_taken_for_the_whole(series_writer, scan, shift_mm):
    with pytest.raises(IrregularSpacingError):
        read_volume(_two_acquisitions(series_writer, scan, scan, shift_mm))
