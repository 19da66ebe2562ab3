"""DICOM objects from the command line, and `dlild verify` of what it wrote."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import re
import shutil
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from client.commands import ROOT, assert_one_line, dlild
from client.writers import write_image

from dlild_client.client import Client
from dlild_client.errors import InputError
from dlild_client.reading.read import read_volume
from dlild_client.results.dicom import report as sr_report
from dlild_client.results.dicom.files import object_files
from dlild_client.results.files import write_result
from dlild_client.results.nifti import write_nifti
from dlild_client.results.stored import read_stored
from dlild_client.results.verify import verify_result

OBJECTS = ("seg.dcm", "sr.dcm", "capture.dcm", "pdf.dcm")
WEIGHTS = ROOT / "model_repository" / "ild_unet"


def test_a_result_with_all_objects_is_written_and_verified(server, series_writer, chest, tmp_path):
    folder, out = series_writer.write(chest, "SECRET-FOLDER"), tmp_path / "out"
    asked = ("--seg", "--labelmap", "--sr", "--capture", "--pdf")
    done = dlild("score", folder, "--url", server.url, "--out", out, *asked)
    assert done.returncode == 0, done.stderr
    for name in (*OBJECTS, "seg-labelmap.dcm"):
        assert pydicom.dcmread(out / name).PatientID == "SECRET-ID"
    assert pydicom.dcmread(out / "capture.dcm").Rows > 1000  # the summary page
    weights = WEIGHTS / str(server.contract.model.version) / "model.onnx"
    done = dlild("verify", out, "--scan", folder, "--weights", weights, "--json")
    assert done.returncode == 0, done.stdout
    checks = {c["what"]: c for c in json.loads(done.stdout)}
    for name in (
        "scan", "preprocessing", "weights", "labels.nii.gz", "score", "seg.dcm, label map",
        "seg-labelmap.dcm, label map", "sr.dcm, measurements", "capture.dcm, result",
    ):  # fmt: skip
        assert checks[name]["agrees"] is True, checks[name]
    assert checks["seg.dcm, label map"]["found"].startswith("100.00 %")
    assert "SECRET" not in done.stdout + done.stderr


IDENTITY = {
    "PatientBirthDate": "19530219", "PatientAge": "071Y", "AccessionNumber": "SECRET-ACC",
    "StudyID": "SECRET-STUDY", "StudyDate": "20241107", "SeriesDate": "20241108",
    "StudyTime": "093147.25", "InstitutionName": "SECRET-HOSPITAL", "StationName": "SECRET-STATION",
    "ReferringPhysicianName": "SECRET^DOCTOR", "OperatorsName": "SECRET^OPERATOR",
    "StudyDescription": "SECRET-STUDY-TEXT", "PatientComments": "SECRET-COMMENT",
    "DeviceSerialNumber": "SECRET-SERIAL", "OtherPatientIDs": "SECRET-OTHER",
    "IssuerOfPatientID": "SECRET-ISSUER", "PatientAddress": "SECRET-STREET",
}  # fmt: skip
"""What identifies a patient beside name and ID, as an archive sends it."""


def unpacked(path: Path) -> bytes:
    """Contents of a file, and those of all that is packed in it."""
    raw = path.read_bytes()
    whole = [raw]
    if path.suffix == ".gz":
        whole.append(gzip.decompress(raw))
    if path.suffix == ".html":
        found = [base64.b64decode(text) for text in re.findall(rb"[A-Za-z0-9+/=]{200,}", raw)]
        whole += found
        for packed in found:
            with suppress(zlib.error):
                whole.append(zlib.decompress(packed))
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", raw, re.DOTALL):
        with suppress(zlib.error):
            whole.append(zlib.decompress(stream))
    return b"\n".join(whole)


@pytest.mark.parametrize("command", ["score", "batch"])
def test_anonymous_outputs_hold_no_identity(server, series_writer, chest, tmp_path, command):
    uids = {series_writer.study}

    def edit(ds, i):
        for name, value in IDENTITY.items():
            setattr(ds, name, value)
        ds.FrameOfReferenceUID = f"{series_writer.study[:50]}.{i}"
        uids.update((ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID))

    folder = series_writer.write(chest, "tree/SECRET-FOLDER", edit=edit)
    out = tmp_path / "out"
    asked = ("--seg", "--labelmap", "--sr", "--capture", "--pdf", "--report", "--anonymous")
    given = folder if command == "score" else folder.parent
    done = dlild(command, given, "--url", server.url, "--out", out, *asked)
    assert done.returncode == 0, done.stderr
    paths = [path for path in out.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in paths} - {""}
    assert kinds >= {".json", ".gz", ".png", ".dcm", ".html"}
    assert len([path for path in paths if path.suffix == ".dcm"]) == 5
    secrets = {"SECRET", *uids} | {v for v in IDENTITY.values() if v[:6].isdigit()}
    assert len(secrets) > 120
    for path in paths:
        content = unpacked(path)
        for secret in secrets:
            assert secret not in str(path.relative_to(out))
            assert secret.encode() not in content, (path.name, secret)
    assert not [s for s in secrets if s in done.stdout + done.stderr]
    # A file that is known to hold them, so that this test can fail.
    plain = dlild("score", folder, "--url", server.url, "--out", tmp_path / "plain", "--sr")
    assert plain.returncode == 0, plain.stderr
    content = unpacked(tmp_path / "plain" / "sr.dcm")
    assert sum(secret.encode() in content for secret in secrets) > 60
    verified = out if command == "score" else next((out / "images").iterdir())
    assert dlild("verify", verified).returncode == 0


def test_what_cannot_be_done_is_one_line_before_a_scan_is_sent(server, chest, tmp_path):
    image = write_image(chest, tmp_path / "ct.nii.gz")
    out = tmp_path / "out"
    done = dlild("score", image, "--url", server.url, "--out", out, "--seg", "--sr")
    assert_one_line(done, 3, "ct.nii.gz: no DICOM series that SEG")
    done = dlild("score", image, "--url", server.url, "--seg")
    assert_one_line(done, 2, "--seg needs --out")
    done = dlild("score", image, "--url", server.url, "--store", "--anonymous")
    assert_one_line(done, 2, "--store")
    assert not server.sequence_ids
    assert not out.exists()


@pytest.fixture
def written(server, series_writer, chest, tmp_path) -> Path:
    folder = series_writer.write(chest)
    with Client(server.url) as client:
        result = client.score(lambda: read_volume(folder, with_source=True))
    write_result(result, tmp_path / "out", object_files(result, ("seg", "sr", "capture")))
    return tmp_path / "out"


def differing(folder: Path, **options) -> set[str]:
    return {check.what for check in verify_result(folder, **options) if check.agrees is False}


def edit_dicom(path: Path, edit) -> None:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path, enforce_file_format=True)


def flip(dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[len(pixels) // 2] ^= 1
    dataset.PixelData = bytes(pixels)


@pytest.fixture
def tried(written, tmp_path):
    """What differs after a change of a copy."""
    assert differing(written) == set()

    def after(change) -> set[str]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(written, copy)
        change(copy)
        return differing(copy)

    return after


def test_every_change_is_found(tried):
    def in_json(**fields):
        def change(folder):
            path = folder / "result.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | fields))

        return change

    def labels(folder):
        volume = read_stored(folder).labels()
        array = volume.array.copy()
        array[tuple(np.argwhere(array == 1)[0])] = 2
        write_nifti(volume.with_array(array), folder / "labels.nii.gz")

    def number(dataset):
        group = next(i for i in dataset.ContentSequence if i.ValueType == "CONTAINER")
        item = next(i for i in group.ContentSequence[0].ContentSequence if i.ValueType == "NUM")
        item.MeasuredValueSequence[0].NumericValue = "1.5"

    assert tried(in_json(windows=99)) >= {"result.json, its digest"}
    assert tried(in_json(dl_ild_percent=1.0)) >= {"result.json, its digest", "score"}
    assert tried(in_json(timings_s={})) == set()
    assert "labels.nii.gz" in tried(labels)
    assert tried(lambda f: edit_dicom(f / "seg.dcm", flip)) == {"seg.dcm, pixels"}
    assert tried(lambda f: edit_dicom(f / "sr.dcm", number)) == {"sr.dcm, measurements"}
    assert tried(lambda f: (f / "seg.dcm").write_bytes(b"broken")) == {"seg.dcm"}
    assert tried(lambda f: edit_dicom(f / "capture.dcm", flip)) == {"capture.dcm, pixels"}


def test_every_change_of_what_an_object_says_is_found(written, tried):
    def shifted(dataset):
        for group in dataset.PerFrameFunctionalGroupsSequence:
            position = group.PlanePositionSequence[0]
            x, y, z = position.ImagePositionPatient
            position.ImagePositionPatient = [x + 6, y, z]

    def renamed(dataset):
        first, second = dataset.SegmentSequence[:2]
        first.SegmentLabel, second.SegmentLabel = second.SegmentLabel, first.SegmentLabel

    def of_a_zone(dataset):
        (container,) = [i for i in dataset.ContentSequence if i.ValueType == "CONTAINER"]
        items = container.ContentSequence[-1].ContentSequence
        mass = [
            i
            for i in items
            if i.ValueType == "NUM" and i.ConceptNameCodeSequence[0].CodeValue == "4147007"
        ]
        mass[0].MeasuredValueSequence[0].NumericValue = "999"

    def without_flags(dataset):
        dataset.ContentSequence = [
            i for i in dataset.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue != "121106"
        ]

    assert tried(lambda f: edit_dicom(f / "seg.dcm", shifted)) == {"seg.dcm, label map"}
    assert tried(lambda f: edit_dicom(f / "seg.dcm", renamed)) == {"seg.dcm, segments"}
    assert tried(lambda f: edit_dicom(f / "sr.dcm", of_a_zone)) == {"sr.dcm, measurements"}
    assert json.loads((written / "result.json").read_text())["flags"]
    assert tried(lambda f: edit_dicom(f / "sr.dcm", without_flags)) == {"sr.dcm, flags"}


@pytest.mark.parametrize(
    "fault",
    [{"provenance": None}, {"provenance": {"scan": 3}}, {"classes": []}, {"zones": {"a": {}}}],
)
def test_a_document_with_missing_fields_is_one_line(written, fault):
    path = written / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fault))
    with pytest.raises(InputError, match=r"result\.json") as error:
        verify_result(written, read_scan=None)
    assert "\n" not in str(error.value)


def test_objects_of_another_result_another_scan_and_other_weights_are_found(
    server, written, series_writer, chest, tmp_path
):
    denser = replace(chest, array=chest.array + np.int16(7))
    other = series_writer.write(denser, "other")
    with Client(server.url) as client:
        result = client.score(lambda: read_volume(other, with_source=True))
    write_result(result, tmp_path / "second", object_files(result, ("seg", "sr", "capture")))
    for name in ("seg.dcm", "sr.dcm", "capture.dcm"):
        shutil.copy(tmp_path / "second" / name, written / name)
    assert differing(written) >= {"seg.dcm, result", "sr.dcm, result", "capture.dcm, result"}
    (tmp_path / "weights.onnx").write_bytes(b"other")
    found = differing(
        written, read_scan=lambda: read_volume(other), weights=tmp_path / "weights.onnx"
    )
    assert found >= {"scan", "preprocessing", "weights"}


def test_verify_says_in_one_line_what_is_no_result(tmp_path):
    assert_one_line(dlild("verify", tmp_path / "nothing"), 2, "nothing")


def test_a_batch_writes_objects_and_names_what_has_no_series(
    server, series_writer, chest, tmp_path
):
    root = tmp_path / "tree"
    shutil.copytree(series_writer.write(chest, "SECRET-FOLDER"), root / "SECRET-FOLDER")
    write_image(chest, root / "SECRET.nii.gz")
    out = tmp_path / "out"
    done = dlild("batch", root, "--url", server.url, "--out", out, "--seg", "--sr", "--anonymous")
    assert done.returncode == 0, done.stderr
    assert "no DICOM series" in done.stderr
    assert "SECRET" not in done.stdout + done.stderr
    folders = {p.name: {f.name for f in p.iterdir()} for p in (out / "images").iterdir()}
    files = {"result.json", "labels.nii.gz", "overlay.png"}
    assert sorted(folders.values(), key=len) == [files, files | {"seg.dcm", "sr.dcm"}]
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == ["", ""]
    for path in out.rglob("*"):
        if path.is_file():
            assert b"SECRET" not in path.read_bytes(), path.name
    for name in folders:
        assert dlild("verify", out / "images" / name).returncode == 0


def test_no_measurement_of_a_report_can_be_changed(written, tmp_path, monkeypatch):
    shutil.copy(written / "result.json", tmp_path)
    report = pydicom.dcmread(written / "sr.dcm")
    container = next(i for i in report.ContentSequence if i.ValueType == "CONTAINER")
    numbers = [
        item.MeasuredValueSequence[0]
        for group in container.ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]
    assert len(numbers) > 100
    made: list[Any] = []
    make = sr_report.report_content

    def once(*arguments: Any) -> Any:
        """Make the content again for the first number only: the document stays as it is."""
        made.extend([] if made else [make(*arguments)])
        return made[0]

    monkeypatch.setattr(sr_report, "report_content", once)
    for number in numbers:
        before = number.NumericValue
        number.NumericValue = str(round(float(before) + 1, 6))
        report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        wrong = [check.what for check in verify_result(tmp_path) if check.agrees is False]
        assert wrong == ["sr.dcm, measurements"]
        number.NumericValue = before
