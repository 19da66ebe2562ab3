"""What a training writes down as it goes: `metrics.csv`, `validation.csv` and TensorBoard."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter


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
