"""Two processes under torchrun compute what one with twice the batch does."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from export.small_cases import small_config, write_cases

from dlild_export.training.config import write_config
from dlild_export.training.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


def _torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = "from dlild_export.cli import main; main()"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--no-python", sys.executable, "-c", script, "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares with one process on the CPU")
def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases")
    settings = {
        "network": {"channels": [8, 16, 16]},
        "deep_supervision": 1,
        "class_weights": [1, 1, 2, 3, 1, 1],
        "bf16": False,
        "validate_every": 3,
        "held_out": 0.34,
        "learning_rate": 5e-5,
    }
    # What is within a rounding error at the first step grows with every further one, the faster the
    # longer the steps are.
    stages = [{"steps": 3, "patch": 16}, {"steps": 3, "patch": 24}]
    config = small_config(**settings, stages=[{**s, "batch": 2} for s in stages])
    twice = small_config(**settings, stages=[{**s, "batch": 4} for s in stages])
    write_config(config, tmp_path / "config.toml")

    done = _torchrun(cases, tmp_path / "two", "--config", tmp_path / "config.toml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained:") == 1
    train(cases, tmp_path / "one", twice)

    books = [
        list(csv.DictReader((tmp_path / run / "metrics.csv").open())) for run in ("one", "two")
    ]
    for one, two in zip(*books, strict=True):
        for name in ("loss", "cross_entropy", "gradient"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=5e-4), one["step"]
    states = [
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["network"]
        for run in ("one", "two")
    ]
    for name, weights in states[0].items():
        torch.testing.assert_close(states[1][name], weights, rtol=1e-2, atol=2e-3, msg=name)
    assert (tmp_path / "two" / "validation.csv").exists()


@pytest.mark.slow
def test_bad_input_ends_all_processes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = _torchrun(tmp_path / "empty", tmp_path / "run")

    assert done.returncode != 0
    assert "no cases (*.npz)" in done.stderr
