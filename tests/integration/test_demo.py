"""`make demo`'s script: what it leaves behind, and how it ends on bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.server


def demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "deploy" / "embedded" / "demo.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def servers() -> set[str]:
    """Ids of the tritonservers that run on this machine."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"tritonserver" in entry.read_bytes().split(b"\0")[0]:
                found.add(entry.parent.name)
        except OSError:  # it ended while we looked
            continue
    return found


def test_a_scan_is_scored(patient: Path, tmp_path: Path) -> None:
    before = servers()

    done = demo("--scan", patient, "--out", tmp_path)

    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"result.json", "labels.nii.gz", "overlay.png"}
    assert "DL-ILD, %" in done.stdout
    assert servers() == before


def test_a_missing_scan_is_one_line(tmp_path: Path) -> None:
    done = demo("--scan", tmp_path / "nowhere", "--out", tmp_path / "out")

    assert done.returncode == 3
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


def test_an_unreadable_scan_is_one_line_and_the_server_stops(tmp_path: Path) -> None:
    before = servers()
    folder = tmp_path / "scan"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")

    done = demo("--scan", folder, "--out", tmp_path / "out")

    assert done.returncode == 3
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert servers() == before
