"""The loop: it learns, it goes on exactly, it keeps its books, it stops when it must."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from export.small_cases import case_arrays, small_config, write_case, write_cases
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.training import checkpoints
from dlild_export.training.checkpoints import ResumeError
from dlild_export.training.config import write_config
from dlild_export.training.loop import StoppedError, learning_rate, train
from dlild_export.training.start import load_network

pytestmark = pytest.mark.usefixtures("one_thread")

COMMAND = (sys.executable, "-c", "from dlild_export.cli import main; main()", "train")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("cases"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _assert_same(first: Any, second: Any, where: str = "") -> None:
    """Compare two trees of tensors bit by bit."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            _assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            _assert_same(a, b, f"{where}/{number}")
    else:
        assert first == second, where


def _stored(run: Path) -> dict[str, Any]:
    stored: dict[str, Any] = torch.load(run / "checkpoint.pt", weights_only=True)
    return stored


def test_training_learns(cases: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = small_config(stages=[{"steps": 40, "patch": 16}], bf16=False, learning_rate=0.01)

    train(cases, tmp_path, config, progress=lambda _, loss: losses.append(loss))

    assert sum(losses[-8:]) / 8 < sum(losses[:4]) / 4 - 0.4


# ---- it goes on as if it had never stopped ------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(cases: Path, tmp_path: Path) -> None:
    config = small_config(
        stages=[{"steps": 30, "patch": 16}, {"steps": 10, "patch": 24}], checkpoint_every=7
    )
    train(cases, tmp_path / "whole", config)
    write_config(config, tmp_path / "config.toml")
    killed = tmp_path / "killed"

    arguments = [*COMMAND, str(cases), str(killed), "--config", str(tmp_path / "config.toml")]
    process = subprocess.Popen(
        arguments,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # sums in the order of this process's
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    metrics, limit = killed / "metrics.csv", time.monotonic() + 400
    while not metrics.exists() or len(metrics.read_bytes().splitlines()) < 12:
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL

    assert 0 < _stored(killed)["step"] < config.steps
    train(cases, killed, config)

    _assert_same(_stored(tmp_path / "whole"), _stored(killed))
    steps = [int(row["step"]) for row in _rows(metrics)]
    assert steps == list(range(1, 41))
    whole, resumed = _rows(tmp_path / "whole" / "metrics.csv"), _rows(metrics)
    for row in (*whole, *resumed):
        del row["seconds"]
    assert whole == resumed


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_goes_on(
    cases: Path, tmp_path: Path, number: int, workers: int
) -> None:
    settings = {"network": {"channels": [8, 16, 16]}, "deep_supervision": 1}
    config = small_config(**settings, workers=workers)
    train(cases, tmp_path / "whole", small_config(**settings))

    def stop(done: int, _: float) -> None:
        if done == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match="stopped after step 6") as stopped:
        train(cases, tmp_path / "stopped", config, progress=stop)
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is before
    assert _stored(tmp_path / "stopped")["step"] == 6

    train(cases, tmp_path / "stopped", config)
    first, second = _stored(tmp_path / "whole"), _stored(tmp_path / "stopped")
    _assert_same(first | {"config": None}, second | {"config": None})


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    train(cases, tmp_path / "whole", config)
    whole_save = torch.save

    def half(stored: dict[str, Any], file: Any) -> None:
        if stored["step"] == 8:
            file.write(b"half a checkpoint")
            raise KeyboardInterrupt
        whole_save(stored, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            train(cases, tmp_path / "cut", config)
    assert _stored(tmp_path / "cut")["step"] == 4

    train(cases, tmp_path / "cut", config)
    _assert_same(_stored(tmp_path / "whole"), _stored(tmp_path / "cut"))


def test_another_training_is_not_gone_on_with(cases: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(cases, run, small_config())

    with pytest.raises(ResumeError, match=r"learning_rate was 0\.003 and is 0\.1"):
        train(cases, run, small_config(learning_rate=0.1))
    with pytest.raises(ResumeError, match="1 differ, first case-5"):
        train(write_cases(tmp_path / "fewer", 5), run, small_config())
    seen: list[int] = []
    train(cases, run, small_config(log_every=3), progress=lambda done, _: seen.append(done))
    assert not seen  # it is finished

    (run / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ResumeError, match="cannot be read"):
        train(cases, run, small_config())
    torch.save({"step": 3}, run / "checkpoint.pt")
    with pytest.raises(ResumeError, match=f"format 0, not {checkpoints.FORMAT}"):
        train(cases, run, small_config())


# ---- its books ----------------------------------------------------------------------------------


def test_metrics_are_means_and_reach_tensorboard(cases: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = small_config(log_every=5, held_out=0.34, validate_every=4, validate_cases=1)

    checkpoint = train(cases, tmp_path, config, progress=lambda _, loss: losses.append(loss))

    rows = _rows(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["5", "10"]
    assert float(rows[1]["loss"]) == pytest.approx(sum(losses[5:]) / 5, rel=1e-4)
    scored = _rows(tmp_path / "validation.csv")
    assert [row["step"] for row in scored] == ["4", "8", "10"]
    assert 0 <= float(scored[-1]["lung_dice"]) <= 1
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    events = board.Scalars("train/loss")
    assert [event.step for event in events] == [5, 10]
    assert events[1].value == pytest.approx(float(rows[1]["loss"]), rel=1e-4)
    assert len(board.Scalars("validation/dl_ild_mae")) == 3
    names = torch.load(checkpoint, weights_only=True)["cases"]
    assert len(names) == 4  # two patients of three
    assert len({int(name[-1]) // 2 for name in names}) == 2


def test_validation_changes_nothing(cases: Path, tmp_path: Path) -> None:
    settings = {"held_out": 0.34, "validate_cases": 1}
    for every in (0, 2):
        train(cases, tmp_path / str(every), small_config(**settings, validate_every=every))

    first, second = _stored(tmp_path / "0"), _stored(tmp_path / "2")
    _assert_same(first | {"config": None}, second | {"config": None})


def test_the_learning_rate_rises_and_falls() -> None:
    for schedule in ("cosine", "poly"):
        config = small_config(
            stages=[{"steps": 60}, {"steps": 40}],
            warm_up_steps=10,
            learning_rate=1.0,
            schedule=schedule,
        )
        rates = [learning_rate(step, config) for step in range(100)]

        assert max(rates) == rates[9] == pytest.approx(1.0)
        assert rates[0] == pytest.approx(0.1)
        assert all(a >= b for a, b in pairwise(rates[10:]))
        assert rates[99] < 0.02


def test_further_heads_stay_out_of_the_network(cases: Path, tmp_path: Path) -> None:
    network = {"channels": [4, 8, 8, 8]}
    stages = [{"steps": 2, "patch": 32}]
    config = small_config(network=network, stages=stages, deep_supervision=2)

    trained = load_network(train(cases, tmp_path, config))

    assert len(_stored(tmp_path)["heads"]) == 4
    assert trained(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 6, 16, 16, 16)


# ---- it stops when it must ----------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_step_and_cases(cases: Path, tmp_path: Path) -> None:
    config = small_config(learning_rate=1e30, clip_norm=1e30, bf16=False)

    with pytest.raises(
        FloatingPointError, match=r"is (nan|inf) at step \d+, on patches of \S+npz, \S+npz:"
    ) as caught:
        train(cases, tmp_path, config)

    assert "\n" not in str(caught.value)


def _invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_command_trains_and_takes_up_its_own_settings(cases: Path, tmp_path: Path) -> None:
    toml, run = tmp_path / "my.toml", tmp_path / "run"
    write_config(small_config(), toml)

    code, text = _invoke(cases, run, "--config", toml, "--stage", "3:16:2", "--seed", 4)
    assert (code, "trained" in text) == (0, True)
    assert _stored(run)["config"]["seed"] == 4
    assert _stored(run)["step"] == 3

    assert _invoke(cases, run)[0] == 0  # with OUT/config.toml
    code, text = _invoke(cases, run, "--seed", 5)
    assert code == 3
    assert "seed was 4 and is 5" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stage", "5000"), "STEPS:PATCH:BATCH"),
        (("--stage", "10:20:2"), "no multiple of 8"),
        (("--learning-rate", "-1"), "learning_rate"),
        (("--schedule", "linear"), "cosine"),
        (("--config", "missing.toml"), "missing.toml"),
    ],
)
def test_wrong_options_are_usage_errors(
    cases: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    code, text = _invoke(cases, tmp_path, *options)

    assert code == 2
    assert message in text.replace("\n", " ")


def test_a_dataset_is_prepared_and_trained_on(tmp_path: Path) -> None:
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    phantoms = ["phantom", str(dataset), "--count", "2", "--spacing", "6", "--workers", "1"]
    assert CliRunner().invoke(app, phantoms).exit_code == 0
    toml = tmp_path / "my.toml"
    write_config(small_config(stages=[{"steps": 2, "patch": 16}]), toml)

    code, text = _invoke(dataset, run, "--config", toml)
    assert code == 0, text
    assert _stored(run)["cases"] == ["phantom-000000", "phantom-000001"]

    next((dataset / "labelsTr").iterdir()).unlink()
    code, text = _invoke(dataset, tmp_path / "other", "--config", toml)
    assert (code, text.count("\n")) == (3, 1)
    assert "without labels" in text


def test_bad_input_ends_in_one_line(cases: Path, tmp_path: Path) -> None:
    arrays = case_arrays(0)
    arrays["labels"][5, 5, 5] = 77
    write_case(tmp_path / "bad.npz", arrays)

    code, text = _invoke(tmp_path, tmp_path / "run")
    assert code == 3
    assert "bad.npz: labels [77]" in text
    assert text.count("\n") == 1

    code, text = _invoke(tmp_path / "nowhere", tmp_path / "run")
    assert (code, "no cases" in text) == (3, True)
    code, text = _invoke(cases, tmp_path / "other", "--start", tmp_path / "bad.npz")
    assert (code, "no checkpoint" in text) == (3, True)
