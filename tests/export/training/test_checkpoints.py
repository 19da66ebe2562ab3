"""Averages of the weights of several trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from export.small_cases import small_config, write_cases
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.training.loop import train
from dlild_export.training.provenance import trainings
from dlild_export.training.start import load_network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    settings = {"stages": [{"steps": 2, "patch": 16}], "bf16": False}
    first = train(
        write_cases(tmp_path / "a", 2), tmp_path / "first", small_config(**settings, seed=7)
    )
    train(
        write_cases(tmp_path / "b", 3),
        tmp_path / "second",
        small_config(**settings, seed=8),
        start=first,
    )
    return [tmp_path / "first", tmp_path / "second"]


def test_an_average_is_a_run_with_the_mean_of_the_weights_and_all_cases(
    runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "mean"
    done = CliRunner().invoke(app, ["average", str(out), *(f"--of={run}" for run in runs)])
    assert done.exit_code == 0, done.output

    one, other, mean = (load_network(run / "checkpoint.pt").state_dict() for run in (*runs, out))
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (one[name] + other[name]) / 2)
    stored = torch.load(out / "checkpoint.pt", weights_only=True)
    assert len(stored["cases"]) == 3
    assert [len(t.get("average_of_sha256", [])) for t in trainings(stored)] == [0, 2]


def test_what_cannot_be_averaged_is_one_line(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "checkpoint.pt").write_bytes(b"no checkpoint")
    for given, says in (
        (runs[:1], "two runs at least"),
        ([runs[0], tmp_path / "none"], "No such file"),
        ([runs[0], tmp_path / "damaged"], "the checkpoint cannot be read"),
    ):
        command = ["average", str(tmp_path / "out"), *(f"--of={run}" for run in given)]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 3
        assert says in done.output
