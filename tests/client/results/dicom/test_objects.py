"""SR, capture and PDF of a result: valid, with its figures, and without identity if asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from client.results.dicom.test_segmentation import dice, on_grid
from client.results.labelled import labelled_result
from PIL import Image

from dlild_client.errors import BadSettingsError
from dlild_client.flags import MEANINGS, Flag
from dlild_client.reading.read import read_volume
from dlild_client.results.dicom import codes
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.objects import KINDS, make_objects
from dlild_client.results.overlay import draw_overlay
from dlild_client.results.provenance import document_digest

PAGE = Path(__file__).parents[4] / "docs" / "dicom-codes.md"
ALL = ("seg", "sr", "capture", "pdf")


@pytest.fixture
def flagged(scored):
    flags = (Flag("thick_slices", thickness_mm=6.0), Flag("a_flag_of_another"))
    return replace(scored, flags=flags)


def saved(dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def errors_of(path: Path) -> list[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (Debian: dicom3tools)")
    run = subprocess.run(["dciodvfy", path], check=False, capture_output=True, text=True)
    return [line for line in run.stderr.splitlines() if line.startswith("Error")]


def groups_of(report) -> dict[str, list]:
    """Content items of each measurement group, by its tracking identifier."""
    found = {}
    for container in report.ContentSequence:
        name = container.ConceptNameCodeSequence[0].CodeMeaning
        if name == "Imaging Measurements":
            for group in container.ContentSequence:
                items = list(group.ContentSequence)
                texts = [i.TextValue for i in items if i.ValueType == "TEXT"]
                found[texts[0]] = items
    return found


def numbers_of(items) -> dict[str, tuple[float, str]]:
    """Values and units by code value, or by that of the derivation."""
    found = {}
    for item in items:
        if item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            name = item.ConceptNameCodeSequence[0].CodeValue
            for inner in item.get("ContentSequence", []):
                name = inner.ConceptCodeSequence[0].CodeValue
            unit = measured.MeasurementUnitsCodeSequence[0]
            assert unit.CodingSchemeDesignator == "UCUM"
            found[name] = float(measured.NumericValue), unit.CodeValue
    return found


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("scored", ["axial", "enhanced", "tilted"], indirect=True)
def test_dciodvfy_reports_no_error_on_any_object(flagged, tmp_path, anonymous):
    objects = make_objects(flagged, flagged.image.source, kinds=ALL, anonymous=anonymous)
    for kind, dataset in zip(ALL, objects, strict=True):
        assert errors_of(saved(dataset, tmp_path / f"{kind}.dcm")) == [], kind


def test_dsrdump_reads_the_report(flagged, tmp_path):
    if shutil.which("dsrdump") is None:
        pytest.skip("no dsrdump (Debian: dcmtk)")
    (report,) = make_objects(flagged, flagged.image.source, kinds=["sr"])
    path = saved(report, tmp_path / "sr.dcm")
    run = subprocess.run(["dsrdump", path], check=True, capture_output=True, text=True)
    assert "Comprehensive SR Document" in run.stdout
    assert f'"DL-ILD")="{json.loads(flagged.to_json())["dl_ild_percent"]}"' in run.stdout
    assert "research use only" in run.stdout.lower()


def test_highdicom_reads_the_report_back(flagged, tmp_path):
    (report,) = make_objects(flagged, flagged.image.source, kinds=["sr"])
    again = highdicom.sr.srread(saved(report, tmp_path / "sr.dcm"))
    content = again.content
    assert len(content.get_image_measurement_groups()) == 1 + 6
    assert len(content.get_volumetric_roi_measurement_groups()) == 5


def test_the_figures_of_the_report_are_those_of_the_json(flagged, contract):
    plain = json.loads(flagged.to_json())
    (report,) = make_objects(flagged, flagged.image.source, kinds=["sr"])
    groups = groups_of(report)
    lungs = numbers_of(groups["DL-ILD lungs"])
    assert lungs["DLILD"] == (plain["dl_ild_percent"], "%")
    assert lungs["118565006"] == (plain["lung_volume_ml"], "mL")
    assert lungs["LESION-VOLUME"] == (plain["lesion_volume_ml"], "mL")
    spec = contract.score.repeatability
    assert lungs["RC-SAME"] == (spec.same_protocol.coefficient, "%")
    assert lungs["RC-ALL-HIGH"] == (spec.all_changes.high, "%")
    for kind in contract.classes[1:]:
        numbers, figures = numbers_of(groups[f"DL-ILD {kind.name}"]), plain["classes"][kind.name]
        assert numbers["118565006"] == (figures["volume_ml"], "mL")
        assert numbers["LUNG-PERCENT"] == (figures["percent_of_lung"], "%")
        assert numbers["CERTAINTY"] == (figures["certainty"], "1")
    for zone, figures in plain["zones"].items():
        numbers = numbers_of(groups[f"DL-ILD {zone}"])
        assert numbers["118565006"] == (figures["lung_ml"], "mL")
        assert numbers["LESION-VOLUME"] == (figures["lesion_ml"], "mL")
    for name, figures in (("lungs", plain["densitometry"]["lung"]),
                          *plain["densitometry"]["zones"].items()):  # fmt: skip
        numbers = numbers_of(groups[f"DL-ILD {name}"])
        assert numbers["112181"] == (figures["mean_hu"], "[hnsf'U]")
        assert numbers["112183"][0] == figures["sd_hu"]
        assert numbers["126051"] == (figures["skewness"], "1")
        assert numbers["126052"] == (figures["kurtosis"], "1")
        assert numbers["112182"][0] == figures["percentiles_hu"]["50"]
        for q in ("5", "10", "15", "90", "95"):
            assert numbers[f"PERCENTILE-{q}"][0] == figures["percentiles_hu"][q]
        assert numbers["HAA"] == (figures["high_attenuation_percent"], "%")
        assert numbers["LAA-950"] == (figures["low_attenuation_percent"], "%")
        assert numbers["4147007"] == (figures["mass_g"], "g")


def test_the_report_says_what_it_must(flagged, contract):
    source = flagged.image.source
    seg, report = make_objects(flagged, source, kinds=["seg", "sr"])
    texts = [i.TextValue for i in report.ContentSequence if i.ValueType == "TEXT"]
    assert "For research use only. Not a medical device." in texts
    assert any(t.startswith("thick_slices: slices or steps over 3 mm") and "6" in t for t in texts)
    assert document_digest(flagged.to_dict()) in texts
    assert flagged.series.digest in texts
    lungs = groups_of(report)["DL-ILD lungs"]
    flags = [i.ConceptCodeSequence[0].CodeValue for i in lungs if i.ValueType == "CODE"]
    assert [f for f in flags if f.startswith("FLAG")] == ["FLAG-1", "FLAG-0"]
    shown = " ".join(i.TextValue for i in lungs if i.ValueType == "TEXT")
    assert contract.model.weights_sha256 in shown
    assert f"{contract.model.name} {contract.model.version}" in shown
    # References: every slice, and the SEG with its segment.
    evidence = [
        (i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID)
        for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in report.get(name, [])
        for series in study.ReferencedSeriesSequence
        for i in series.ReferencedSOPSequence
    ]
    slices = {(s.sop_class, s.sop_instance) for s in source.slices}
    assert set(evidence) == slices | {(seg.SOPClassUID, seg.SOPInstanceUID)}
    (image,) = [i for i in groups_of(report)["DL-ILD honeycombing"] if i.ValueType == "IMAGE"]
    reference = image.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert reference.ReferencedSegmentNumber == 4
    assert report.StudyInstanceUID == seg.StudyInstanceUID == source.header.StudyInstanceUID


def test_a_class_without_a_voxel_refers_to_no_segment(scored, contract):
    array = np.where(scored.labels.array == 4, 1, scored.labels.array)
    classes = {
        **scored.classes,
        "honeycombing": replace(scored.classes["honeycombing"], volume_ml=0.0, certainty=None),
    }
    changed = replace(scored, labels=scored.labels.with_array(array), classes=classes)
    (report,) = make_objects(changed, changed.image.source, kinds=["sr"])
    items = groups_of(report)["DL-ILD honeycombing"]
    assert not [i for i in items if i.ValueType == "IMAGE"]
    assert set(numbers_of(items)) == {"118565006", "LUNG-PERCENT"}


def test_the_capture_is_the_picture(scored):
    picture = Image.effect_noise((120, 80), 60).convert("RGB")
    (capture,) = make_objects(scored, scored.image.source, kinds=["capture"], summary=picture)
    np.testing.assert_array_equal(capture.pixel_array, np.asarray(picture))
    assert capture.SOPClassUID.name == "Secondary Capture Image Storage"
    (default,) = make_objects(scored, scored.image.source, kinds=["capture"])
    np.testing.assert_array_equal(default.pixel_array, np.asarray(draw_overlay(scored)))


def test_the_pdf_is_a_page(scored):
    (document,) = make_objects(scored, scored.image.source, kinds=["pdf"])
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF")
    assert b"/Count 1" in content


def test_series_are_of_their_own_and_objects_share_the_study(scored):
    objects = make_objects(scored, scored.image.source, kinds=ALL)
    assert len({o.SeriesInstanceUID for o in objects}) == len(ALL)
    assert len({o.SOPInstanceUID for o in objects}) == len(ALL)
    assert {o.StudyInstanceUID for o in objects} == {scored.image.source.header.StudyInstanceUID}
    assert {o.PatientID for o in objects} == {"SECRET-ID"}
    assert {o.Modality for o in objects} == {"SEG", "SR", "OT", "DOC"}


def identities(source) -> set[str]:
    header = source.header
    found = {str(e.value) for e in header if e.VR in {"PN", "UI", "LO", "SH", "DA", "AS"}}
    found -= {str(header.get(k)) for k in ("Manufacturer", "BodyPartExamined")}
    return found | {s.sop_instance for s in source.slices} | {"SECRET"}


@pytest.mark.parametrize("kind", KINDS)
def test_anonymous_objects_hold_no_identity(scored, tmp_path, kind):
    source = scored.image.source
    source.header.PatientAge, source.header.PatientBirthDate = "061Y", "19600102"
    source.header.AccessionNumber, source.header.StudyDate = "ACC-77", "20230405"
    secrets = identities(source)
    (plain,) = make_objects(scored, source, kinds=[kind])
    (stripped,) = make_objects(scored, source, kinds=[kind], anonymous=True)
    raw = [saved(d, tmp_path / "object.dcm").read_bytes() for d in (plain, stripped)]
    assert b"SECRET-ID" in raw[0]
    for secret in secrets:
        assert secret.encode() not in raw[1], secret
    assert stripped.PatientIdentityRemoved == "YES"
    again = make_objects(scored, source, kinds=[kind], anonymous=True)[0]
    assert again.SOPInstanceUID == stripped.SOPInstanceUID != plain.SOPInstanceUID
    assert again.StudyInstanceUID == stripped.StudyInstanceUID != plain.StudyInstanceUID


def test_headers_that_break_the_rules_of_dicom_are_left_out(series_writer, chest_maker, contract):
    def edit(ds, i):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.PatientAge, ds.PatientSex, ds.StudyDate = "61", "female", "2023-04-05"
            ds.PatientName = "Müller^Jörg"
            ds.SpecificCharacterSet = "ISO_IR 100"

    folder = series_writer.write(chest_maker((30, 40, 56), (6.0, 3.0, 3.0)), edit=edit)
    result = labelled_result(read_volume(folder, with_source=True), contract)
    for dataset in make_objects(result, result.image.source, kinds=ALL):
        assert dataset.PatientName == "Müller^Jörg"
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert not dataset.get("PatientSex")
        assert not dataset.get("StudyDate")
        assert "PatientAge" not in dataset


def test_the_page_lists_exactly_the_private_codes():
    rows = re.findall(r"^\| `([A-Z0-9-]+)` \| ([^|]+?) \|", PAGE.read_text("utf-8"), re.M)
    flags = {f"FLAG-{n}": name.replace("_", " ") for name, n in codes.FLAGS.items()}
    differs = {f"DIFFERS-{n}": name.replace("_", " ") for name, n in codes.DIFFERENCES.items()}
    expected = {**codes.PRIVATE, **flags, **differs, "FLAG-0": "any other flag"}
    assert dict(rows) == expected
    assert len(rows) == len(expected)


def test_every_flag_has_a_code_that_fits_in_dicom():
    assert set(codes.FLAGS) == set(MEANINGS)
    assert len(set(codes.FLAGS.values())) == len(codes.FLAGS)
    for value, meaning in codes.PRIVATE.items():
        assert len(value) <= 16
        assert len(meaning) <= 64


def test_only_listed_private_codes_are_used(flagged, tmp_path):
    """Also those that a class without a standard code would get."""
    used = set()
    for dataset in make_objects(flagged, flagged.image.source, kinds=ALL):
        again = pydicom.dcmread(saved(dataset, tmp_path / "object.dcm"))
        for element in again.iterall():
            if element.keyword == "CodingSchemeDesignator" and element.value == codes.SCHEME:
                used.add(element.value)
        text = str(again)
        used |= set(re.findall(r"CodeValue +SH: '([A-Z0-9-]+)'", text))
    listed = {*codes.PRIVATE, "FLAG-0", *(f"FLAG-{n}" for n in codes.FLAGS.values())}
    assert {u for u in used if not u.isdigit()} - {codes.SCHEME} <= listed


@pytest.mark.slow
def test_objects_of_the_real_ct_are_exact_and_valid(shared_data, contract, tmp_path):
    folder = shared_data / "lidc-idri-0314" / "dicom"
    result = labelled_result(read_volume(folder, with_source=True), contract)
    kinds = ("seg", "sr", "capture")
    objects = make_objects(result, result.image.source, kinds=kinds)
    paths = [saved(o, tmp_path / f"{k}.dcm") for k, o in zip(kinds, objects, strict=True)]
    assert sum(path.stat().st_size for path in paths) < 60e6
    found, expected = on_grid(result, paths[0], labelmap=False), result.labels.array
    for label in range(1, 6):
        assert dice(found == label, expected == label) > 0.98
    for path in paths:
        assert errors_of(path) == []


def test_without_the_extra_one_line_says_what_to_install(scored, monkeypatch):
    load_highdicom.cache_clear()
    monkeypatch.setitem(sys.modules, "highdicom", None)
    try:
        with pytest.raises(BadSettingsError, match=r"pip install 'dlild-client\[dicom\]'"):
            make_objects(scored, scored.image.source)
    finally:
        load_highdicom.cache_clear()


def test_a_result_without_digests_has_objects_all_the_same(scored):
    bare = replace(scored, provenance=None, densitometry=None)
    objects = make_objects(bare, bare.image.source, kinds=ALL)
    assert [o.Modality for o in objects] == ["SEG", "SR", "OT", "DOC"]
