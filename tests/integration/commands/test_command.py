"""The command against the real server: `doctor` and `batch`, as people type them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dlild_client.results.result import Result
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server


def dlild(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_doctor_finds_the_real_server_well(embedded_server: EmbeddedServer) -> None:
    done = dlild("doctor", "--url", embedded_server.grpc_url, "--json")

    assert done.returncode == 0, done.stderr
    findings = {found["check"]: found for found in json.loads(done.stdout)}
    assert {found["verdict"] for found in findings.values()} <= {"good", "doubtful"}
    assert "openvino" in findings["profile"]["finding"]
    assert "windows/s" in findings["throughput"]["finding"]


def test_a_batch_gives_the_scores_of_single_scans(
    embedded_server: EmbeddedServer, patient: Path, scored: Result, tmp_path: Path
) -> None:
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    cohort.mkdir()
    for name in ("one", "two"):
        (cohort / name).symlink_to(patient)
    (cohort / "letter.nii").write_text("Dear all")

    done = dlild("batch", cohort, "--out", out, "--url", embedded_server.grpc_url)

    assert (done.returncode, done.stderr) == (3, "")
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["scan"]: row for row in csv.DictReader(file)}
    assert rows["letter.nii"]["error"] == "UnreadableFile"
    for name in ("one", "two"):
        assert float(rows[name]["dl_ild_percent"]) == pytest.approx(scored.dl_ild_percent, abs=1e-3)
