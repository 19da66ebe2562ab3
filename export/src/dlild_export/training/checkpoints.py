"""All that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from dlild_export.data.digest import sha256
from dlild_export.training.config import TrainConfig, differences
from dlild_export.training.distillation.student import Student
from dlild_export.training.unet import SupervisedUNet

FORMAT = 1
NAME = "checkpoint.pt"
_WAY_OUT = "give the former ones, or another folder for the new training"


class ResumeError(ValueError):
    """A checkpoint that this training cannot go on from; the message says what differs."""


@dataclass(frozen=True)
class State:
    """What changes from step to step.

    The patches are no part of it: they are a function of seed, step and index.

    Attributes
    ----------
    model : SupervisedUNet or Student
        Network and further heads.
    average : AveragedModel
        Running mean of the network's weights and statistics.
    optimiser : torch.optim.Optimizer
        With its moments.
    origin : dict
        Start weights, trainings before and versions (`provenance.origin_of`).
    """

    model: SupervisedUNet | Student
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    origin: dict[str, Any] = field(default_factory=dict)


def save(path: Path, step: int, state: State, config: TrainConfig, cases: list[str]) -> None:
    """Write a checkpoint: whole or not at all, whenever the process is killed.

    Parameters
    ----------
    path : pathlib.Path
        Of the checkpoint.
    step : int
        Steps done.
    state : State
        Of the training.
    config : TrainConfig
        Of the training.
    cases : list of str
        Names of the cases trained on, in the order that patches are drawn from.
    """
    stored: dict[str, Any] = {
        "format": FORMAT,
        "step": step,
        "network": state.model.network.state_dict(),
        "heads": state.model.heads.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "random": _random_states(),
        "config": asdict(config),
        "cases": cases,
        "origin": state.origin,
    }
    _write(path, stored)


def _write(path: Path, stored: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(stored, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ResumeError(f"{path}: the checkpoint cannot be read: {reason}") from None
    return stored


def resume(path: Path, state: State, config: TrainConfig, cases: list[str]) -> int:
    """Bring a training to where a checkpoint left it.

    Parameters
    ----------
    path : pathlib.Path
        Of the checkpoint; where there is none, the training begins.
    state : State
        Changed in place.
    config : TrainConfig
        Must be that of the checkpoint in all that touches the weights.
    cases : list of str
        Must be those of the checkpoint.

    Returns
    -------
    int
        Steps done.

    Raises
    ------
    ResumeError
        The checkpoint is of another training, or is damaged.
    """
    if not path.exists():
        return 0
    stored = _read(path)
    _check_same(path, stored, config, cases)
    if stored.get("origin", {}).get("teacher_sha256") != state.origin.get("teacher_sha256"):
        raise ResumeError(f"{path} was taught by another teacher: {_WAY_OUT}")
    state.model.network.load_state_dict(stored["network"])
    state.model.heads.load_state_dict(stored["heads"])
    state.average.load_state_dict(stored["average"])
    state.optimiser.load_state_dict(stored["optimiser"])
    torch.set_rng_state(stored["random"]["cpu"])
    if torch.cuda.is_available() and "cuda" in stored["random"]:
        torch.cuda.set_rng_state(stored["random"]["cuda"])
    state.origin.clear()
    state.origin.update(stored.get("origin", {}))
    step: int = stored["step"]
    return step


def average_runs(runs: Sequence[Path], out: Path) -> Path:
    """Average the weights of trainings, each of which began with the weights of the one before.

    Weights that one network was trained further to lie in one basin of the loss, and their mean is
    often better on data of another kind than each (Wortsman et al., "Model soups", ICML 2022).

    Parameters
    ----------
    runs : sequence of pathlib.Path
        Folders of trainings. The last one's settings and origin are kept.
    out : pathlib.Path
        Folder of the new run: `checkpoint.pt` and `config.toml`.

    Returns
    -------
    pathlib.Path
        The checkpoint. Its cases are those of all runs.

    Raises
    ------
    ValueError
        Fewer than two runs, or networks of different configurations.
    ResumeError
        A folder holds no checkpoint that can be read.
    """
    if len(runs) < 2:
        raise ValueError("an average is of two runs at least")
    paths = [run / NAME for run in runs]
    found = [_read(path) for path in paths]
    for path, stored in zip(paths, found, strict=True):
        if stored["config"]["network"] != found[-1]["config"]["network"]:
            raise ValueError(f"{path}: its network is another than that of {paths[-1]}")
    last = found[-1]
    for name, value in last["average"].items():
        if value.is_floating_point():
            last["average"][name] = torch.stack([one["average"][name] for one in found]).mean(0)
    last["cases"] = list(dict.fromkeys(case for one in found for case in one["cases"]))
    last.setdefault("origin", {})["average_of_sha256"] = [sha256(path) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(runs[-1] / "config.toml", out / "config.toml")
    _write(out / NAME, last)
    return out / NAME


def _check_same(path: Path, stored: dict[str, Any], config: TrainConfig, cases: list[str]) -> None:
    if stored.get("format") != FORMAT:
        raise ResumeError(
            f"{path}: checkpoint of format {stored.get('format', 0)}, not {FORMAT}: begin with its "
            "weights (--start) in another folder"
        )
    changed = differences(stored["config"], config)
    if changed:
        raise ResumeError(f"{path} was made with other settings ({'; '.join(changed)}): {_WAY_OUT}")
    if stored["cases"] != cases:
        odd = sorted(set(stored["cases"]) ^ set(cases)) or ["their order"]
        raise ResumeError(
            f"{path} was made with other cases ({len(odd)} differ, first {odd[0]}): {_WAY_OUT}"
        )


def _random_states() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
