"""`dlild score` with a study of a real archive; the server that scores is a fake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from orthanc import free_port

ROOT = Path(__file__).parents[3]


def dlild(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client" / "src"), **environment},
    )


def assert_one_line(done, code, words):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.fixture
def archived(orthanc, post, series_writer, chest) -> tuple[str, Path]:
    """A study with a chest in the archive; returns its UID, and a folder with the same."""
    folder = series_writer.write(chest)
    post(orthanc, folder)
    return series_writer.study, folder


def test_a_study_of_an_archive_is_scored_as_its_folder_is(orthanc, archived, server, tmp_path):
    study, folder = archived
    done = dlild(
        "score", orthanc.dicomweb, "--study", study, "--url", server.url, "--json",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    local = dlild("score", folder, "--url", server.url, "--json")
    assert local.returncode == 0, local.stderr
    remote, local = json.loads(done.stdout), json.loads(local.stdout)
    assert remote | {"timings_s": 0} == local | {"timings_s": 0}
    assert (tmp_path / "out" / "result.json").is_file()
    assert study not in (tmp_path / "out" / "result.json").read_text()


def test_what_is_wrong_with_an_archive_is_one_line(orthanc, server, tmp_path):
    url, study = ("--url", server.url), ("--study", "1.2.3.4")
    assert_one_line(dlild("score", orthanc.dicomweb, *study, *url), 3, "no study with this UID")
    absent = f"dicomweb+http://127.0.0.1:{free_port()}/dicom-web"
    assert_one_line(dlild("score", absent, *study, *url), 1, "connection refused")
    assert_one_line(dlild("score", orthanc.dicomweb, *url), 2, "give --study")
    assert_one_line(dlild("score", "https://pacs/dicom-web", *study), 2, "use dicomweb+https://")
    assert_one_line(dlild("score", tmp_path, *study), 2, "leave --study out")
    wrong = {"DLILD_DICOMWEB_USER": "ward"}
    done = dlild("score", orthanc.dicomweb, *study, *url, **wrong)
    assert_one_line(done, 2, "both user and password")


def test_a_missing_extra_is_named(tmp_path):
    (tmp_path / "requests.py").write_text("raise ImportError")
    path = f"{tmp_path}{os.pathsep}{ROOT / 'client' / 'src'}"
    done = dlild("score", "dicomweb+https://pacs", "--study", "1.2", PYTHONPATH=path)
    assert_one_line(done, 2, "pip install 'dlild-client[dicomweb]'")
