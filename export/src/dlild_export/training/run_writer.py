"""What is written while a training runs: metrics, validations, checkpoints."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

import torch

from dlild_export.training import checkpoints
from dlild_export.training.cases import ArrayCache, Case
from dlild_export.training.checkpoints import State
from dlild_export.training.config import TrainConfig, write_config
from dlild_export.training.journal import Journal
from dlild_export.training.losses import Loss
from dlild_export.training.validation import validate


class Keeper:
    """Writes down a training; one process of several does.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the training.
    config : TrainConfig
        What to write how often.
    state : State
        What checkpoints hold.
    learned, held_out : list of Case
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
        learned: list[Case],
        held_out: list[Case],
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

    def __enter__(self) -> Keeper:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write out what waits."""
        self.journal.close()

    def note(self, done: int, loss: Loss, rate: float, gradient: float) -> None:
        """Write the metrics of a step.

        Parameters
        ----------
        done : int
            Steps done, this one included.
        loss : Loss
            Of the step.
        rate, gradient : float
            Learning rate, and length of the gradient before it was clipped.
        """
        values = {
            "loss": loss.total.item(),
            "cross_entropy": loss.cross_entropy.item(),
            **{f"dice_{c}": dice for c, dice in enumerate(loss.dice.tolist())},
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
