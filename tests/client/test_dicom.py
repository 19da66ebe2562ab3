from __future__ import annotations

import io
import re
from dataclasses import asdict, replace

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage, generate_uid

from dlild_client.dicom import read_dicom
from dlild_client.errors import (
    DlildError,
    GeometryError,
    InputError,
    IrregularSpacing,
    MissingGeometry,
    MissingSlices,
    MixedOrientation,
    MixedShape,
    NoSeries,
    NotCT,
    NotHU,
    RepeatedPosition,
    SeveralStudies,
    TooFewSlices,
    UnreadableFile,
)
from dlild_client.grid import to_grid
from dlild_client.headers import read_header
from dlild_client.read import read_volume
from dlild_client.series import SeriesRules
from dlild_client.volume import Volume


@pytest.fixture(scope="module")
def scan() -> Volume:
    """Thirty small slices of 4 mm; no two sides of it are alike."""
    rng = np.random.default_rng(3)
    array = rng.integers(-1000, 500, (30, 24, 20)).astype(np.int16)
    return Volume(array, (4.0, 2.0, 3.0))


def test_a_series_becomes_the_volume_it_was_written_from(series_writer, scan):
    volume = read_dicom(series_writer.write(scan))
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.spacing_mm == pytest.approx(scan.spacing_mm)
    assert volume.origin_mm == pytest.approx((-150, -130, -300))
    assert volume.direction == scan.direction
    assert volume.flags == ("thick_slices",)
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


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom on a broken header
def test_slices_between_other_files_are_found(series_writer, scan):
    folder = series_writer.write(scan, "deep/er")
    (folder / "notes.txt").write_text("no slice")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "lies.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert read_volume(folder.parent).shape == scan.shape


def test_a_bare_data_set_without_preamble_is_read(series_writer, scan):
    folder = series_writer.write(scan)
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        with path.open("wb") as file:
            buffer = io.BytesIO()
            ds.save_as(buffer, enforce_file_format=True)
            file.write(buffer.getvalue()[132:])
    np.testing.assert_array_equal(read_dicom(folder).array, scan.array)


def test_rescale_of_each_slice_counts(series_writer, scan, pixel_setter):
    def edit(ds, i):
        ds.RescaleIntercept = -10 * i
        ds.RescaleSlope = 2 if i % 2 else 1
        even = scan.array[i] // 2 * 2
        pixel_setter(ds, (even + 10 * i) // ds.RescaleSlope)

    volume = read_dicom(series_writer.write(scan, edit=edit))
    np.testing.assert_allclose(volume.array, scan.array // 2 * 2, atol=2)
    assert np.all(volume.array[::2] == scan.array[::2] // 2 * 2)


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, 0])
def test_padding_becomes_air_but_not_inside_the_body(series_writer, scan, pixel_setter, padding):
    def edit(ds, i):
        values = scan.array[i].copy()
        values[:, :3] = values[:, -2:] = padding
        values[:, 3] = values[:, -3] = 77
        values[10, 10] = padding
        ds.PixelPaddingValue = padding
        ds["PixelPaddingValue"].VR = "SS"
        pixel_setter(ds, values)

    volume = read_dicom(series_writer.write(scan, edit=edit))
    assert np.all(volume.array[:, :, :3] == -1024)
    assert np.all(volume.array[:, :, -2:] == -1024)
    assert np.all(volume.array[:, 10, 10] == max(padding, -1024))
    np.testing.assert_array_equal(volume.array[:, :9, 4:-3], scan.array[:, :9, 4:-3])


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
        MissingSlices, match=r"2 slices are missing: the step is 4.00 mm, but 12.00"
    ):
        read_dicom(series_writer.write(scan, edit=leave_out(10, 11)))


def test_uneven_steps_are_told_in_mm(series_writer, scan):
    def edit(ds, i):
        ds.ImagePositionPatient[2] += 2.5 if i >= 15 else 0

    with pytest.raises(IrregularSpacing, match=r"steps from 4.00 to 6.50 mm"):
        read_dicom(series_writer.write(scan, edit=edit))


def test_a_scan_that_drifts_sideways_is_refused(series_writer, scan):
    def edit(ds, i):
        ds.ImagePositionPatient[0] += 15 if i == 7 else 0

    with pytest.raises(GeometryError, match="sideways"):
        read_dicom(series_writer.write(scan, edit=edit))


def test_two_orientations_in_one_series_are_refused(series_writer, scan):
    def edit(ds, i):
        if i % 5 == 0:
            ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    with pytest.raises(MixedOrientation, match=r"2 orientations, 90\.0°"):
        read_dicom(series_writer.write(scan, edit=edit))


