from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlild_client.outputs import write_nifti

ROOT = Path(__file__).parents[2]


def dlild(*arguments, **environment):
    path = os.pathsep.join([str(ROOT / "client" / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100", **environment},
    )


def assert_one_line(done, code, words):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.fixture
def scan_file(tmp_path, chest) -> Path:
    write_nifti(chest, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_scan_is_scored_into_a_folder_and_a_table(server, scan_file, tmp_path):
    done = dlild("score", scan_file, "--url", server.url, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert f"{result['dl_ild_percent']:.2f} %" in done.stdout
    assert "research use only" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_json_for_machines_is_nothing_but_json(server, scan_file):
    done = dlild("score", scan_file, "--url", server.url, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["windows"] > 0
    info = dlild("info", "--url", server.url, "--json")
    assert json.loads(info.stdout)["profile"] == "embedded"


def test_a_bad_input_is_one_line_and_exit_3(server, tmp_path, series_writer, chest):
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("Dear all")

    def mr(ds, i):
        ds.Modality = "MR"

    def broken(ds, i):
        ds.PixelData = ds.PixelData[:50]

    cases = {
        tmp_path / "absent": "no such file",
        tmp_path / "empty": "no DICOM image",
        tmp_path / "letter.txt": "neither DICOM",
        series_writer.write(chest, "mr", mr): "MR, not CT",
        next(series_writer.write(chest, "ct").iterdir()): "one CT slice",
        series_writer.write(chest, "broken", broken): "cannot be decoded",
    }
    for path, words in cases.items():
        done = dlild("score", path, "--url", server.url, "--json")
        assert_one_line(done, 3, words)
        assert "SECRET" not in done.stderr
        assert str(tmp_path) not in done.stderr


def test_a_server_that_is_not_there_is_one_line_and_exit_1(server, scan_file):
    server.stop()
    assert_one_line(dlild("score", scan_file, "--url", server.url), 1, "nobody answers")
    assert_one_line(dlild("info", "--url", server.url), 1, "nobody answers")


def test_wrong_usage_is_exit_2(scan_file):
    assert dlild("score").returncode == 2
    assert dlild("nonsense").returncode == 2
    assert_one_line(dlild("score", scan_file, "--url", "http://x"), 2, "not an address")


def test_the_version_is_told():
    from dlild_client import __version__  # noqa: PLC0415

    assert dlild("--version").stdout == f"dlild {__version__}\n"


def test_an_interruption_is_one_line_and_exit_130(monkeypatch, capsys):
    from dlild_client import cli  # noqa: PLC0415

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupt)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"
