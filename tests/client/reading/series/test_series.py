from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage, generate_uid

from dlild_client.errors import (
    NoSeriesError,
    NotCTError,
    RepeatedPositionError,
    SeveralStudiesError,
    TooFewSlicesError,
)
from dlild_client.reading.assemble import read_dicom
from dlild_client.reading.read import read_volume
from dlild_client.reading.series.candidates import SeriesRules
from dlild_client.reading.series.kernels import Kernel, judge_kernel
from dlild_client.reading.survey import survey_series
from dlild_client.results.files import write_nifti
from dlild_client.volume import Volume


def leave_out(*gone):
    return lambda ds, i: i not in gone


def mr(ds, i):
    ds.Modality, ds.SOPClassUID = "MR", MRImageStorage


def localizer(ds, i):
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def capture(ds, i):
    ds.SOPClassUID = SecondaryCaptureImageStorage
    del ds.ImagePositionPatient, ds.ImageOrientationPatient


def projection(ds, i):
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "MIP"]


def coronal(ds, i):
    ds.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    ds.ImagePositionPatient = [0, 4.0 * i, 0]


def axial_reformat(ds, i):
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "MPR"]


def dose_info(ds, i):
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER", "DOSE_INFO"]


def iodine_map(ds, i):
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL", "IODINE"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (mr, "MR, not CT"),
        (localizer, "localizer"),
        (capture, "capture"),
        (projection, "MIP"),
        (coronal, "coronal reformat"),
        (axial_reformat, "axial reformat.*MPR"),
        (dose_info, "capture"),
        (iodine_map, "map.*IODINE"),
    ],
)
def test_what_is_no_axial_ct_is_refused_alone_and_set_aside_in_company(
    series_writer, scan, edit, words
):
    with pytest.raises(NotCTError, match=words):
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
    with pytest.raises(SeveralStudiesError, match="2 different studies"):
        read_dicom(series_writer.folder / "both")


def test_too_little_of_a_chest_is_refused_with_the_numbers(series_writer, scan):
    with pytest.raises(TooFewSlicesError, match="9 slices over 36 mm"):
        read_dicom(series_writer.write(replace(scan, array=scan.array[:9]), "few"))
    with pytest.raises(TooFewSlicesError, match="20 slices over 80 mm"):
        read_dicom(series_writer.write(replace(scan, array=scan.array[:20]), "short"))
    with pytest.raises(TooFewSlicesError, match="one CT slice only"):
        read_dicom(series_writer.write(replace(scan, array=scan.array[:1]), "one"))
    rules = SeriesRules(minimum_slices=5, minimum_coverage_mm=30)
    assert read_dicom(series_writer.folder / "few", rules).shape[0] == 9


def test_eight_millimetre_slices_of_a_chest_are_enough(series_writer, scan):
    volume = read_dicom(series_writer.write(Volume(scan.array, (8.0, 2.0, 3.0))))
    assert volume.spacing_mm[0] == 8.0


def change(**tags):
    """Make an edit that sets tags."""
    return lambda ds, i: [setattr(ds, name, value) for name, value in tags.items()] and None


RANKED = [
    # The better one first; each differs from it in one thing only.
    ({}, {"BodyPartExamined": "ABDOMEN"}),
    ({"BodyPartExamined": "CHEST"}, {}),
    ({}, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}),
    ({"ConvolutionKernel": "B70f"}, {"ConvolutionKernel": "B40f"}),
    ({"ConvolutionKernel": "B40f"}, {"ConvolutionKernel": "B20f"}),
    ({"ConvolutionKernel": "LUNG"}, {"ConvolutionKernel": "EDGE"}),
    ({}, {"ContrastBolusAgent": "IODINE 300"}),
    ({"SeriesNumber": 2}, {"SeriesNumber": 4}),
]


@pytest.mark.parametrize(("better", "worse"), RANKED)
def test_the_ranking_is_as_documented(series_writer, scan, better, worse):
    series_writer.write(scan, "study/a", change(**worse))
    series_writer.write(scan, "study/b", change(**better))
    survey = survey_series(series_writer.folder / "study")
    uid = pydicom.dcmread(next((series_writer.folder / "study/b").iterdir())).SeriesInstanceUID
    assert survey.error is None
    assert survey.chosen.uid == uid
    assert [s.verdict for s in survey.series] == ["chosen", "lower"]
    assert read_volume(series_writer.folder / "study").series.series_found == 2


