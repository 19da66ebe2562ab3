"""Lists and records as people and spreadsheets save them, and names that are no UTF-8."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from dlild_client import Client
from dlild_client.batch.record import DENSITY_COLUMNS, ROWS, Record
from dlild_client.batch.run import run_batch
from dlild_client.batch.scans import BatchScan, find_scans, read_list
from dlild_client.batch.tables import read_table
from dlild_client.errors import BadSettingsError, DlildError, UnreadableFileError
from dlild_client.results.files import write_nifti


@pytest.fixture
def tree(tmp_path, small):
    """Three scans, each with lungs of its own density."""
    for number in range(3):
        hu = np.where(small.array == -820, -700 + number, small.array).astype(np.int16)
        folder = tmp_path / "cohort" / f"p{number}"
        folder.mkdir(parents=True)
        write_nifti(small.with_array(hu), folder / "ct.nii.gz")
    return tmp_path / "cohort"


def batch(server, place, out, **settings):
    with Client(server.url) as client:
        return run_batch(client, place, out, **settings)


def rows_of(out):
    with (out / ROWS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


LISTS = {
    "plain": b"path,id\na/ct.nii,P1\n",
    "semicolons": b"path;id\na/ct.nii;P1\n",
    "Unicode text of Excel": "path\tid\r\na/ct.nii\tP1\r\n".encode("utf-16"),
    "UTF-16 without a mark": "path\tid\na/ct.nii\tP1\n".encode("utf-16-le"),
    "UTF-8 with a mark, CRLF, empty rows": b"\xef\xbb\xbfpath,id\r\na/ct.nii,P1\r\n,\r\n\r\n",
    "upper case and spaces": b"Path , ID\n a/ct.nii , P1 \n",
    "quoted": b'"path", "id"\n"a/ct.nii", "P1"\n',
    "another order, a note": "note;id;PATH\nMüller;P1;a/ct.nii\n".encode("cp1252"),
    "cells behind the last column": b"path,id,,\na/ct.nii,P1,,\n",
    "sep=": b"sep=;\r\npath;id\r\na/ct.nii;P1\r\n",
    "empty lines first": b"\n\npath,id\na/ct.nii,P1\n",
    "lines of an old Mac": b"path,id\ra/ct.nii,P1\r",
    "separators of Windows": b"path,id\na\\ct.nii,P1\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_is_read_however_it_was_saved(tmp_path, kind):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "ct.nii").touch()
    (tmp_path / "list.csv").write_bytes(LISTS[kind])
    (scan,) = read_list(tmp_path / "list.csv")
    assert scan.path.samefile(tmp_path / "a" / "ct.nii")
    assert (scan.id, scan.series) == ("P1", None)


def test_names_in_the_code_page_of_the_list_and_home_folders_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = "Müller.nii".encode("cp1252")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    (tmp_path / "home.nii").touch()
    (tmp_path / "list.csv").write_bytes(b"path\n" + name + b"\n~/home.nii\n")
    first, second = read_list(tmp_path / "list.csv")
    assert first.path.exists()
    assert second.path.exists()
    assert first.name == "Müller.nii"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04 and so on", "a workbook or an archive, not text; save it as CSV"),
        (b"path\n\x00\x01\x00\x02\n", "not a table of text"),
        (b"file;id\nx;1\n", "no column path; the first line must name it, and it is 'file;id'"),
        (b"path,id\na/b,c.nii,P1\n", "line 2: 3 cells for 2 columns; put quotes round"),
        (b'path,id\n"a,P1\nb,P2\n', "line 3: unexpected end of data; look at its quotes"),
        (b"path,Path\na,b\n", "the column path is there 2 times"),
        (b"path,id\n,P1\n", "line 2: the path is empty"),
        (b"path,id\n\na,X\n\nb,X\n", "line 5: the id X is there twice, first in line 3"),
    ],
)
def test_a_list_that_cannot_be_read_is_reported_by_line(tmp_path, data, words):
    (tmp_path / "list.csv").write_bytes(data)
    with pytest.raises(BadSettingsError, match="list") as told:
        read_list(tmp_path / "list.csv")
    assert words in str(told.value)


def test_a_path_that_is_there_twice_is_reported(tmp_path):
    (tmp_path / "ct.nii").touch()
    (tmp_path / "list.csv").write_text(
        f"path,id,series\nct.nii,,\n./ct.nii,,\nct.nii,P2,\nct.nii,,7\n{tmp_path}/ct.nii,P2b,\n"
    )
    said: list[str] = []
    scans = read_list(tmp_path / "list.csv", said.append)
    assert [(scan.name, scan.id, scan.series) for scan in scans] == [
        ("ct.nii", "", None), ("ct.nii", "P2", None), ("ct.nii", "", "7"),
        (f"{tmp_path}/ct.nii", "P2b", None),
    ]  # fmt: skip
    assert said == [
        "list.csv, line 3: the same path as in line 2; it is scored once",
        "list.csv, line 4: the same path as in line 2, under another id; it is scored for both",
        "list.csv, line 6: the same path as in line 2, under another id; it is scored for both",
    ]


def test_two_patients_in_one_folder_have_two_ids(server, series_writer, small, tmp_path):
    """Their files lie between one another; the second has few."""
    folder = series_writer.write(small, "in/dump")
    series_writer.study = generate_uid()

    def other(ds, i):
        ds.PatientID = "OTHER"

    for path in series_writer.write(small, "other", other).iterdir():
        path.rename(folder / f"{path.stem}-other.dcm")
    place = series_writer.folder / "in"
    found = list(find_scans(place))
    assert len({scan.part for scan in found}) == 2

    batch(server, place, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["scan"] for row in rows] == ["dump", "dump"]
    assert {row["id"] for row in rows} == {scan.part for scan in found}
    assert all(row["id"].startswith("study-") for row in rows)
    assert batch(server, place, tmp_path / "out").before == 2


def test_a_few_files_of_another_patient_are_found_wherever_they_lie(series_writer, small):
    folder = series_writer.write(small, "dump")
    stranger = next(path for path in sorted(folder.iterdir())[3:])
    series_writer.study = generate_uid()
    for path in list(series_writer.write(small, "other").iterdir())[:2]:
        path.rename(folder / f"{stranger.stem}-{path.name}")
    found = list(find_scans(series_writer.folder))
    assert sorted(len(scan.files) for scan in found if scan.name == "dump") == [2, 30]


def as_text(rows, **how):
    out = io.StringIO(newline="")
    csv.writer(out, **how).writerows(rows)
    return out.getvalue()


def resaved(rows):
    """The same rows as other programs save them."""
    noted = [[*row, note] for row, note in zip(rows, ["note", "x", "", "y"], strict=True)]
    turned = [row[3:] + row[:3] for row in rows]
    rounded = [[re.sub(r"^(\d+\.\d)\d+$", r"\1", cell) for cell in row] for row in rows]
    return {
        "mark and CRLF": ("\ufeff" + as_text(rows)).encode(),
        "semicolons": as_text(rows, delimiter=";").encode("cp1252"),
        "semicolons, numbers cut": as_text(rounded, delimiter=";").encode("cp1252"),
        "Unicode text": as_text(rows, delimiter="\t").encode("utf-16"),
        "another order of columns": as_text(turned, lineterminator="\n").encode(),
        "a column of notes": as_text(noted, lineterminator="\n").encode(),
        "no last line end": as_text(rows, lineterminator="\n").encode().rstrip(),
        "other order of rows": as_text([rows[0], *rows[:0:-1]], delimiter=";").encode(),
    }


def test_a_record_saved_by_another_program_is_gone_on_with(server, tree, tmp_path):
    out = tmp_path / "out"
    batch(server, tree, out)
    before = {row["key"]: row for row in rows_of(out)}
    original = (out / ROWS).read_bytes()
    sent = len(server.sequence_ids)
    for kind, data in resaved(list(csv.reader(original.decode().splitlines()))).items():
        (out / ROWS).write_bytes(data)
        said: list[str] = []

        summary = batch(server, tree, out, notify=said.append)

        assert (kind, summary.before, summary.exit_code) == (kind, 3, 0)
        after = rows_of(out)
        notes = [row.pop("note", "") for row in after]
        assert {row["key"]: row for row in after} == before, kind
        assert (sorted(notes) == ["", "x", "y"]) == (kind == "a column of notes")
        quiet = {"no last line end", "a column of notes"}
        assert (len(said) == 1) == (kind not in quiet), (kind, said)
        # The next run finds a file of its own again.
        assert batch(server, tree, out, notify=said.append).before == 3
        assert len(said) <= 1
        (out / ROWS).write_bytes(original)
    assert len(server.sequence_ids) == sent


def test_what_a_spreadsheet_damaged_is_reported_and_read_from_the_json_files(
    server, tree, tmp_path
):
    out = tmp_path / "out"
    batch(server, tree, out)
    before = {row["key"]: row for row in rows_of(out)}
    rows = list(csv.reader((out / ROWS).read_text().splitlines()))
    rows[1][0] = "1.23E+15"
    (out / ROWS).write_text(as_text(rows, delimiter=";"))
    said: list[str] = []

    summary = batch(server, tree, out, notify=said.append)

    assert summary.before == 3
    assert {row["key"]: row for row in rows_of(out)} == before
    assert "1 whose key or status was changed are left out" in said[0]

    (out / ROWS).write_text(as_text([row[:5] + row[6:] for row in rows]))
    with pytest.raises(BadSettingsError, match="lacks the column message"):
        batch(server, tree, out)


def test_densitometry_of_the_lung_is_in_the_row_and_an_older_table_gets_it(server, tree, tmp_path):
    out = tmp_path / "out"
    batch(server, tree, out)
    before = rows_of(out)
    for row in before:
        (path,) = (out / "scans").glob(f"{row['id'] or row['key']}.json")
        lung = json.loads(path.read_text("utf-8"))["densitometry"]["lung"]
        assert float(row["density_mean_hu"]) == pytest.approx(lung["mean_hu"], rel=1e-5)
        assert float(row["density_percentile_15_hu"]) == lung["percentiles_hu"]["15"]
        share = lung["high_attenuation_percent"]
        assert float(row["density_high_attenuation_percent"]) == pytest.approx(share, rel=1e-5)
        assert float(row["density_mass_g"]) == pytest.approx(lung["mass_g"], rel=1e-5)
    kept = [name for name in before[0] if not name.startswith("density_")]
    assert len(before[0]) - len(kept) == len(DENSITY_COLUMNS) == 13
    older = [kept, *([row[name] for name in kept] for row in before)]
    (out / ROWS).write_text(as_text(older).replace("\r\n", "\n"))
    said: list[str] = []
    assert batch(server, tree, out, notify=said.append).before == 3
    assert rows_of(out) == before
    assert "saved by an earlier version" in said[0]


def test_notes_of_the_user_stay_beside_new_rows(server, tree, tmp_path):
    out = tmp_path / "out"
    shutil.move(tree / "p2", tmp_path / "p2")
    batch(server, tree, out)
    rows = list(csv.reader((out / ROWS).read_text().splitlines()))
    (out / ROWS).write_text(as_text([["mine", *rows[0]], *(["x", *row] for row in rows[1:])]))
    shutil.move(tmp_path / "p2", tree / "p2")

    batch(server, tree, out)

    assert [row["mine"] for row in rows_of(out)] == ["x", "x", ""]
    assert [row["status"] for row in rows_of(out)] == ["scored"] * 3


def test_names_that_are_no_utf8_have_their_rows_and_are_gone_on_with(
    server, series_writer, small, tmp_path
):
    """Two folders whose names differ in such bytes only, and a file that is broken."""
    root = os.fsencode(series_writer.folder)
    for name in (b"Pr\xe9s", b"Pr\xe8s"):
        Path(os.fsdecode(root + b"/" + name)).parent.mkdir(exist_ok=True)
        series_writer.write(small, "next").rename(os.fsdecode(root + b"/" + name))
    Path(os.fsdecode(root + b"/m\xfcll.zip")).write_bytes(b"PK\3\4 broken")

    summary = batch(server, series_writer.folder, tmp_path / "out")

    assert dict(summary.counts) == {"scored": 2, "rejected": 1}
    rows = {row["scan"]: row for row in rows_of(tmp_path / "out")}
    assert set(rows) == {r"Pr\xe9s", r"Pr\xe8s", r"m\xfcll.zip"}
    broken = rows[r"m\xfcll.zip"]
    assert broken["message"].startswith(r"m\xfcll.zip: ")
    stored = (tmp_path / "out" / "failed" / f"{broken['key']}.json").read_text("utf-8")
    json.loads(stored)["message"].encode("utf-8")
    assert batch(server, series_writer.folder, tmp_path / "out").before == 3


def test_rows_and_files_take_any_name(server, tmp_path):
    name = os.fsdecode(b"Pr\xe9s.nii")
    with Record(tmp_path, server.contract) as record:
        record.add(BatchScan(name, tmp_path / name), "a", UnreadableFileError(f"{name}: broken"))
    (row,) = rows_of(tmp_path)
    assert (row["scan"], row["message"]) == (r"Pr\xe9s.nii", r"Pr\xe9s.nii: broken")


def test_a_message_can_be_written_anywhere():
    assert str(DlildError("Pr\udce9s and \ud800")) == r"Pr\xe9s and \ud800"


def test_a_table_says_how_it_was_saved():
    table = read_table("Path;A\nx;1\n".encode("utf-16"), "t.csv", "path")
    assert (table.columns, table.encoding, table.separator) == (("path", "a"), "utf-16", ";")
    assert table.rows[0].cells == {"path": "x", "a": "1"}
