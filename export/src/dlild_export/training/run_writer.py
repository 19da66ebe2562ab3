"""What is written while a training runs: metrics, validations, checkpoints."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from dlild_export.training import checkpoints
from dlild_export.training.cases import ArrayCache, TrainingCase
from dlild_export.training.checkpoints import State
from dlild_export.training.config import TrainConfig, write_config
from dlild_export.training.distillation.blocks import BLOCKS, write_blocks
from dlild_export.training.losses import StepLoss
from dlild_export.training.unet import UNet
from dlild_export.training.validation import validate


class Journal:
    """Keeps the metrics of a training.

    Parameters
    ----------
    folder : pathlib.Path
        Gets `metrics.csv`, `validation.csv` and `tensorboard/`.
    first : int
        Steps done already: what was written of later steps, before a kill, is dropped.
    every : int
        Steps that a row is the mean of.
    """

    def __init__(self, folder: Path, *, first: int, every: int) -> None:
        self.folder, self.every = folder, every
        self._waiting: list[Mapping[str, float]] = []
        for name in ("metrics.csv", "validation.csv"):
            _forget(folder / name, first)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first or None)

    def close(self) -> None:
        """Write out what waits."""
        self._board.close()

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Write a row of means, once `every` steps; NaN counts as not measured.

        Parameters
        ----------
        done : int
            Steps done.
        values : mapping of str to float
            Of this step.
        """
        self._waiting.append(values)
        if done % self.every:
            return
        means = {key: _mean([row[key] for row in self._waiting]) for key in values}
        self._waiting.clear()
        _append(self.folder / "metrics.csv", {"step": done, **means})
        self._to_board("train", done, means)

    def validation(self, done: int, values: Mapping[str, float]) -> None:
        """Write a row of a validation."""
        _append(self.folder / "validation.csv", {"step": done, **values})
        self._to_board("validation", done, values)

    def _to_board(self, group: str, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            if not math.isnan(value):
                self._board.add_scalar(f"{group}/{key}", value, step)


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def _append(path: Path, row: Mapping[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(row)
        writer.writerow([v if isinstance(v, int) else f"{v:.6g}" for v in row.values()])


def _forget(path: Path, first: int) -> None:
    """Drop the rows of steps after `first`, and a last one that a kill cut short."""
    if not path.exists():
        return
    head, *rows = path.read_text().splitlines(keepends=True)
    kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= first]
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("".join([head, *kept]) if kept else "")
    if kept:
        unfinished.replace(path)
    else:
        unfinished.unlink()
        path.unlink()


class RunWriter:
    """Writes down a training; one process of several does.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the training.
    config : TrainConfig
        What to write how often.
    state : State
        What checkpoints hold.
    learned, held_out : list of TrainingCase
        Cases to train on, and to validate on.
    first : int
        Steps done before.
    device : torch.device
        Where the network is.
    """

    def __init__(
        self,
        out: Path,
        config: TrainConfig,
        state: State,
        *,
        learned: list[TrainingCase],
        held_out: list[TrainingCase],
        first: int,
        device: torch.device,
    ) -> None:
        self.out, self.config, self.state, self.device = out, config, state, device
        self.names = [case.name for case in learned]
        self.held_out = held_out[: config.validate_cases]
        self.arrays = ArrayCache(config.cache_gb * 1e9)
        self.began = time.monotonic()
        write_config(config, out / "config.toml")
        self.journal = Journal(out, first=first, every=config.log_every)

    def __enter__(self) -> RunWriter:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Write out what waits."""
        self.journal.close()

    def note(self, done: int, loss: StepLoss, rate: float, gradient: float) -> None:
        """Write the metrics of a step.

        Parameters
        ----------
        done : int
            Steps done, this one included.
        loss : StepLoss
            Of the step.
        rate, gradient : float
            Learning rate, and length of the gradient before it was clipped.
        """
        values = {
            "loss": loss.total.item(),
            **loss.measures,
            "learning_rate": rate,
            "gradient": gradient,
            "seconds": time.monotonic() - self.began,
        }
        self.journal.step(done, values)

    def keep(self, done: int, *, stopping: bool) -> None:
        """Write a checkpoint and validate, where it is time to.

        Parameters
        ----------
        done : int
            Steps done.
        stopping : bool
            The training is about to be cut off: a checkpoint, and no more.
        """
        c = self.config
        finished = done == c.steps
        if stopping or finished or done % c.checkpoint_every == 0:
            checkpoints.save(self.out / checkpoints.NAME, done, self.state, c, self.names)
            if c.distil == "blocks":
                write_blocks(self.out / BLOCKS, cast(UNet, self.state.average.module))
        due = c.validate_every and (finished or done % c.validate_every == 0)
        if due and self.held_out and not stopping:
            self._validate(done)

    def _validate(self, done: int) -> None:
        found = validate(
            self.state.average,
            self.held_out,
            self.arrays,
            window=self.config.stages[-1].patch,
            device=self.device,
            bf16=self.config.bf16,
        )
        values = {
            **{f"dice_{number}": dice for number, dice in enumerate(found.dice)},
            "lung_dice": found.lung_dice,
            "lesion_dice": found.lesion_dice,
            "dl_ild_mae": found.dl_ild_mae,
            "dl_ild_bias": found.dl_ild_bias,
        }
        self.journal.validation(done, values)
