"""`make demo`: what it leaves behind, and how it ends on bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.server


def demo(temporary: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the demo; its server's folder is then in `temporary`, and names it among the others."""
    temporary.mkdir()
    command = [sys.executable, "-m", "dlild_deploy", "demo", *arguments]
    variables = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False, env=variables
    )


def runs_from(temporary: Path) -> bool:
    """Tell whether a server of this demo still runs."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(temporary) in entry.read_bytes():
                return True
        except OSError:  # it ended while we looked
            continue
    return False


def test_a_scan_is_scored(patient: Path, tmp_path: Path) -> None:
    done = demo(tmp_path / "t", "--scan", patient, "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"result.json", "labels.nii.gz", "overlay.png"}
    assert "DL-ILD, %" in done.stdout
    model = json.loads((tmp_path / "out" / "result.json").read_text())["model"]
    assert f"version {model['version']}, by openvino in {model['precision']}" in done.stdout
    assert not runs_from(tmp_path / "t")
    assert not list((tmp_path / "t").iterdir())


def test_a_missing_scan_is_one_line(tmp_path: Path) -> None:
    done = demo(tmp_path / "t", "--scan", tmp_path / "nowhere", "--out", tmp_path / "out")

    assert done.returncode == 3
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_unreadable_scan_is_one_line_and_the_server_stops(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")

    done = demo(tmp_path / "t", "--scan", folder, "--out", tmp_path / "out")

    assert done.returncode == 3
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert not runs_from(tmp_path / "t")
    assert not list((tmp_path / "t").iterdir())