def test_thickness_comes_before_kernel_and_both_lungs_before_thickness(series_writer, scan):
    thin = Volume(np.repeat(scan.array, 2, axis=0), (2.0, 2.0, 3.0))
    series_writer.write(thin, "study/thin-soft", change(ConvolutionKernel="B20f"))
    series_writer.write(scan, "study/thick-lung", change(ConvolutionKernel="B70f"))
    assert read_volume(series_writer.folder / "study").shape[0] == 60
    half = Volume(thin.array[:52], (2.0, 2.0, 3.0))
    series_writer.write(half, "half/thin")
    series_writer.write(scan, "half/thick")
    assert read_volume(series_writer.folder / "half").shape[0] == 30


def test_slices_finer_than_the_grid_are_level_and_the_kernel_decides(series_writer, scan):
    fine = Volume(np.repeat(scan.array, 8, axis=0), (0.5, 2.0, 3.0))
    grid = Volume(np.repeat(scan.array, 3, axis=0), (1.4, 2.0, 3.0))
    series_writer.write(fine, "study/fine", change(ConvolutionKernel="B40f"))
    series_writer.write(grid, "study/grid", change(ConvolutionKernel="B60f"))
    assert read_volume(series_writer.folder / "study").shape[0] == 90


def test_images_at_one_position_are_no_series_that_could_be_scored(series_writer, scan):
    """Only their pixels tell that they differ; the survey must not promise what reading refuses."""
    path = series_writer.write(scan, step=(0, 0, 0))
    survey = survey_series(path)
    (summary,) = survey.series
    assert (summary.verdict, summary.error) == ("aside", "RepeatedPosition")
    assert summary.images == len(scan.array)
    assert "30 images share 1 position" in summary.reason
    assert str(survey.error) == summary.reason
    assert survey.chosen is None
    with pytest.raises(RepeatedPositionError):
        read_volume(path)


def test_copies_of_one_image_are_too_few_slices(series_writer, scan):
    still = scan.with_array(np.broadcast_to(scan.array[:1], scan.array.shape))
    survey = survey_series(series_writer.write(still, step=(0, 0, 0)))
    assert [(s.verdict, s.error, s.images) for s in survey.series] == [
        ("aside", "TooFewSlices", 30)
    ]


def test_a_survey_reports_every_series_with_its_reason(series_writer, scan):
    series_writer.write(scan, "study/ct")
    series_writer.write(Volume(scan.array[::2], (8.0, 2.0, 3.0)), "study/thick")
    series_writer.write(scan, "study/mr", mr)
    series_writer.write(scan, "study/gap", leave_out(7))
    series_writer.write(scan, "study/mpr", axial_reformat)
    (series_writer.folder / "study" / "broken.dcm").write_bytes(b"\0" * 200)
    survey = survey_series(series_writer.folder / "study")
    told = [(s.verdict, s.error) for s in survey.series]
    assert told[:2] == [("chosen", ""), ("lower", "")]
    assert sorted(told[2:]) == [("aside", "MissingSlices"), ("aside", "NotCT"), ("aside", "NotCT")]
    assert (
        survey.series[1].reason
        == "ranks lower: thickness 8.0 mm, chosen 4.0 mm; slices 15, chosen 30"
    )
    assert survey.unreadable == 1
    assert all(s.reason and s.uid and s.images for s in survey.series)
    assert "SECRET" not in str(survey)


def test_a_series_that_is_asked_for_is_read_instead_of_the_best(series_writer, scan):
    thick = Volume(scan.array[::2], (8.0, 2.0, 3.0))
    series_writer.write(scan, "study/best", change(SeriesNumber=3))
    series_writer.write(thick, "study/thick", change(SeriesNumber=7, SeriesInstanceUID="1.2.7"))
    place = series_writer.folder / "study"
    assert read_volume(place, series="1.2.7").shape[0] == 15
    assert read_volume(place, series="7").shape[0] == 15
    assert survey_series(place, series="7").chosen.uid == "1.2.7"
    with pytest.raises(NoSeriesError, match="none of 2 series"):
        read_volume(place, series="1.2.8")
    series_writer.write(scan, "study/same-number", change(SeriesNumber=7))
    with pytest.raises(NoSeriesError, match="several series have the number 7"):
        read_volume(place, series="7")


def test_a_reformat_is_scored_only_where_it_is_asked_for(series_writer, scan):
    def edit(ds, i):
        axial_reformat(ds, i)
        ds.SeriesInstanceUID = "1.2.9"

    place = series_writer.write(scan, edit=edit)
    with pytest.raises(NotCTError, match="ask for this one by its UID"):
        read_volume(place)
    volume = read_volume(place, series="1.2.9")
    np.testing.assert_array_equal(volume.array, scan.array)
    assert "reformat_scored" in volume.flags
    # What can never be scored cannot be asked for either.
    other = series_writer.write(scan, "mip", lambda ds, i: (projection(ds, i), edit)[0])
    uid = pydicom.dcmread(next(other.iterdir())).SeriesInstanceUID
    with pytest.raises(NotCTError, match="MIP"):
        read_volume(other, series=uid)


