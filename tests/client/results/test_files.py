from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from client.disks import data_set, files_of_at_most
from PIL import Image

from dlild_client.client import Client
from dlild_client.contract.result import ResultDocument
from dlild_client.errors import DlildError
from dlild_client.reading.read import read_volume
from dlild_client.results.dicom.files import FILES, object_writer
from dlild_client.results.files import OUTPUTS, try_folder, write_comparison, write_result
from dlild_client.results.overlay import draw_overlay
from dlild_client.results.provenance import document_digest
from dlild_client.results.result import Result
from dlild_client.results.stored import LABELS, OVERLAY, READING, REPORT, RESULT


@pytest.fixture
def result(server, chest, series_writer) -> Result:
    folder = series_writer.write(chest, "SECRET-FOLDER")
    with Client(server.url) as client:
        return client.score(read_volume(folder))


def follows(document, kind) -> None:
    """Hold the keys of a JSON object to its TypedDict, and so what lies within."""
    fields = get_type_hints(kind)
    assert set(document) == set(fields)
    for name, field in fields.items():
        inner = get_args(field)[-1] if get_origin(field) is Mapping else field
        if is_typeddict(inner):
            for value in [document[name]] if inner is field else document[name].values():
                follows(value, inner)


def test_result_json_has_the_promised_names(result, contract):
    plain = json.loads(result.to_json())
    assert set(plain) == {
        "schema_version", "dl_ild_percent", "lung_volume_ml", "lesion_volume_ml", "classes",
        "zones", "densitometry", "windows", "grid", "model", "series", "timings_s", "flags",
        "flag_details", "repeatability", "research_use_only", "provenance",
    }  # fmt: skip
    follows(plain, ResultDocument)
    assert plain["schema_version"] == 1
    assert plain["research_use_only"] is True
    assert set(plain["classes"]) == {c.name for c in contract.classes if c.lung}
    assert set(plain["classes"]["ground_glass"]) == {
        "label", "volume_ml", "percent_of_lung", "certainty", "title", "lesion", "colour",
        "code",
    }  # fmt: skip
    assert list(plain["zones"]) == [
        f"{side}_{third}" for side in ("right", "left") for third in ("upper", "middle", "lower")
    ]
    assert set(plain["zones"]["left_upper"]) == {"lung_ml", "lesion_ml"}
    assert set(plain["densitometry"]["zones"]) == set(plain["zones"])
    assert plain["densitometry"]["lung"]["volume_ml"] == pytest.approx(
        plain["lung_volume_ml"], rel=0.05
    )
    assert plain["provenance"]["scan"] == plain["series"]["digest"]
    assert plain["provenance"]["weights"] == plain["model"]["weights_digest"]
    assert plain["provenance"]["result"] == document_digest(plain)
    assert set(plain["grid"]) == {"spacing_mm", "shape", "box"}
    assert set(plain["grid"]["box"]) == {"start", "stop"}
    assert set(plain["model"]) == {
        "name",
        "version",
        "weights_digest",
        "profile",
        "engine",
        "precision",
    }
    assert plain["model"]["weights_digest"].startswith("sha256:")
    assert set(plain["timings_s"]) == {"read", "resample", "lungs", "inference", "total"}
    assert plain["dl_ild_percent"] == pytest.approx(
        100 * plain["lesion_volume_ml"] / plain["lung_volume_ml"], abs=1e-4
    )
    assert sum(c["percent_of_lung"] for c in plain["classes"].values()) == pytest.approx(100)
    assert "SECRET" not in result.to_json()


def test_files_are_whole_and_in_place(result, tmp_path):
    out = tmp_path / "a" / "b"
    paths = write_result(result, out)
    assert sorted(p.name for p in out.iterdir()) == ["labels.nii.gz", "overlay.png", "result.json"]
    assert [p.name for p in paths] == ["result.json", "labels.nii.gz", "overlay.png"]
    assert json.loads(paths[0].read_text()) == result.to_dict()
    image = sitk.ReadImage(str(paths[1]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), result.labels.array)
    assert image.GetPixelID() == sitk.sitkUInt8
    for index in [(0, 0, 0), (5, 7, 11), (-1, -1, -1)]:
        z, y, x = (i % n for i, n in zip(index, result.labels.shape, strict=True))
        point = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(point, result.labels.points_mm([z, y, x]), atol=1e-3)
    write_result(result, out)
    assert len(list(out.iterdir())) == 3