def test_two_pixel_spacings_in_one_series_are_refused(series_writer, scan):
    def edit(ds, i):
        if i == 4:
            ds.PixelSpacing = [2.1, 3.0]

    with pytest.raises(MixedShape, match=r"\[2\.0, 3\.0\] and \[2\.1, 3\.0\]"):
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
    with pytest.raises(RepeatedPosition, match="31 images share 30 position"):
        read_dicom(folder)


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_missing_geometry_is_named(series_writer, scan, tag):
    def edit(ds, i):
        if i == 3:
            delattr(ds, tag)

    with pytest.raises(MissingGeometry, match=r"-3\.dcm: no (image|pixel)"):
        read_dicom(series_writer.write(scan, edit=edit))


@pytest.mark.parametrize(
    "edit",
    [
        lambda ds, i: delattr(ds, "RescaleSlope"),
        lambda ds, i: setattr(ds, "RescaleSlope", 0),
        lambda ds, i: setattr(ds, "RescaleType", "OD"),
        lambda ds, i: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"),
    ],
)
def test_values_that_are_no_hu_are_refused(series_writer, scan, edit):
    with pytest.raises(NotHU):
        read_dicom(series_writer.write(scan, edit=edit))


def mr(ds, i):
    ds.Modality, ds.SOPClassUID = "MR", MRImageStorage


def localizer(ds, i):
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def capture(ds, i):
    ds.SOPClassUID = SecondaryCaptureImageStorage


def projection(ds, i):
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "MIP"]


def coronal(ds, i):
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [0, 4.0 * i, 0]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (mr, "MR, not CT"),
        (localizer, "localizer"),
        (capture, "capture"),
        (projection, "MIP"),
        (coronal, "coronal"),
    ],
)
def test_what_is_no_axial_ct_is_refused_alone_and_set_aside_in_company(
    series_writer, scan, edit, words
):
    with pytest.raises(NotCT, match=words):
        read_dicom(series_writer.write(scan, "study/other", edit))
    series_writer.write(replace(scan, array=scan.array[:28]), "study/ct")
    volume = read_dicom(series_writer.folder / "study")
    assert volume.shape[0] == 28
    assert volume.series.series_found == 2


def test_a_localizer_image_inside_the_series_is_left_out(series_writer, scan):
    def edit(ds, i):
        if i == 29:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    volume = read_dicom(series_writer.write(scan, edit=edit))
    assert volume.shape[0] == 29
    assert "localizer_images_dropped" in volume.flags


def test_the_series_that_covers_the_chest_in_thin_slices_is_chosen(series_writer, scan):
    series_writer.write(replace(scan, array=scan.array[:26]), "study/a-short")
    thick = Volume(scan.array[::2], (8.0, 2.0, 3.0))
    series_writer.write(thick, "study/b-thick")
    series_writer.write(scan, "study/c-best")
    assert read_dicom(series_writer.folder / "study").shape[0] == 30


def test_a_faulty_series_beside_a_good_one_leaves_a_flag(series_writer, scan):
    series_writer.write(scan, "study/a", edit=leave_out(4))
    series_writer.write(replace(scan, array=scan.array[:27]), "study/b")
    volume = read_dicom(series_writer.folder / "study")
    assert volume.shape[0] == 27
    assert "other_series_with_faulty_geometry" in volume.flags


def test_two_studies_in_one_folder_are_refused(series_writer, scan):
    series_writer.write(scan, "both/a")
    series_writer.study = generate_uid()
    series_writer.write(scan, "both/b")
    with pytest.raises(SeveralStudies, match="2 different studies"):
        read_dicom(series_writer.folder / "both")


def test_too_little_of_a_chest_is_refused_with_the_numbers(series_writer, scan):
    with pytest.raises(TooFewSlices, match="9 slices over 36 mm"):
        read_dicom(series_writer.write(replace(scan, array=scan.array[:9]), "few"))
    with pytest.raises(TooFewSlices, match="20 slices over 80 mm"):
        read_dicom(series_writer.write(replace(scan, array=scan.array[:20]), "short"))
    with pytest.raises(TooFewSlices, match="one CT slice only"):
        read_dicom(series_writer.write(replace(scan, array=scan.array[:1]), "one"))
    rules = SeriesRules(minimum_slices=5, minimum_coverage_mm=30)
    assert read_dicom(series_writer.folder / "few", rules).shape[0] == 9


def test_eight_millimetre_slices_of_a_chest_are_enough(series_writer, scan):
    volume = read_dicom(series_writer.write(Volume(scan.array, (8.0, 2.0, 3.0))))
    assert volume.spacing_mm[0] == 8.0


