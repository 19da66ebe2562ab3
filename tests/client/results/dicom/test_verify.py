"""Every change of what an object or a comparison says is found; nothing needs a server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from client.commands import assert_one_line, dlild
from client.results.dicom.test_segmentation import NAMES

from dlild_client.errors import BadSettingsError, UnreadableFileError
from dlild_client.flags import Flag
from dlild_client.results.dicom.change import make_change_report
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.files import object_files, object_writer
from dlild_client.results.dicom.objects import KINDS
from dlild_client.results.dicom.verify.segmentation import FEW_VOXELS
from dlild_client.results.files import write_comparison, write_result
from dlild_client.results.verify import verify_folder

Edit = Callable[[Any], object]


@pytest.fixture(scope="module")
def written(results, tmp_path_factory) -> Path:
    """Folder of a flagged result with all its objects."""
    folder = tmp_path_factory.mktemp("verify") / "out"
    flags = (Flag("thick_slices", thickness_mm=6.0), Flag("a_flag_of_another"))
    result = replace(results("axial"), flags=flags)
    write_result(result, folder, object_files(result, KINDS))
    return folder


@pytest.fixture(scope="module")
def compared(patient, comparison, tmp_path_factory) -> Path:
    """Folder of a comparison of three scans with its SR."""
    folder = tmp_path_factory.mktemp("change")
    report = object_writer(make_change_report(comparison, patient.sources))
    write_comparison(comparison.to_dict(), folder, {"comparison.dcm": report})
    return folder


def differing(folder: Path) -> set[str]:
    return {check.what for check in verify_folder(folder) if check.agrees is False}


def after(folder: Path, name: str, edit: Edit, place: Path) -> set[str]:
    """What differs after a change of one file of a copy."""
    copy = place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    if name.endswith(".json"):
        document = json.loads((copy / name).read_text("utf-8"))
        edit(document)
        (copy / name).write_text(json.dumps(document), "utf-8")
    else:
        dataset = pydicom.dcmread(copy / name)
        edit(dataset)
        dataset.save_as(copy / name, enforce_file_format=True)
    return differing(copy)


def items(dataset: Any) -> Iterator[Any]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(dataset: Any, code: str) -> Any:
    """First content item of a name."""
    return next(i for i in items(dataset) if i.ConceptNameCodeSequence[0].CodeValue == code)


def unit(ds) -> None:
    item = named(ds, "DLILD").MeasuredValueSequence[0]
    item.MeasurementUnitsCodeSequence[0].CodeValue = "mL"


def repeatability(ds) -> None:
    named(ds, "RC-SAME").MeasuredValueSequence[0].NumericValue = "0.1"


def exact(ds) -> None:
    """The double beside the decimal string of a number."""
    named(ds, "DLILD").MeasuredValueSequence[0].FloatingPointValue = 99.0


def notice(ds) -> None:
    named(ds, "NOTICE").TextValue = "For clinical use."


def algorithm(ds) -> None:
    named(ds, "111003").TextValue = "ild_unet 99"


def weights(ds) -> None:
    item = named(ds, "111002")
    item.TextValue = item.TextValue.replace("sha256:", "sha256:0")


def flag_text(ds) -> None:
    named(ds, "121106").TextValue = "thick_slices: nothing to worry about"


def flag_code(ds) -> None:
    named(ds, "FLAG").ConceptCodeSequence[0].CodeValue = "FLAG-2"


def finding(ds) -> None:
    named(ds, "121071").ConceptCodeSequence[0].CodeMeaning = "Normal lung"


def site(ds) -> None:
    named(ds, "363698007").ConceptCodeSequence[0].CodeValue = "80891009"


def meaning(ds) -> None:
    named(ds, "HAA").ConceptNameCodeSequence[0].CodeMeaning = "Air"


def gone(ds) -> None:
    container = next(i for i in ds.ContentSequence if i.ValueType == "CONTAINER")
    del container.ContentSequence[-1]


def segment(ds) -> None:
    next(i for i in items(ds) if i.ValueType == "IMAGE").ReferencedSOPSequence[
        0
    ].ReferencedSegmentNumber = 5


def evidence(ds) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]


def description(ds) -> None:
    ds.SeriesDescription = "Measurements"


def of_header(**changes: Any) -> Edit:
    def edit(ds) -> None:
        for name, value in changes.items():
            setattr(ds, name, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (unit, "measurements"), (repeatability, "measurements"), (meaning, "measurements"),
        (gone, "measurements"), (notice, "texts and codes"), (algorithm, "texts and codes"),
        (weights, "texts and codes"), (finding, "texts and codes"), (site, "texts and codes"),
        (segment, "texts and codes"), (flag_text, "flags"), (flag_code, "flags"),
        (evidence, "references"), (description, "header"), (exact, "measurements"),
        (of_header(VerificationFlag="VERIFIED"), "header"),
        (of_header(Manufacturer="Another"), "header"),
    ],
)  # fmt: skip
def test_every_change_of_a_report_is_found(written, tmp_path, edit, part):
    found = after(written, "sr.dcm", edit, tmp_path)
    expected = {f"sr.dcm, {part}"} | ({"sr.dcm, texts and codes"} if edit is gone else set())
    assert found == expected


def test_the_fault_is_shown(written, tmp_path, contract):
    after(written, "sr.dcm", notice, tmp_path)
    (check,) = [c for c in verify_folder(tmp_path / "copy") if c.agrees is False]
    assert check.found.startswith("report: Notice of research use is For clinical use., not For r")
    after(written, "sr.dcm", repeatability, tmp_path)
    (check,) = [c for c in verify_folder(tmp_path / "copy") if c.agrees is False]
    points = f"{contract.score.repeatability.same_protocol.coefficient:g}"
    assert (
        f"Repeatability coefficient, same protocol is 0.1 ({points} as double) %, not {points} %"
        in check.found
    )


def of_segment(**changes: Any) -> Edit:
    def edit(ds) -> None:
        for name, value in changes.items():
            setattr(ds.SegmentSequence[-1], name, value)

    return edit


def digests_of_one_segment(ds) -> None:
    item = ds.SegmentSequence[-2].SegmentationAlgorithmIdentificationSequence[0]
    item.AlgorithmParameters += "0"


def slice_of_a_frame(ds) -> None:
    image = ds.PerFrameFunctionalGroupsSequence[1].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "1.2.3"


def place_of_a_frame(ds) -> None:
    plane = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    plane.ImagePositionPatient[0] += 300


def segment_code(ds) -> None:
    ds.SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Normal"


def segment_model(ds) -> None:
    item = ds.SegmentSequence[-1].SegmentationAlgorithmIdentificationSequence[0]
    item.AlgorithmVersion = "ild_unet 99"


@pytest.mark.parametrize("name", ["seg.dcm", "seg-labelmap.dcm"])
@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (of_segment(RecommendedDisplayCIELabValue=[1, 2, 3]), "segments"),
        (of_segment(SegmentAlgorithmType="MANUAL"), "segments"),
        (of_segment(TrackingID="other"), "segments"),
        (segment_code, "segments"),
        (segment_model, "segments"),
        (of_segment(SegmentAlgorithmName="Another"), "segments"),
        (digests_of_one_segment, "segments"),
        (slice_of_a_frame, "references"),
        (lambda ds: ds.SourceImageSequence.pop(), "references"),
        (of_header(SegmentationType="FRACTIONAL"), "header"),
        (lambda ds: setattr(ds, "ContentDescription", "Label map"), "texts"),
        (lambda ds: setattr(ds, "DeviceSerialNumber", "1"), "header"),
    ],
)
def test_every_change_of_what_a_seg_says_is_found(written, tmp_path, name, edit, part):
    assert after(written, name, edit, tmp_path) == {f"{name}, {part}"}


def test_a_frame_of_another_segment_or_place_is_found(written, tmp_path):
    def relabelled(ds) -> None:
        """The smallest frame that is compared: a share of the whole that rounding could explain."""
        bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
        sizes = (
            bits[: ds.NumberOfFrames * ds.Rows * ds.Columns].reshape(ds.NumberOfFrames, -1).sum(1)
        )
        frame = int(np.argmin(np.where(sizes < FEW_VOXELS, sizes.max(), sizes)))
        ds.PerFrameFunctionalGroupsSequence[frame].SegmentIdentificationSequence[
            0
        ].ReferencedSegmentNumber = 2

    both = {"seg.dcm, label map", "seg.dcm, references"}
    assert after(written, "seg.dcm", relabelled, tmp_path) == both
    shown = [c.found for c in verify_folder(tmp_path / "copy") if c.agrees is False]
    assert shown[0].endswith("names two segments")
    assert shown[1].endswith("is of another segment or place")
    for name in ("seg.dcm", "seg-labelmap.dcm"):
        assert after(written, name, place_of_a_frame, tmp_path) == {f"{name}, label map"}


@pytest.mark.parametrize("name", ["seg.dcm", "sr.dcm", "capture.dcm", "pdf.dcm"])
def test_an_object_of_another_patient_or_kind_is_found(written, tmp_path, name):
    other = of_header(PatientName="Other^Name", StudyInstanceUID="1.2.3")
    (found,) = after(written, name, other, tmp_path)
    assert found.endswith(", patient and study")
    shown = [c.found for c in verify_folder(tmp_path / "copy") if c.agrees is False]
    assert "Other" not in shown[0]
    assert name in after(written, name, of_header(Modality="XX"), tmp_path)


def page(ds) -> None:
    ds.EncapsulatedDocument = ds.EncapsulatedDocument.replace(b"%PDF-1.4", b"%PDF-1.5")


@pytest.mark.parametrize(
    ("name", "edit", "part"),
    [
        ("pdf.dcm", page, "page"),
        ("pdf.dcm", lambda ds: setattr(ds, "DocumentTitle", "DL-ILD summary"), "texts"),
        (
            "capture.dcm",
            lambda ds: setattr(ds, "ImageComments", ds.ImageComments.replace("Not a", "A")),
            "texts",
        ),
        ("capture.dcm", description, "header"),
        ("capture.dcm", of_header(PhotometricInterpretation="YBR_FULL"), "header"),
        ("capture.dcm", of_header(Rows=1), "size"),
    ],
)
def test_every_change_of_capture_and_pdf_is_found(written, tmp_path, name, edit, part):
    assert after(written, name, edit, tmp_path) == {f"{name}, {part}"}


def test_a_whole_result_agrees_and_a_pdf_of_another_does_not(written, results, tmp_path):
    assert differing(written) == set()
    copy = shutil.copytree(written, tmp_path / "copy")
    other = results("tilted")
    for name, write in object_files(other, ["pdf", "seg"]).items():
        write(copy / name)
    found = differing(copy)
    assert found >= {"pdf.dcm, result", "seg.dcm, result", "sr.dcm, references"}


@pytest.mark.parametrize("name", NAMES)
def test_a_result_of_every_geometry_agrees(results, tmp_path, name):
    result = results(name)
    write_result(result, tmp_path / "out", object_files(result, ["seg", "labelmap", "sr"]))
    assert differing(tmp_path / "out") == set()


def test_without_the_extra_what_needs_it_is_not_checked(written, monkeypatch):
    load_highdicom.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    try:
        checks = {check.what: check for check in verify_folder(written)}
    finally:
        load_highdicom.cache_clear()
    assert checks["sr.dcm, measurements"].agrees is None
    assert checks["seg.dcm, segments"].agrees is True


@pytest.mark.parametrize(
    ("name", "edit", "parts"),
    [
        ("comparison.dcm", unit, {"comparison.dcm, measurements"}),
        ("comparison.dcm", notice, {"comparison.dcm, texts and codes"}),
        ("comparison.dcm", algorithm, {"comparison.dcm, texts and codes"}),
        ("comparison.dcm", description, {"comparison.dcm, header"}),
        (
            "comparison.dcm",
            lambda ds: setattr(named(ds, "RESULT-DIGEST"), "TextValue", "sha256:0"),
            {"comparison.dcm, results", "comparison.dcm, texts and codes"},
        ),
        (
            "comparison.dcm",
            lambda ds: setattr(
                named(ds, "VERDICT").ConceptCodeSequence[0], "CodeValue", "DECREASE"
            ),
            {"comparison.dcm, texts and codes"},
        ),
        (
            "comparison.json",
            lambda d: d["total"]["score"].update(difference=9.0),
            {"comparison.json, its digest", "comparison.json, total"},
        ),
        (
            "comparison.json",
            lambda d: d["slope"].update(per_year=9.0),
            {"comparison.json, its digest", "comparison.json, slope"},
        ),
    ],
)
def test_every_change_of_a_comparison_is_found(compared, tmp_path, name, edit, parts):
    assert differing(compared) == set()
    assert after(compared, name, edit, tmp_path) == parts


def test_figures_of_a_result_in_a_comparison_must_be_those_of_its_sr(compared, tmp_path):
    def edit(document) -> None:
        document["results"][1]["classes"]["ground_glass"]["volume_ml"] += 1

    found = after(compared, "comparison.json", edit, tmp_path)
    assert found == {"comparison.json, its digest", "comparison.dcm, measurements"}


def test_what_is_no_comparison_is_one_line(compared, tmp_path):
    with pytest.raises(BadSettingsError, match="a comparison; scans and weights are those"):
        verify_folder(compared, weights=tmp_path / "model.onnx")
    path = tmp_path / "comparison.json"
    for text, words in (
        ("{", "not JSON"),
        ("[]", "not a comparison"),
        ('{"results": [], "total": {}, "schema_version": 9}', "schema_version 9"),
        ('{"results": [], "total": {}, "schema_version": 1}', "without a digest"),
        (
            '{"results": [{}, 3], "total": {}, "schema_version": 1, "digest": ""}',
            "cannot be computed again",
        ),
    ):
        path.write_text(text)
        with pytest.raises(UnreadableFileError, match=words):
            verify_folder(tmp_path)


def test_as_it_is_typed(compared, tmp_path):
    done = dlild("verify", compared)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "comparison.dcm, measurements" in done.stdout
    shutil.copytree(compared, tmp_path / "copy")
    (tmp_path / "copy" / "comparison.json").write_text("{}")
    assert_one_line(dlild("verify", tmp_path / "copy"), 3, "not a comparison")