def test_further_files_are_exchanged_with_the_others(result, tmp_path):
    out = tmp_path / "out"
    paths = write_result(result, out, {"a.txt": lambda path: path.write_text("first")})
    assert [p.name for p in paths] == ["result.json", "labels.nii.gz", "overlay.png", "a.txt"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DlildError, match="cannot be written: No space left on device"):
        write_result(result, out, {"a.txt": fail})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


PAGE = b"<html><body><h1>DL-ILD</h1>"
OURS = b"\x08\x00\x70\x00LO\x06\x00DL-ILD"
"""The element of the manufacturer."""


def wrote(folder, **files: bytes) -> None:
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)


def test_outputs_of_another_result_go_with_it(result, noisy, tmp_path):
    out = tmp_path / "out"
    write_result(result, out)
    objects = dict.fromkeys(("seg_dcm", "sr_dcm", "capture_dcm", "pdf_dcm"), b"\0" * 128 + OURS)
    wrote(out, report_html=PAGE, reading_html=PAGE, **objects)
    wrote(out, **{"seg-labelmap_dcm": OURS}, notes_txt=b"mine", other_dcm=OURS)
    write_result(result, out)
    assert len(list(out.iterdir())) == len(OUTPUTS) + 2  # of the very same result: they stay
    changed = replace(result, windows=result.windows + 1)
    write_result(changed, out, {"sr.dcm": lambda path: path.write_bytes(OURS + b" 2")})
    assert {path.name for path in out.iterdir()} == {
        "result.json", "labels.nii.gz", "overlay.png", "sr.dcm", "notes.txt", "other.dcm",
    }  # fmt: skip
    assert (out / "sr.dcm").read_bytes() == OURS + b" 2"
    wrote(out, report_html=PAGE)
    write_result(changed, out, alone=True)
    assert not {"report.html", "sr.dcm"} & {path.name for path in out.iterdir()}


def test_objects_with_and_without_identity_do_not_lie_side_by_side(result, tmp_path):
    def of_study(uid):
        def write(path):
            dataset = pydicom.Dataset()
            dataset.Manufacturer, dataset.StudyInstanceUID = "DL-ILD", uid
            dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.9"
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            dataset.save_as(path, enforce_file_format=True)

        return write

    out = tmp_path / "out"
    write_result(result, out, {"sr.dcm": of_study("1.2.3"), "pdf.dcm": of_study("1.2.3")})
    wrote(out, report_html=PAGE, comparison_dcm=OURS)
    write_result(result, out, {"capture.dcm": of_study("1.2.3")})
    assert {"sr.dcm", "pdf.dcm", "capture.dcm"} < {path.name for path in out.iterdir()}
    write_result(result, out, {"capture.dcm": of_study("1.2.4")})
    assert {path.name for path in out.iterdir()} == {
        "result.json", "labels.nii.gz", "overlay.png", "capture.dcm", "report.html",
        "comparison.dcm",
    }  # fmt: skip