def test_the_choice_does_not_depend_on_names_of_files(series_writer, scan, tmp_path):
    first = series_writer.write(scan, "study/x")
    second = series_writer.write(replace(scan, array=scan.array + 1), "study/y")
    chosen = read_volume(series_writer.folder / "study").series.digest
    (tmp_path / "again").mkdir()
    shutil.copytree(first, tmp_path / "again" / "z")
    shutil.copytree(second, tmp_path / "again" / "a")
    assert read_volume(tmp_path / "again").series.digest == chosen


def test_several_studies_can_be_surveyed_one_by_one(series_writer, scan):
    series_writer.write(scan, "both/a")
    series_writer.study = generate_uid()
    series_writer.write(scan, "both/b")
    survey = survey_series(series_writer.folder / "both")
    assert isinstance(survey.error, SeveralStudiesError)
    assert len({s.study for s in survey.series}) == len(survey.series) == 2
    for s in survey.series:
        assert read_volume(series_writer.folder / "both", series=s.uid).shape == scan.shape


def test_slices_of_two_patient_ids_under_one_uid_are_reported(series_writer, scan):
    def half_anonymised(ds, i):
        if i >= len(scan.array) // 2:
            ds.PatientID = "ANON"

    path = series_writer.write(scan, edit=half_anonymised)
    rules = SeriesRules(minimum_slices=2, minimum_coverage_mm=1)
    with pytest.raises(SeveralStudiesError, match="2 patient IDs or studies under one series UID"):
        read_volume(path, rules)


def test_images_that_are_studies_of_their_own_are_reported(series_writer, scan):
    def loose(ds, _):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()

    path = series_writer.write(scan, edit=loose)
    count = len(scan.array)
    with pytest.raises(
        TooFewSlicesError, match=f"{count} CT images, .* of {count} patients or studies"
    ):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("B70f", Kernel.LUNG), ("Br49d/3", Kernel.STANDARD), ("I30f", Kernel.SOFT),
        ("H60s", Kernel.UNUSUAL), ("B80f", Kernel.UNUSUAL), ("LUNG", Kernel.LUNG),
        ("STANDARD", Kernel.STANDARD), ("EDGE", Kernel.UNUSUAL), ("YC", Kernel.LUNG),
        ("FC51", Kernel.LUNG), ("FC08-H", Kernel.STANDARD), ("FC30", Kernel.UNUSUAL),
        ("", Kernel.UNKNOWN), (None, Kernel.UNKNOWN), ("???", Kernel.UNKNOWN),
    ],
)  # fmt: skip
def test_kernels_of_every_vendor_are_known(name, kind):
    assert judge_kernel(name) is kind


def test_an_unusual_kernel_leaves_a_flag(series_writer, scan):
    volume = read_volume(series_writer.write(scan, edit=change(ConvolutionKernel="H70h")))
    flag = next(f for f in volume.flags if f == "unusual_kernel")
    assert flag.values == {"kernel": "H70h"}


def test_a_series_with_different_images_at_one_position_gives_way_to_the_next(
    series_writer, scan, pixel_setter
):
    def edit(ds, i):
        if i % 2:
            ds.ImagePositionPatient[2] -= 4.0

    thick = Volume(scan.array[::2], (8.0, 2.0, 3.0))
    series_writer.write(thick, "study/a", change(ConvolutionKernel="B40f"))
    series_writer.write(Volume(scan.array, (4.0, 2.0, 3.0)), "study/b", edit)
    survey = survey_series(series_writer.folder / "study")
    assert [(s.verdict, s.error) for s in survey.series] == [
        ("chosen", ""), ("aside", "RepeatedPosition"),
    ]  # fmt: skip
    volume = read_volume(series_writer.folder / "study")
    np.testing.assert_array_equal(volume.array, thick.array)
    assert "other_series_with_faulty_geometry" in volume.flags
    alone = survey_series(series_writer.folder / "study" / "b")
    assert isinstance(alone.error, RepeatedPositionError)
    assert alone.chosen is None


def test_an_image_file_has_no_series(chest, tmp_path):
    write_nifti(chest, tmp_path / "scan.nii.gz")
    with pytest.raises(NoSeriesError, match=r"scan\.nii\.gz: an image file is one volume"):
        survey_series(tmp_path / "scan.nii.gz")
