import base64
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from dlild_client.contract import parse_contract
from dlild_client.preparation.prepare import prepare
from dlild_client.volume import Volume
from dlild_deploy.cli import main
from dlild_deploy.errors import LauncherError
from dlild_deploy.load.perf_analyzer import find_analyzer
from dlild_deploy.load.scan_sequences import sequence_of
from dlild_deploy.load.window_load import lay_out, read_levels
from dlild_deploy.server.preflight import default_server_python
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom

CSV = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,\
Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,\
p90 latency,p95 latency,p99 latency
2,4.5,10,20,150000,5,6,7,8,400000,410000,420000,430000
1,4.0,10,20,1000,5,6,7,8,250000,260000,270000,280000

"""


def test_levels_are_read_in_order_and_in_milliseconds():
    levels = read_levels(CSV, windows_a_scan=8)
    assert [level.at_once for level in levels] == [1, 2]
    assert levels[0].scans_a_minute == 30.0
    assert levels[1].latency_ms == {"p50": 400, "p95": 420, "p99": 430}
    assert levels[1].queue_ms == 150
    assert "| 2 | 4.50 | 33.8 | 400 | 420 | 430 | 150 |" in lay_out(levels)


def test_another_table_is_reported_by_what_it_lacks(tmp_path, capsys):
    with pytest.raises(LauncherError, match="Concurrency"):
        read_levels("a,b\n1,2\n", 4)
    assert main(["load", "table", str(tmp_path / "none.csv")]) == 1
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_a_table_is_laid_out_again(tmp_path, capsys):
    (tmp_path / "load.csv").write_text(CSV)
    again = str(tmp_path / "load.csv")
    assert main(["load", "table", again, again, "--windows-a-scan", "8"]) == 0
    assert capsys.readouterr().out.count("| 1 | 4.00 | 30.0 |") == 2


def test_a_scan_that_cannot_be_scored_is_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PERF_ANALYZER", str(program(tmp_path, "echo Perf Analyzer Version 9")))
    assert (
        main(
            ["load", "windows", "--scan", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
        )
        == 3
    )
    assert "nowhere: no such file" in capsys.readouterr().err


def program(folder: Path, script: str) -> Path:
    path = folder / "perf_analyzer"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


def test_a_program_that_does_not_run_is_reported_with_its_words(tmp_path, monkeypatch):
    named = program(tmp_path, "echo libb64.so.0d: cannot open shared object file >&2; exit 127")
    monkeypatch.setenv("PERF_ANALYZER", str(named))
    with pytest.raises(LauncherError, match=r"libb64.so.0d: cannot open.*container"):
        find_analyzer(default_server_python())


def test_a_program_that_cannot_be_fetched_is_reported(tmp_path, monkeypatch):
    monkeypatch.delenv("PERF_ANALYZER", raising=False)
    monkeypatch.setattr("dlild_deploy.load.perf_analyzer.HOME", tmp_path / "load")
    monkeypatch.setenv("PATH", str(tmp_path))
    # A registry that nobody can reach.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(LauncherError, match=r"could not be fetched .*PERF_ANALYZER"):
        find_analyzer(default_server_python())
    assert not (tmp_path / "load" / "perf_analyzer").exists()


def test_the_steps_are_the_windows_of_the_client(repository):
    contract = parse_contract((repository / "contract.json").read_text("utf-8"))
    phantom = make_phantom(PhantomSpec(seed=3, pattern=Pattern.NONE, severity=0.0))
    prepared = prepare(Volume(phantom.hu, (phantom.spacing_mm,) * 3), contract)
    steps = sequence_of(prepared, contract)
    assert len(steps) == len(prepared.plan.origins)
    json.dumps(steps)
    for step, (origin, window) in zip(steps, prepared.windows(-1024), strict=True):
        raw = base64.b64decode(step["window"]["content"]["b64"])
        sent = np.frombuffer(raw, "<f2").reshape(step["window"]["shape"])
        np.testing.assert_array_equal(sent[0], window)
        assert step["origin"]["content"] == list(origin)
    assert [step["window_index"]["content"][0] for step in steps] == list(range(len(steps)))