def test_files_that_others_wrote_under_these_names_stay(result, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    wrote(out, report_html=b"<html>A report of mine", seg_dcm=b"\0" * 128 + b"DICM of a scanner")
    # The SEG of a phantom: what is known of it exactly.
    wrote(out, capture_dcm=b"\x08\x00\x70\x00LO\x0e\x00DL-ILD phantom")
    (out / "sr.dcm").mkdir()
    write_result(result, out)
    assert {"report.html", "seg.dcm", "sr.dcm", "capture.dcm"} < {
        path.name for path in out.iterdir()
    }


def test_outputs_that_are_to_go_stay_where_the_new_result_cannot_be_written(result, tmp_path):
    out = tmp_path / "out"
    write_result(result, out)
    wrote(out, report_html=PAGE)

    def fail(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(DlildError, match="No space left"):
        write_result(replace(result, windows=99), out, {"sr.dcm": fail})
    assert (out / "report.html").read_bytes() == PAGE


def test_every_output_is_known_by_name():
    assert set(OUTPUTS) >= {*FILES.values(), REPORT, READING, RESULT, LABELS, OVERLAY}


def test_outputs_of_another_comparison_go_with_it(tmp_path):
    wrote(tmp_path, comparison_html=PAGE, comparison_dcm=OURS, report_html=PAGE)
    write_comparison({"total": 1}, tmp_path, {"comparison.html": lambda p: p.write_bytes(PAGE)})
    names = {"comparison.json", "comparison.html", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == names
    write_comparison({"total": 1}, tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == names
    write_comparison({"total": 2}, tmp_path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"comparison.json", "report.html"}


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing(result, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DlildError, match="cannot be written"):
        write_result(result, tmp_path / "file")
    blocked = tmp_path / "blocked"
    (blocked / "result.json").mkdir(parents=True)
    with pytest.raises(DlildError, match="cannot be written"):
        write_result(result, blocked)
    assert not [p for p in blocked.iterdir() if p.name.startswith(".")]


@pytest.fixture
def noisy(result) -> Result:
    """A result whose label map hardly compresses."""
    noise = np.random.default_rng(0).integers(0, 5, result.labels.shape).astype(np.uint8)
    return replace(result, labels=result.labels.with_array(noise))


def test_a_disk_that_fills_leaves_the_old_result_whole(result, noisy, tmp_path):
    out = tmp_path / "out"
    write_result(result, out)
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    noise = len(gzip.compress(noisy.labels.array.tobytes()))
    with (
        files_of_at_most(noise // 2),
        pytest.raises(DlildError, match="cannot be written: File too large"),
    ):
        write_result(noisy, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    write_result(noisy, out)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(out / "labels.nii.gz"))).sum() > 0
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list(out.iterdir())) == 4


def test_an_object_that_does_not_fit_says_why_in_the_words_of_the_system(result, tmp_path):
    with (
        files_of_at_most(1 << 19),
        pytest.raises(DlildError, match="out: cannot be written: File too large; choose another"),
    ):
        write_result(result, tmp_path / "out", {"seg.dcm": object_writer(data_set(1 << 20))})
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_exchanged_leaves_the_others_as_they_were(result, noisy, tmp_path):
    out = tmp_path / "out"
    write_result(result, out)
    (out / "labels.nii.gz").unlink()
    (out / "labels.nii.gz").mkdir()
    with pytest.raises(DlildError, match=r"labels\.nii\.gz is a folder there"):
        write_result(noisy, out)
    assert json.loads((out / "result.json").read_text()) == result.to_dict()
    assert len(list(out.iterdir())) == 3


def test_a_new_folder_that_could_not_be_filled_is_taken_away(noisy, tmp_path):
    with files_of_at_most(1000), pytest.raises(DlildError, match="cannot be written"):
        write_result(noisy, tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    try_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DlildError, match="cannot be written"):
            try_folder(wrong)
    with files_of_at_most(1000), pytest.raises(DlildError, match="cannot be written: File too"):
        try_folder(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_place_of_an_output_is_told_before_the_scan_is_scored(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DlildError, match=r"cannot be written: .*report\.html is a folder there"):
        try_folder(tmp_path, OUTPUTS)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def colours_in(image: Image.Image, colour: tuple[int, int, int]) -> int:
    return int(np.all(np.asarray(image) == colour, axis=-1).sum())


def test_the_overlay_shows_lesions_where_there_are_some(result, contract):
    bare = draw_overlay(result)
    assert bare.mode == "RGB"
    lung = next(c for c in contract.classes if c.lung and not c.lesion)
    assert colours_in(bare, lung.colour) > 500
    kind = contract.classes[4]
    labels = result.labels.array.copy()
    labels[labels == 1] = kind.label
    lesioned = draw_overlay(replace(result, labels=result.labels.with_array(labels)))
    assert lesioned.size == bare.size
    difference = np.abs(np.asarray(lesioned).astype(int) - np.asarray(bare)).sum(axis=-1) > 30
    assert difference.mean() > 0.1


def test_the_right_lung_is_drawn_on_the_left(result):
    labels = result.labels.array.copy()
    # x grows to the patient's left, so low x is the right lung.
    half = labels.shape[2] // 2
    right = labels[:, :, :half]
    right[right == 1] = 5
    marked = np.asarray(
        draw_overlay(replace(result, labels=result.labels.with_array(labels)))
    ).astype(int)
    bare = np.asarray(draw_overlay(result)).astype(int)
    changed = np.abs(marked - bare).sum(axis=-1) > 60
    panel = changed[130:400, 14:454]
    assert panel[:, :220].sum() > 20 * max(1, panel[:, 220:].sum())
