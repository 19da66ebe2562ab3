"""Paths are bytes: those that are no UTF-8 are read, written and told of like any other."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from client.writers import write_image

from dlild_client.reading.read import read_volume

ROOT = Path(__file__).parents[2]
FOLDER, NAME = os.fsdecode(b"Pr\xe9sence"), os.fsdecode(b"sc\xe8an")


def dlild(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", *map(os.fsencode, map(str, arguments))],
        check=False,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client" / "src")},
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    place = tmp_path / FOLDER
    try:
        place.mkdir()
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    return place


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd", "dicom"])
def test_scans_are_read(odd, tmp_path, small, series_writer, kind):
    if kind == "dicom":
        series_writer.write(small).rename(odd / NAME)
        path = odd / NAME
    else:
        (tmp_path / "plain").mkdir()
        write_image(small, tmp_path / "plain" / f"scan.{kind}")
        for file in (tmp_path / "plain").iterdir():
            # The data file of a header keeps the name that the header knows.
            file.rename(
                odd / file.name.replace("scan", NAME if file.suffix[1:] in kind else "scan")
            )
        path = odd / f"{NAME}.{kind}"
    np.testing.assert_array_equal(read_volume(path).array, small.array)


def test_a_data_file_that_a_header_names(odd, small):
    (odd / f"{NAME}.raw").write_bytes(small.array.tobytes())
    (odd / "scan.mhd").write_bytes(
        b"NDims = 3\nDimSize = 80 60 30\nElementSpacing = 2.25 2.5 4\nElementType = MET_SHORT\n"
        b"ElementDataFile = sc\xe8an.raw\n"
    )
    np.testing.assert_array_equal(read_volume(odd / "scan.mhd").array, small.array)


def test_score_reads_and_writes_and_reports(server, odd, small):
    write_image(small, odd.parent / "scan.nii.gz").rename(odd / f"{NAME}.nii.gz")
    done = dlild("score", odd / f"{NAME}.nii.gz", "--url", server.url, "--out", odd / "out")
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(p.name for p in (odd / "out").iterdir()) == [
        "labels.nii.gz",
        "overlay.png",
        "result.json",
    ]
    (odd / f"{NAME}.nii.gz").write_bytes(b"nothing")
    done = dlild("score", odd / f"{NAME}.nii.gz", "--url", server.url)
    assert done.returncode == 3
    assert done.stderr == (
        rb"error: sc\xe8an.nii.gz: not a NIfTI file; give .nii or .nii.gz" + b"\n"
    )


def test_a_batch_gives_each_scan_its_row_and_resumes(server, odd, small):
    place, out = odd / "cohort", odd / "out"
    for number, name in enumerate((b"a\xe8.nii.gz", b"a\xe9.nii.gz", b"b\xff.nii.gz")):
        folder = place / os.fsdecode(b"P\xe9")
        folder.mkdir(parents=True, exist_ok=True)
        write_image(small, odd.parent / "scan.nii.gz").rename(folder / os.fsdecode(name))
        if number == 2:
            (folder / os.fsdecode(name)).write_bytes(b"nothing")

    done = dlild("batch", place, "--out", out, "--images", "--url", server.url, "--json")

    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["scored"] == 2  # the same scan at two places is two
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["scan"]: row["status"] for row in csv.DictReader(file)}
    assert rows == {
        r"P\xe9/a\xe8.nii.gz": "scored",
        r"P\xe9/a\xe9.nii.gz": "scored",
        r"P\xe9/b\xff.nii.gz": "rejected",
    }
    assert len(list((out / "images").glob("*/labels.nii.gz"))) == 2
    again = dlild("batch", place, "--out", out, "--images", "--url", server.url, "--json")
    assert json.loads(again.stdout)["done_before"] == 3
