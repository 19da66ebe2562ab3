"""Whole scans by our own client: figures, refusals, errors; and Model Analyzer's file."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml
from client.conftest import make_chest
from deploy.checkers import ROOT
from fake_server import FakeServer, cubes_only

from dlild_client.results.files import write_nifti
from dlild_deploy.cli import main
from dlild_deploy.load.scan_load import Attempt, ScanLevel, lay_out, summarise

CHEST = {"shape": (30, 60, 80), "spacing": (4.0, 2.5, 2.25)}


@pytest.fixture
def server(repository: Path):
    fake = FakeServer(cubes_only((repository / "contract.json").read_text("utf-8")))
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write_nifti(make_chest(**CHEST), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_figures_are_counted_until_the_last_scan_ends() -> None:
    attempts = [Attempt("scored", 2.0, 2.0 * n) for n in range(1, 10)]
    attempts += [Attempt("scored", 12.0, 20.0), Attempt("Busy", 0.1, 30.0), Attempt("X", 1, 31.0)]

    level = summarise(3, attempts)

    assert (level.scans, level.scans_an_hour) == (10, 1800.0)
    assert level.latency_s == pytest.approx((2.0, 7.5, 11.1))
    assert (level.refused, level.errors) == (1, Counter({"X": 1}))


def test_a_level_without_a_score_is_shown_as_such() -> None:
    level = summarise(2, [Attempt("Busy", 0.1, 0.1)])

    assert (level.scans, level.scans_an_hour, level.refused) == (0, 0.0, 1)
    assert all(math.isnan(value) for value in level.latency_s)
    assert "| 2 | 0 | 0 | nan | nan | nan | 1 | none |" in lay_out([level])


def test_errors_are_named_in_the_table() -> None:
    level = ScanLevel(1, 3, 60.0, (1.0, 2.0, 3.0), 0, Counter({"TimedOut": 2, "ScanLost": 1}))

    assert "| 1 | 3 | 60 | 1.0 | 2.0 | 3.0 | 0 | 1 ScanLost, 2 TimedOut |" in lay_out([level])


def test_two_clients_load_a_server_and_its_refusals_are_counted(
    server: FakeServer, scan: Path, tmp_path: Path
) -> None:
    server.delay_s = 0.02
    out = tmp_path / "out"

    command = [
        "load",
        "scans",
        "--url",
        server.url,
        "--scan",
        str(scan),
        "--out",
        str(out),
        "--seconds",
        "2",
    ]
    assert main([*command, "--clients", "1,2"]) == 0

    with (out / "scans.csv").open(newline="") as file:
        levels = list(csv.DictReader(file))
    assert [level["clients"] for level in levels] == ["1", "2"]
    # One of every client at least.
    assert sum(int(level["scans"]) for level in levels) == len(server.sequence_ids) >= 3
    for level in levels:
        assert (level["refused"], level["errors"]) == ("0", "0")
        assert 0 < float(level["p50_s"]) <= float(level["p95_s"]) <= float(level["p99_s"])
        assert float(level["scans_an_hour"]) > 100
    assert (out / "scans.md").read_text("utf-8").count("\n") == 4


def test_nothing_is_scored_where_all_is_refused(
    server: FakeServer, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.busy = 10**6
    command = [
        "load",
        "scans",
        "--url",
        server.url,
        "--scan",
        str(scan),
        "--out",
        str(tmp_path / "out"),
    ]

    assert main([*command, "--seconds", "1", "--clients", "1"]) == 1
    assert "| 1 | 0 | 0 | nan | nan | nan |" in capsys.readouterr().out


def test_what_is_wrong_is_reported_before_any_client_begins(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", "scans", "--scan", str(tmp_path / "nowhere")]) == 3
    assert "nowhere: no such file" in capsys.readouterr().err
    assert main(["load", "scans", "--scan", str(scan), "--url", "grpc://127.0.0.1:1"]) == 1
    assert "no server answers at grpc://127.0.0.1:1" in capsys.readouterr().err
    assert main(["load", "scans", "--clients", "0"]) == 2
    assert "give numbers from 1 to 64" in capsys.readouterr().err


def test_model_analyzers_file_profiles_a_model_that_is_there() -> None:
    read = yaml.safe_load((ROOT / "deploy/load/model-analyzer.yaml").read_text("utf-8"))

    ((model, settings),) = read["profile_models"].items()
    config = (ROOT / "model_repository" / model / "configs/onnxruntime.pbtxt").read_text("utf-8")
    (shape,) = settings["perf_analyzer_flags"]["shape"]
    name, _, edges = shape.partition(":")
    assert f'name: "{name}"' in config
    assert "dims: [ 1, -1, -1, -1 ]" in config
    channel, *window = map(int, edges.split(","))
    assert channel == 1
    assert all(edge % 8 == 0 for edge in window)
    assert all(str(read[key]).startswith("/load/") for key in ("model_repository", "export_path"))
