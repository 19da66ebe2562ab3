"""SR of a comparison: valid, with the figures of comparison.json, and references to all scans."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from dataclasses import replace

import highdicom
import numpy as np
import pytest
from client.commands import assert_one_line, dlild
from client.results.dicom.test_objects import errors_of, identities, numbers_of, saved
from client.writers import write_image

from dlild_client.errors import InputError, NotComparableError
from dlild_client.results.compare import compare_results, find_differences
from dlild_client.results.dicom import codes
from dlild_client.results.dicom.change import make_change_report
from dlild_client.results.dicom.objects import make_objects


def groups_of(report) -> dict[tuple[str, float | None], list]:
    """Content items of each group, by what is measured and the order of its scan; None: change."""
    found = {}
    (container,) = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    for group in container.ContentSequence:
        items = list(group.ContentSequence)
        name = next(i.TextValue for i in items if i.ValueType == "TEXT").removeprefix("DL-ILD ")
        order = numbers_of(items).get("126073")
        assert (name, order and order[0]) not in found
        found[name, order and order[0]] = items
    return found


def values_of(items) -> dict[str, list[str]]:
    """Coded values of the evaluations of a group, by their name."""
    found: dict[str, list[str]] = {}
    for item in items:
        if item.ValueType == "CODE":
            name = item.ConceptNameCodeSequence[0].CodeValue
            found.setdefault(name, []).append(item.ConceptCodeSequence[0].CodeValue)
    return found


def evidence_of(report, name: str) -> set[tuple[str, str, str]]:
    return {
        (study.StudyInstanceUID, series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for study in report.get(name, [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


@pytest.mark.parametrize("anonymous", [False, True])
def test_it_is_valid_and_readable(patient, comparison, tmp_path, anonymous):
    report = make_change_report(comparison, patient.sources, anonymous=anonymous)
    path = saved(report, tmp_path / "comparison.dcm")
    again = highdicom.sr.srread(path)
    assert len(again.content.get_volumetric_roi_measurement_groups()) == 5 * 3 - 1
    assert len(again.content.get_image_measurement_groups()) == 12 * 4 - (5 * 3 - 1)
    assert errors_of(path) == []
    if shutil.which("dsrdump") is None:
        pytest.skip("no dsrdump (Debian: dcmtk)")
    run = subprocess.run(["dsrdump", path], check=True, capture_output=True, text=True)
    assert "Change of DL-ILD" in run.stdout
    assert "research use only" in run.stdout.lower()


def test_its_figures_are_those_of_the_json(patient, comparison):
    plain = comparison.to_dict()
    groups = groups_of(make_change_report(comparison, patient.sources))
    total = plain["total"]
    for i, stored in enumerate(patient.stored, start=1):
        document = stored.document
        lungs = numbers_of(groups["lungs", i])
        assert lungs["DLILD"] == (document["dl_ild_percent"], "%")
        assert lungs["118565006"] == (document["lung_volume_ml"], "mL")
        assert lungs["DAYS"] == (plain["days"][i - 1], "d")
        for name, figures in document["classes"].items():
            numbers = numbers_of(groups[name, i])
            assert numbers["LUNG-PERCENT"] == (figures["percent_of_lung"], "%")
            assert numbers["118565006"] == (figures["volume_ml"], "mL")
        for zone, figures in document["zones"].items():
            numbers = numbers_of(groups[zone, i])
            assert numbers["LESION-VOLUME"] == (figures["lesion_ml"], "mL")
            share = 100 * figures["lesion_ml"] / figures["lung_ml"]
            assert numbers["ZONE-PERCENT"][0] == pytest.approx(share, abs=1e-5)
    change = numbers_of(groups["lungs", None])
    assert change["DLILD-CHANGE"] == (total["score"]["difference"], "%")
    noise = total["noise"]
    assert noise["condition"] == "all_changes"
    assert (change["RC-ALL"][0], change["RC-ALL-HIGH"][0]) == (noise["coefficient"], noise["high"])
    assert not {"RC-SAME", "RC-SAME-LOW"} & set(change)
    assert change["SLOPE"] == (plain["slope"]["per_year"], "%/a")
    assert change["SLOPE-RC"] == (plain["slope"]["noise_per_year"], "%/a")
    for kinds, code in (("classes", "LUNG-PCT-CHANGE"), ("zones", "ZONE-PCT-CHANGE")):
        for name, figures in total[kinds].items():
            items = groups[name, None]
            assert numbers_of(items)[code] == (figures["difference"], "%")
            verdict = codes.VERDICTS[figures["verdict"]]
            assert values_of(items)["VERDICT"] == [verdict]


def test_a_change_beyond_noise_is_said_to_be_one(patient):
    noise = {"coefficient": 0.01, "low": 0.005, "high": 0.02}
    known = {"repeatability": {"same_protocol": noise, "all_changes": noise}}
    pair = [replace(r, document={**r.document, **known}) for r in patient.stored[:2]]
    comparison = compare_results(pair)
    verdict = comparison.total.score.verdict
    assert verdict in {"increase", "decrease"}
    groups = groups_of(make_change_report(comparison, patient.sources[:2]))
    values = values_of(groups["lungs", None])
    assert values["VERDICT"] == [verdict.upper()]
    assert values["BEYOND-UPPER"] == [codes.YES[0]]
    assert "RC-SAME" in numbers_of(groups["lungs", None])
    assert not {"SLOPE", "DAYS"} & set(numbers_of(groups["lungs", 2]))


def test_it_refers_to_every_scan_its_seg_and_its_sr(patient, comparison):
    report = make_change_report(comparison, patient.sources)
    last = patient.sources[-1].header.StudyInstanceUID
    assert report.StudyInstanceUID == last
    assert report.PatientID == "SECRET-ID"
    expected, segs = set(), []
    for result, source in zip(patient.results, patient.sources, strict=True):
        study = source.header.StudyInstanceUID
        expected |= {(study, s.series, s.sop_instance) for s in source.slices}
        made = make_objects(result, source, kinds=["seg", "sr"])
        expected |= {(study, o.SeriesInstanceUID, o.SOPInstanceUID) for o in made}
        segs.append(made[0].SOPInstanceUID)
    current = evidence_of(report, "CurrentRequestedProcedureEvidenceSequence")
    other = evidence_of(report, "PertinentOtherEvidenceSequence")
    assert current | other == expected
    assert {study for study, *_ in current} == {last}
    assert last not in {study for study, *_ in other}
    groups = groups_of(report)
    for i, uid in enumerate(segs, start=1):
        (image,) = [x for x in groups["ground_glass", i] if x.ValueType == "IMAGE"]
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid
        assert image.ReferencedSOPSequence[0].ReferencedSegmentNumber == 2
    assert not [x for x in groups["honeycombing", 3] if x.ValueType == "IMAGE"]


def test_what_differs_and_every_digest_is_written(patient, comparison):
    report = make_change_report(comparison, patient.sources)
    assert values_of(groups_of(report)["lungs", None])["DIFFERS"] == ["DIFFERS-1"]
    texts = [i.TextValue for i in report.ContentSequence if i.ValueType == "TEXT"]
    assert "kernel_differs: earlier B60f, later B30f" in texts
    for stored in patient.stored:
        assert stored.document["provenance"]["result"] in texts
        assert stored.document["series"]["digest"] in texts


def test_classes_have_the_codes_of_the_contract(patient, comparison, contract):
    groups = groups_of(make_change_report(comparison, patient.sources))
    for kind in contract.classes[1:]:
        assert values_of(groups[kind.name, None])["121071"] == [kind.code.value]


def test_of_a_result_without_codes_classes_have_private_ones(patient):
    pair = []
    for stored in patient.stored[:2]:
        kinds = {n: {**c} for n, c in stored.document["classes"].items()}
        for fields in kinds.values():
            del fields["code"]
        pair.append(replace(stored, document={**stored.document, "classes": kinds}))
    groups = groups_of(make_change_report(compare_results(pair), patient.sources[:2]))
    assert values_of(groups["reticulation", None])["121071"] == ["CLASS-3"]


def test_the_same_comparison_is_the_same_object_and_another_is_not(patient, comparison):
    first, again = (make_change_report(comparison, patient.sources) for _ in range(2))
    assert first.SOPInstanceUID == again.SOPInstanceUID
    undated = make_change_report(compare_results(patient.stored), patient.sources)
    assert first.SOPInstanceUID != undated.SOPInstanceUID
    assert first.SeriesInstanceUID != undated.SeriesInstanceUID


def test_without_identity_it_refers_to_objects_that_were_made_so(patient, comparison, tmp_path):
    report = make_change_report(comparison, patient.sources, anonymous=True)
    raw = saved(report, tmp_path / "sr.dcm").read_bytes()
    for source in patient.sources:
        for secret in identities(source):
            assert secret.encode() not in raw
    uids = {uid for *_, uid in evidence_of(report, "PertinentOtherEvidenceSequence")}
    uids |= {uid for *_, uid in evidence_of(report, "CurrentRequestedProcedureEvidenceSequence")}
    for result, source in zip(patient.results, patient.sources, strict=True):
        for made in make_objects(result, source, kinds=["seg", "sr"], anonymous=True):
            assert made.SOPInstanceUID in uids


def test_scans_of_two_patients_and_series_without_uids_are_refused(patient, comparison):
    header = copy.deepcopy(patient.sources[1].header)
    header.PatientID = "OTHER-ID"
    other = [patient.sources[0], replace(patient.sources[1], header=header), patient.sources[2]]
    with pytest.raises(NotComparableError, match="different patients") as error:
        make_change_report(comparison, other)
    assert "OTHER-ID" not in str(error.value)
    bare = tuple(replace(s, sop_instance="") for s in patient.sources[0].slices)
    with pytest.raises(InputError, match="lacks SOPInstanceUID"):
        make_change_report(
            comparison, [replace(patient.sources[0], slices=bare), *patient.sources[1:]]
        )


def test_every_flag_of_a_comparison_has_a_code(patient):
    """Two documents that differ in all that is flagged, and two that are unknown in all."""
    document = patient.stored[0].document
    changes = {"kernel": "X", "slice_thickness_mm": 9.0, "manufacturer": "Other"}
    later = {
        **document,
        "series": {**document["series"], **changes},
        "model": {**document["model"], "engine": "other"},
        "lung_volume_ml": 1.0,
        "flags": ["heavy_noise"],
    }
    unknown = {**later, "series": {**later["series"], "kernel": None, "slice_thickness_mm": None}}
    flags = {**find_differences(document, later), **find_differences(document, unknown)}
    assert set(flags) == set(codes.DIFFERENCES)


def test_a_zone_without_lung_has_no_change(patient):
    empty = {"lung_ml": 0.0, "lesion_ml": 0.0}
    document = patient.stored[1].document
    changed = {**document, "zones": {**document["zones"], "left_upper": empty}}
    pair = [patient.stored[0], replace(patient.stored[1], document=changed)]
    groups = groups_of(make_change_report(compare_results(pair), patient.sources[:2]))
    assert values_of(groups["left_upper", None])["VERDICT"] == ["NOISE-UNKNOWN"]
    assert "ZONE-PCT-CHANGE" not in numbers_of(groups["left_upper", None])
    assert "ZONE-PERCENT" not in numbers_of(groups["left_upper", 2])


def test_as_it_is_typed(patient, tmp_path):
    place, outs = patient.place, [patient.place / f"out-{i}" for i in range(2)]
    scans = [part for path in patient.scans[:2] for part in ("--scan", path)]
    to = tmp_path / "change"
    done = dlild("compare", *outs, "--sr", *scans, "--out", to)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in to.iterdir()) == ["comparison.dcm", "comparison.json"]
    written = json.loads((to / "comparison.json").read_text("utf-8"))
    groups = groups_of(highdicom.sr.srread(to / "comparison.dcm"))
    change = numbers_of(groups["lungs", None])["DLILD-CHANGE"][0]
    assert change == written["total"]["score"]["difference"]
    assert_one_line(dlild("compare", *outs, "--sr", "--out", to), 2, "--sr needs --scan")
    assert_one_line(dlild("compare", *outs, "--sr", *scans), 2, "--sr needs --out")
    assert_one_line(dlild("compare", *outs, "--anonymous"), 2, "--anonymous is for --sr")
    assert_one_line(dlild("compare", *outs, *scans), 2, "--scan is for --report and --sr")
    swapped = [*scans[2:], *scans[:2]]
    refused = dlild("compare", *outs, "--sr", *swapped, "--out", to)
    assert_one_line(refused, 3, "the scan is not the one")
    image = write_image(patient.results[0].image, place / "ct.nii.gz")
    nifti = dlild("compare", *outs, "--sr", *scans[:2], "--scan", image, "--out", to)
    assert_one_line(nifti, 3, "no DICOM series")
    assert (to / "comparison.dcm").is_file()
    np.testing.assert_equal(json.loads((to / "comparison.json").read_text("utf-8")), written)
