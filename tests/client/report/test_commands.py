"""`dlild score --report` and `dlild report`, as they are typed."""

from __future__ import annotations

import json

import pytest
from client.commands import assert_one_line, dlild

from dlild_client.results.files import write_nifti


@pytest.fixture
def scored_folder(server, small, tmp_path):
    write_nifti(small, tmp_path / "scan.nii.gz")
    done = dlild(
        "score",
        tmp_path / "scan.nii.gz",
        "--url",
        server.url,
        "--out",
        tmp_path / "out",
        "--report",
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


def test_a_report_is_written_with_the_score_and_again_afterwards(scored_folder, tmp_path):
    names = {"result.json", "labels.nii.gz", "overlay.png", "report.html"}
    assert {p.name for p in scored_folder.iterdir()} == names
    first = (scored_folder / "report.html").read_text("utf-8")
    again = dlild("report", scored_folder, "--scan", tmp_path / "scan.nii.gz")
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == str(scored_folder / "report.html")
    # The same page, from the files: scan and label map are those that were scored.
    assert (scored_folder / "report.html").read_text("utf-8") == first


def test_without_the_scan_the_picture_stands_in_for_the_viewer(scored_folder, tmp_path):
    done = dlild("report", scored_folder, "--out", tmp_path / "a" / "x.html", "--language", "zh")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "--scan SCAN" in done.stderr
    page = (tmp_path / "a" / "x.html").read_text("utf-8")
    assert "data:image/jpeg" in page
    assert "data-scan" not in page
    (scored_folder / "overlay.png").unlink()
    assert dlild("report", scored_folder / "result.json").returncode == 0
    assert "data:image/jpeg" not in (scored_folder / "report.html").read_text("utf-8")


def test_a_blind_page_is_a_file_of_its_own(scored_folder, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    done = dlild("report", scored_folder, "--scan", scan, "--blind", "--id", "P-17")
    assert done.returncode == 0, done.stderr
    page = (scored_folder / "reading.html").read_text("utf-8")
    assert 'value="P-17"' in page
    assert "data:image/jpeg" not in page
    assert_one_line(dlild("report", scored_folder, "--blind"), 2, "--blind needs --scan")


def test_what_cannot_be_reported_ends_in_one_line(
    scored_folder, tmp_path, chest, chest_maker, server
):
    scan = tmp_path / "scan.nii.gz"
    missing = dlild("report", tmp_path / "nowhere")
    assert_one_line(missing, 2, "nowhere: no such file or folder")
    assert_one_line(dlild("report", tmp_path), 2, "no result.json there")
    for name in ("result.json", "sr.dcm"):
        refused = dlild("report", scored_folder, "--out", scored_folder / name)
        assert_one_line(refused, 2, f"{name} is another output of a result")
    assert_one_line(dlild("report", scan), 3, "scan.nii.gz: not JSON")
    language = dlild("report", scored_folder, "--language", "de")
    assert_one_line(language, 2, "no language 'de'")
    scoring = dlild("score", scan, "--url", server.url, "--report")
    assert_one_line(scoring, 2, "--report needs --out")
    write_nifti(chest_maker(spacing=(4.0, 3.1, 3.0)), tmp_path / "other.nii.gz")
    other = dlild("report", scored_folder, "--scan", tmp_path / "other.nii.gz")
    assert_one_line(other, 3, "the scan is not the one that result.json is of")
    target = dlild("report", scored_folder, "--out", scored_folder / "result.json" / "x.html")
    assert_one_line(target, 1, "cannot be written")
    labels = scored_folder / "labels.nii.gz"
    whole = labels.read_bytes()
    labels.write_bytes(whole[: len(whole) // 2])
    cut = dlild("report", scored_folder, "--scan", scan)
    assert_one_line(cut, 3, "labels.nii.gz")
    write_nifti(chest, labels)
    assert_one_line(dlild("report", scored_folder, "--scan", scan), 3, "labels.nii.gz")
    labels.unlink()
    assert_one_line(dlild("report", scored_folder, "--scan", scan), 3, "no labels.nii.gz there")
    (scored_folder / "overlay.png").write_bytes(b"no picture")
    assert_one_line(dlild("report", scored_folder), 3, "overlay.png: not a picture")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {**d, "schema_version": 2}, "schema_version 2"),
        (lambda d: [d], "not the result of a scan"),
        (lambda d: {"key": "x"}, "not the result of a scan"),
        (lambda d: {k: v for k, v in d.items() if k != "zones"}, "lacks the field 'zones'"),
        (lambda d: {k: v for k, v in d.items() if k != "grid"}, "lacks the field 'grid'"),
        (lambda d: {k: v for k, v in d.items() if k != "series"}, "lacks the field 'series'"),
        (lambda d: {**d, "series": None}, "a field of a wrong type"),
        (lambda d: {**d, "flags": None}, "a field of a wrong type"),
    ],
)
def test_a_file_that_is_no_result_ends_in_one_line(scored, tmp_path, change, words):
    (tmp_path / "result.json").write_text(json.dumps(change(scored.to_dict())), "utf-8")
    assert_one_line(dlild("report", tmp_path), 3, words)
