"""Many scans into one folder: found, scored once, recorded whole, whatever kills the run."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from dlild_client import Client, Retries, Timeout
from dlild_client.batch.record import ROWS, Record
from dlild_client.batch.run import run_batch
from dlild_client.batch.scans import BatchScan, find_scans
from dlild_client.errors import (
    BadSettingsError,
    ConnectionFailedError,
    ContractError,
    DlildError,
    KeyRefusedError,
    NoSeriesError,
    UnreadableFileError,
)
from dlild_client.results.files import write_nifti

ROOT = Path(__file__).parents[3]
SOON = Retries(attempts=3, first_wait_s=0.05, longest_wait_s=0.1)


@pytest.fixture
def tree(tmp_path, small):
    """Write `count` NIfTI scans, each with lungs of its own density."""

    def write(count):
        for number in range(count):
            hu = np.where(small.array == -820, -700 + number, small.array).astype(np.int16)
            folder = tmp_path / "cohort" / f"patient {number:02d}"
            folder.mkdir(parents=True)
            write_nifti(small.with_array(hu), folder / "scan.nii.gz")
        return tmp_path / "cohort"

    return write


def rows_of(out):
    with (out / ROWS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def batch(server, place, out, **settings):
    with Client(server.url, retries=SOON) as client:
        return run_batch(client, place, out, **settings)


def test_a_tree_becomes_rows_and_json_files(server, tree, tmp_path):
    place, out = tree(3), tmp_path / "out"
    (place / "patient 01" / "letter.txt").write_text("Dear all")
    (place / "patient 02" / "broken.nii.gz").write_bytes(b"no image")

    summary = batch(server, place, out)

    assert summary.counts == {"scored": 3, "rejected": 1}
    assert summary.errors == {"UnreadableFile": 1}
    assert summary.exit_code == 3
    rows = rows_of(out)
    assert sorted(row["scan"] for row in rows) == [
        "patient 00/scan.nii.gz",
        "patient 01/scan.nii.gz",
        "patient 02/broken.nii.gz",
        "patient 02/scan.nii.gz",
    ]
    for row in rows:
        scored = row["status"] == "scored"
        stored = json.loads(
            (out / ("scans" if scored else "failed") / f"{row['key']}.json").read_text()
        )
        assert stored["key"] == row["key"]
        if scored:
            assert float(row["dl_ild_percent"]) == pytest.approx(stored["dl_ild_percent"], rel=1e-5)
            assert row["weights_digest"].startswith("sha256:")
            assert row["engine"] == "openvino"
            total = sum(float(v) for k, v in row.items() if k.endswith("_lung_ml"))
            assert total == pytest.approx(float(row["lung_volume_ml"]), rel=1e-4)
        else:
            assert (row["error"], row["dl_ild_percent"]) == ("UnreadableFile", "")
            assert row["message"] == stored["message"]
    names = [p.name for p in out.rglob("*")]
    assert not [name for name in names if "patient" in name]


def test_what_has_its_row_is_not_scored_again(server, tree, tmp_path):
    place, out = tree(3), tmp_path / "out"
    batch(server, place, out)
    before = (out / ROWS).read_bytes()
    sent = len(server.sequence_ids)

    summary = batch(server, place, out)

    assert (summary.before, sum(summary.counts.values()), summary.exit_code) == (3, 0, 0)
    assert (out / ROWS).read_bytes() == before
    assert len(server.sequence_ids) == sent


def test_half_a_row_is_dropped_and_a_json_file_without_a_row_gets_it(server, tree, tmp_path):
    place, out = tree(4), tmp_path / "out"
    batch(server, place, out)
    whole = (out / ROWS).read_bytes()
    lines = whole.splitlines(keepends=True)
    sent = len(server.sequence_ids)

    # Killed in the middle of the third row, and the JSON file of the fourth scan was not yet there.
    last = next(csv.DictReader([lines[0].decode(), lines[4].decode()]))["key"]
    (out / "scans" / f"{last}.json").unlink()
    (out / ROWS).write_bytes(b"".join(lines[:3]) + lines[3][:20])
    summary = batch(server, place, out)

    assert len(server.sequence_ids) == sent + 1
    assert (summary.before, summary.counts["scored"]) == (3, 1)
    rows = rows_of(out)
    assert len({row["key"] for row in rows}) == len(rows) == 4
    assert all(None not in row and None not in row.values() for row in rows)


def dlild_batch(server, place, out):
    path = os.pathsep.join([str(ROOT / "client" / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "dlild_client.cli", "batch", place, "--out", out, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "DLILD_URL": server.url},
    )


def test_twenty_scans_and_two_kills_make_twenty_rows(server, tree, tmp_path):
    place, out = tree(20), tmp_path / "out"
    server.delay_s = 0.05
    chance = random.Random(7)
    done = 0
    for least in (chance.randint(2, 5), chance.randint(7, 10)):
        running = dlild_batch(server, place, out)
        deadline = time.monotonic() + 120
        while done < least and time.monotonic() < deadline:
            time.sleep(chance.uniform(0, 0.1))
            done = (out / ROWS).read_bytes().count(b"\n") - 1 if (out / ROWS).exists() else 0
        running.kill()
        running.communicate()
    assert 7 <= done < 20

    last = dlild_batch(server, place, out)
    told, errors = last.communicate(timeout=200)

    assert (last.returncode, errors) == (0, "")
    rows = rows_of(out)
    assert (
        len(rows) == len({row["key"] for row in rows}) == len({row["scan"] for row in rows}) == 20
    )
    assert {row["status"] for row in rows} == {"scored"}
    summary = json.loads(told)
    assert summary["done_before"] + summary["scored"] == 20
    # Only what was under way at a kill was sent again.
    assert len(server.sequence_ids) <= 20 + 2 * 3


def test_a_scan_is_read_and_sent_while_another_waits_for_its_answer(server, tree, tmp_path):
    place = tree(10)
    two_are_open = threading.Barrier(2, timeout=60)

    def in_pairs(index, response):
        if index == 0:
            two_are_open.wait()
        return [response]

    server.fault = in_pairs

    assert batch(server, place, tmp_path / "out").counts == {"scored": 10}
    assert not two_are_open.broken


def test_a_failed_scan_has_its_row_and_is_tried_again_when_asked(server, tree, tmp_path):
    place, out = tree(2), tmp_path / "out"
    server.fault = lambda i, r: []
    with Client(server.url, timeout=Timeout(answer_s=0.3), retries=Retries(attempts=1)) as client:
        summary = run_batch(client, place, out)
    assert summary.errors == {"TimedOut": 2}
    assert summary.exit_code == 1
    server.fault = None

    assert batch(server, place, out).before == 2
    assert [row["status"] for row in rows_of(out)] == ["failed", "failed"]
    assert batch(server, place, out, again=True).counts["scored"] == 2
    assert [row["status"] for row in rows_of(out)] == ["scored", "scored"]
    assert not list((out / "failed").iterdir())


def test_a_lost_server_ends_the_run_and_the_next_goes_on(server, tree, tmp_path):
    place, out = tree(4), tmp_path / "out"

    def finished(scan, status):
        if len(rows_of(out)) == 2:
            server.stop()

    with pytest.raises(ConnectionFailedError):
        batch(server, place, out, concurrency=1, finished=finished)
    assert [row["status"] for row in rows_of(out)] == ["scored"] * 2
    server.start()

    summary = batch(server, place, out)
    assert (summary.before, summary.counts["scored"]) == (2, 2)


def test_a_wrong_key_ends_the_run_without_a_row(server, tree, tmp_path):
    place, out = tree(2), tmp_path / "out"
    server.key = "right"
    with pytest.raises(KeyRefusedError):
        batch(server, place, out)
    assert not out.exists()


def test_scores_of_two_models_never_mix(server, tree, tmp_path):
    place, out = tree(3), tmp_path / "out"
    raw = json.loads(server.parameters["contract"])
    raw["model"]["weights_sha256"] = "ab" * 32
    other = {**server.parameters, "contract": json.dumps(raw)}

    def finished(scan, status):
        server.parameters = other

    with pytest.raises(ContractError, match="another model"):
        batch(server, place, out, concurrency=1, finished=finished)
    assert len(rows_of(out)) == 1
    with pytest.raises(BadSettingsError, match="another model"):
        batch(server, place, out)
    assert batch(server, place, tmp_path / "other").counts["scored"] == 3


def test_one_run_at_a_time_writes_into_a_folder(server, tmp_path):
    first = Record(tmp_path / "out", server.contract)
    with first, pytest.raises(BadSettingsError, match="another run"):
        Record(tmp_path / "out", server.contract)
    with Record(tmp_path / "out", server.contract) as second:
        assert not second.is_done("k")


def test_a_folder_that_cannot_be_written_is_reported(server, tree, tmp_path):
    place = tree(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DlildError, match="file: cannot be written"):
        batch(server, place, tmp_path / "file")


def test_cells_are_no_formulas(server, tmp_path):
    scan = BatchScan('=HYPERLINK("x")\n', tmp_path)
    with Record(tmp_path / "out", server.contract) as record:
        record.add(scan, "k1", UnreadableFileError("+1 is wrong"))
    (row,) = rows_of(tmp_path / "out")
    assert row["scan"].startswith("'=")
    assert row["message"] == "'+1 is wrong"


def names(place, **settings):
    return sorted(scan.name for scan in find_scans(place, **settings))


def test_a_study_over_several_folders_is_one_scan(series_writer, small):
    root = series_writer.folder
    for patient in ("a", "b"):
        series_writer.study = generate_uid()
        for name in ("scout", "lung", "soft"):
            series_writer.write(small, f"{patient}/study/{name}")
    series_writer.study = generate_uid()
    series_writer.write(small, "b/later")
    assert names(root) == ["a/study", "b/later", "b/study"]
    assert all(scan.read().shape == small.shape for scan in find_scans(root))


def test_folders_below_the_root_and_copies_are_scans_of_their_own(series_writer, small):
    root = series_writer.folder
    one = series_writer.write(small, "one")
    series_writer.write(small, "two")  # of the same study
    shutil.copytree(one, root / "copy")
    for number in range(2):
        shutil.copytree(one, root / "deep" / f"copy{number}")
    (root / "link").symlink_to(one)
    (root / "deep" / "loop").symlink_to(root)
    found = list(find_scans(root))
    assert sorted(s.name for s in found) == [
        "copy", "deep/copy0", "deep/copy1", "link", "one", "two",
    ]  # fmt: skip
    assert len({scan.key() for scan in found}) == 6


def test_studies_that_share_a_folder_are_scans_of_their_own(series_writer, small):
    (series_writer.folder / "dump").mkdir(parents=True)
    for name in ("a", "b"):
        series_writer.study = generate_uid()
        for path in series_writer.write(small, name).iterdir():
            path.rename(series_writer.folder / "dump" / f"{path.stem}-{name}.dcm")
    found = list(find_scans(series_writer.folder))
    assert [scan.name for scan in found] == ["dump", "dump"]
    assert [len(scan.files) for scan in found] == [30, 30]
    assert len({scan.key() for scan in found}) == 2
    assert [scan.read().shape for scan in found] == [small.shape] * 2


def test_the_folder_for_the_results_is_no_input(tree, tmp_path, small):
    place = tree(1)
    (place / "out").mkdir()
    write_nifti(small, place / "out" / "labels.nii.gz")
    assert names(place, leave_out=place / "out") == ["patient 00/scan.nii.gz"]


def test_a_key_follows_the_contents_and_the_path(tree):
    place = tree(2)
    first, second = find_scans(place)
    key = first.key()
    assert key == next(find_scans(place)).key() != second.key()
    shutil.copy(second.path, first.path)
    assert next(find_scans(place)).key() != key


def test_a_list_names_paths_ids_and_series(server, tree, series_writer, small, tmp_path):
    place = tree(2)
    dicom = series_writer.write(small, "ct")
    lines = [
        "id,path,note",
        "S-001,patient 00/scan.nii.gz,first",
        f"S-002,{dicom},second",
        "S-003,absent,third",
    ]
    (place / "list.csv").write_text("\n".join(lines), encoding="utf-8")

    summary = batch(server, place / "list.csv", tmp_path / "out", images=True)

    assert summary.counts == {"scored": 2, "rejected": 1}
    assert {row["id"]: row["status"] for row in rows_of(tmp_path / "out")} == {
        "S-001": "scored", "S-002": "scored", "S-003": "rejected",
    }  # fmt: skip
    assert (tmp_path / "out/scans/S-001.json").is_file()
    assert (tmp_path / "out/images/S-001/overlay.png").is_file()
    assert (tmp_path / "out/failed/S-003.json").is_file()


def test_an_id_of_another_scan_than_before_has_the_row_and_files_of_the_new_one(
    server, tree, tmp_path
):
    place, out, lines = tree(2), tmp_path / "out", []

    def run(path):
        (place / "list.csv").write_text(f"id,path\nS-001,{path}\n", encoding="utf-8")
        return batch(
            server, place / "list.csv", out, images=True, report="en", notify=lines.append
        ).counts

    def files():
        names = (path.relative_to(out) for path in out.rglob("*S-001*"))
        return {name.as_posix() for name in names}

    assert run("patient 00/scan.nii.gz") == {"scored": 1}
    (first,) = rows_of(out)
    scored = files()
    assert {"scans/S-001.json", "images/S-001", "reports/S-001.html"} <= scored
    assert not lines

    assert run("patient 01/scan.nii.gz") == {"scored": 1}
    (second,) = rows_of(out)
    assert second["series_digest"] != first["series_digest"]
    assert json.loads((out / "scans/S-001.json").read_text())["key"] == second["key"]
    assert lines == ["S-001: the id of another scan before, whose row is replaced"]

    assert run("absent") == {"rejected": 1}
    assert [row["status"] for row in rows_of(out)] == ["rejected"]
    assert files() == {"failed/S-001.json"}

    # The former scan is scored again, as its row has gone.
    assert run("patient 00/scan.nii.gz") == {"scored": 1}
    assert [row["key"] for row in rows_of(out)] == [first["key"]]
    assert files() == scored


def test_a_run_that_is_killed_between_json_file_and_row_replaces_the_row_of_the_id(
    server, tree, tmp_path
):
    place, out = tree(2), tmp_path / "out"
    (place / "list.csv").write_text("id,path\nS-001,patient 00/scan.nii.gz\n", encoding="utf-8")
    batch(server, place / "list.csv", out)
    before = (out / ROWS).read_bytes()
    (place / "list.csv").write_text("id,path\nS-001,patient 01/scan.nii.gz\n", encoding="utf-8")
    batch(server, place / "list.csv", out)
    after = (out / ROWS).read_bytes()

    (out / ROWS).write_bytes(before)
    assert batch(server, place / "list.csv", out).before == 1
    assert (out / ROWS).read_bytes() == after


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file\nx\n", "no column path"),
        ("", "no column path"),
        ("id,path\na,x\na,y\n", "line 3: the id a is there twice"),
        ("id,path\n../a,x\n", "line 2: the id is no file name"),
        ("path\n \n", "line 2: the path is empty"),
    ],
)
def test_a_list_that_is_none_is_reported_by_line(tmp_path, text, words):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(BadSettingsError, match=words):
        list(find_scans(tmp_path / "list.csv"))


def test_a_dicomdir_gives_its_studies(series_writer, small, tmp_path):
    from pydicom.fileset import FileSet  # noqa: PLC0415

    def dated(ds, i):
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "120000", "1", ""

    medium = FileSet()
    for _ in range(2):
        series_writer.study = generate_uid()
        for path in series_writer.write(small, series_writer.study, dated).iterdir():
            medium.add(path)
    medium.write(tmp_path / "medium")
    found = list(find_scans(tmp_path / "medium" / "DICOMDIR"))
    assert len(found) == 2
    assert [scan.read().shape for scan in found] == [small.shape] * 2


def test_a_list_that_is_none_is_reported_before_an_absent_server(server, tmp_path):
    server.stop()
    (tmp_path / "list.csv").write_text("id,where\n1,a\n")
    with pytest.raises(BadSettingsError, match="no column path"):
        batch(server, tmp_path / "list.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_paths_without_scans_are_reported(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear all")
    with pytest.raises(NoSeriesError, match="no scan in it"):
        list(find_scans(tmp_path))
    with pytest.raises(UnreadableFileError, match="neither a folder"):
        list(find_scans(tmp_path / "letter.txt"))
    with pytest.raises(UnreadableFileError, match="no such file"):
        list(find_scans(tmp_path / "absent"))