def test_a_broken_slice_is_named_with_its_transfer_syntax(series_writer, scan):
    folder = series_writer.write(scan)
    path = sorted(folder.iterdir())[8]
    ds = pydicom.dcmread(path)
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(path)
    with pytest.raises(UnreadableFile, match="Explicit VR Little Endian") as error:
        read_dicom(folder)
    assert path.name in str(error.value)
    assert str(folder) not in str(error.value)


def test_one_file_of_a_series_says_to_give_the_folder(series_writer, scan):
    path = sorted(series_writer.write(scan).iterdir())[0]
    with pytest.raises(TooFewSlices, match="give the folder"):
        read_volume(path)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "empty").mkdir()
    text = tmp_path / "letter.txt"
    text.write_text("Dear all")
    with pytest.raises(NoSeries, match="empty"):
        read_volume(tmp_path / "empty")
    with pytest.raises(NoSeries, match="no DICOM image"):
        read_volume(tmp_path)
    with pytest.raises(UnreadableFile, match=r"letter\.txt"):
        read_volume(text)
    with pytest.raises(UnreadableFile, match="no such file"):
        read_volume(tmp_path / "absent")


@pytest.fixture(scope="module")
def header_bytes(tmp_path_factory, scan) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset  # noqa: PLC0415

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.Modality, ds.ImageType, ds.SeriesInstanceUID = "CT", ["ORIGINAL", "PRIMARY"], "1.2.3"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.Rows, ds.Columns, ds.BitsAllocated = [1, 1], 4, 4, 16
    ds.RescaleSlope, ds.RescaleIntercept, ds.NumberOfFrames = 1, -1024, 1
    ds.PixelData = b"\0" * 32
    path = tmp_path_factory.mktemp("header") / "one.dcm"
    ds.save_as(path, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return b"\0" * 128 + b"DICM" + path.read_bytes().removeprefix(b"\0" * 128 + b"DICM")


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom on broken headers
@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_mutated_file_raises_nothing_but_the_tree(tmp_path, header_bytes, data):
    content = bytearray(header_bytes)
    for place in data.draw(st.lists(st.integers(132, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutant.dcm"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with pytest.raises(DlildError):
        read_volume(path)


# Real files


def test_a_real_scan_is_read_whole(shared_data):
    volume = read_volume(shared_data / "lidc-idri-0314" / "dicom")
    assert volume.shape == (275, 512, 512)
    assert volume.spacing_mm == pytest.approx((1.0, 0.78125, 0.78125))
    assert volume.flags == ()
    assert (volume.array.min(), volume.array.max()) == (-1000, 1979)
    assert volume.series.manufacturer == "Philips"
    # The trachea is air in the upper slices, whatever end the scan began with.
    assert volume.direction[2][0] == 1


@pytest.mark.parametrize(
    ("folder", "kind", "words"),
    [
        ("gantrytilting/001", TooFewSlices, "4 slices over 19 mm"),
        ("notavolume/001", RepeatedPosition, "4 images share 1 position"),
        ("slicecount/001", NotCT, r"MR, not CT \(2 images\)"),
        ("sliceincrement/001", IrregularSpacing, "5.00 to 10.00 mm"),
        ("sliceincrement/002", MissingSlices, "1 slice is missing: the step is 0.75 mm, but 1.50"),
        ("sliceorientation/001", NotCT, "4 images in 2 orientations"),
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


def test_transfer_syntaxes_decode_alike_or_are_refused_by_name(ct_slices):
    from dlild_client.dicom import _slice_hu  # noqa: PLC0415

    truth = _slice_hu(read_header(ct_slices / "CTImage.dcm")).astype(int)
    lossless = 0
    # 12-bit lossy JPEG: there is no decoder here whose licence allows it.
    undecodable = {f"1.2.840.10008.1.2.4.{n}" for n in (51, 53, 55)}
    for path in sorted(ct_slices.glob("CTImage.dcm_*")):
        header = read_header(path)
        if header.transfer_syntax in undecodable:
            with pytest.raises(UnreadableFile, match=re.escape(header.transfer_syntax)) as error:
                _slice_hu(header)
            assert path.name in str(error.value)
            continue
        hu = _slice_hu(header)
        lossless += int(np.array_equal(hu, truth))
        assert np.abs(hu - truth).max() <= 64
    assert lossless == 9


def test_an_enhanced_ct_is_refused_by_name(shared_data):
    with pytest.raises(UnreadableFile, match="multi-frame object of 2 frames"):
        read_volume(shared_data / "enhanced-ct" / "CT0012.explicit_little_endian.dcm")
