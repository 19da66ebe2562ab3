"""The training loop: cases in, a checkpoint out."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dlild_export.data.layout import is_dataset
from dlild_export.data.prepare import prepare, prepared_files
from dlild_export.training import checkpoints
from dlild_export.training.cases import TrainingCase, open_case, split
from dlild_export.training.checkpoints import State
from dlild_export.training.config import TrainConfig, mixed_precision
from dlild_export.training.distillation.blocks import read_blocks
from dlild_export.training.distillation.objective import Distillation
from dlild_export.training.distillation.teacher import load_teacher
from dlild_export.training.distributed import World, open_world
from dlild_export.training.losses import StepLoss, dice_ce_loss, over_levels
from dlild_export.training.patches import Key, PatchSource
from dlild_export.training.provenance import origin_of
from dlild_export.training.run_writer import RunWriter
from dlild_export.training.start import (
    WeightsError,
    adopt,
    load_network,
    restore_statistics,
)
from dlild_export.training.unet import SupervisedUNet, UNet

__all__ = ["StoppedError", "TrainConfig", "learning_rate", "load_network", "train"]

_SETTLING_PATCHES = 8  # that the statistics of a network read from ONNX are measured on
_FITTED_PATCHES = 32  # that a student's first block is fitted to, and its statistics measured on


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then the schedule down to zero."""
    if step < config.warm_up_steps:
        return config.learning_rate * (step + 1) / config.warm_up_steps
    done = (step - config.warm_up_steps) / max(config.steps - config.warm_up_steps, 1)
    done = min(done, 1.0)
    if config.schedule == "poly":
        return config.learning_rate * float((1 - done) ** 0.9)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train(
    folder: Path,
    out: Path,
    config: TrainConfig,
    *,
    start: Path | None = None,
    teacher: Path | None = None,
    blocks: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
    preparing: Callable[[int, int], None] | None = None,
) -> Path:
    """Train the network on cases; goes on from the checkpoint in `out`, where there is one.

    Parameters
    ----------
    folder : pathlib.Path
        Prepared cases, `*.npz`, or a dataset (`dlild_export.data.layout`), which is prepared first.
    out : pathlib.Path
        Gets `checkpoint.pt`, `config.toml`, `metrics.csv`, `validation.csv` and `tensorboard/`.
    config : TrainConfig
        How to train.
    start : pathlib.Path, optional
        Checkpoint or ONNX file whose weights to begin with; the teacher's where there is one and
        this is not given.
    teacher : pathlib.Path, optional
        Checkpoint or ONNX file of the network whose answers teach, where `config.distil` says so.
    blocks : pathlib.Path, optional
        First and last block to begin with (`blocks.pt` of a training of them).
    progress : callable, optional
        Called after every step with the steps done and the loss.
    preparing : callable, optional
        Called with the number of cases prepared, and of all.

    Returns
    -------
    pathlib.Path
        The checkpoint; its `average` holds the weights to use.

    Raises
    ------
    FileNotFoundError
        The folder holds no cases.
    CaseError, WeightsError, ResumeError
        A case, the weights to begin with or the checkpoint to go on from cannot be used.
    FloatingPointError
        Loss or gradient is not a finite number.
    StoppedError
        SIGTERM or SIGINT came; the checkpoint is written.
    """
    with open_world() as world, listening() as caught:
        out.mkdir(parents=True, exist_ok=True)
        files = prepared_files(_prepared(folder, out, world, preparing))
        cases = [open_case(path) for path in files]
        learned, held_out = split(cases, config.held_out, config.seed)
        source = PatchSource(learned, config)
        objective = _objective(config, source, teacher, world)
        state = _new_state(config, source, objective, start or teacher, blocks, world)
        state.origin.update(origin_of(start or teacher, teacher=teacher, blocks=blocks))
        checkpoint = out / checkpoints.NAME
        first = checkpoints.resume(checkpoint, state, config, [case.name for case in learned])
        world.wait()  # no process may write a checkpoint that another one has still to read
        with _run_writer(out, config, state, learned, held_out, first, world) as writer:
            for done, loss in _steps(first, state, source, objective, config, world, writer):
                stopping = done < config.steps and world.any(bool(caught))
                if writer:
                    writer.keep(done, stopping=stopping)
                if progress:
                    progress(done, loss)
                if stopping:
                    raise StoppedError(done, caught[0] if caught else signal.SIGTERM)
    return checkpoint


def _prepared(
    folder: Path, out: Path, world: World, preparing: Callable[[int, int], None] | None
) -> Path:
    """Return the folder of prepared cases; a dataset is prepared by one process for all."""
    if not is_dataset(folder):
        return folder

    prepared = out / "prepared"
    if world.rank == 0:
        prepare(folder, prepared, progress=preparing)
    world.wait()
    return prepared


def _run_writer(
    out: Path,
    config: TrainConfig,
    state: State,
    learned: list[TrainingCase],
    held_out: list[TrainingCase],
    first: int,
    world: World,
) -> AbstractContextManager[RunWriter | None]:
    """Open the books, in one process of several."""
    if world.rank:
        return nullcontext()
    return RunWriter(
        out,
        config,
        state,
        learned=learned,
        held_out=held_out,
        first=first,
        device=world.device,
    )


class _Labels:
    """Teaches a network by the truth of the patches."""

    def __init__(self, config: TrainConfig, world: World) -> None:
        self._config, self._device = config, world.device
        weights = None
        if config.class_weights:
            weights = torch.tensor(config.class_weights, device=world.device)
        self._loss = partial(
            dice_ce_loss,
            class_weights=weights,
            focal_gamma=config.focal_gamma,
            lesions_together=config.lesions_together,
            over_processes=world.sum,
        )

    def model(self, network: UNet, *, new_level: bool) -> SupervisedUNet:
        if new_level and self._config.fixed_statistics:
            raise WeightsError(
                "fixed_statistics is true, and a new network or first level has none to fix: name "
                "the weights to begin with (--start)"
            )
        return SupervisedUNet(network, self._config.deep_supervision)

    def __call__(
        self, model: nn.Module, hu: Tensor, labels: Tensor, _keys: Sequence[Key]
    ) -> StepLoss:
        with mixed_precision(self._device, wanted=self._config.bf16):
            logits = model(hu)
        return over_levels(logits, labels.to(self._device), self._loss)


def _objective(
    config: TrainConfig, source: PatchSource, teacher: Path | None, world: World
) -> _Labels | Distillation:
    """Return what teaches: labels, or a teacher."""
    if config.distil == "none":
        if teacher:
            raise WeightsError(
                f"{teacher} has nothing to teach: distil is none, give blocks or all"
            )
        return _Labels(config, world)
    if not teacher:
        raise WeightsError(f"distil is {config.distil}: name the weights that teach (--teacher)")
    sample = _sample(source, _FITTED_PATCHES)
    return Distillation(load_teacher(teacher, config, world.device), config, sample, world)


def _sample(source: PatchSource, patches: int) -> Tensor:
    """Return HU of patches that no step takes, to measure statistics on."""
    return torch.stack([source[0, 10**9 + i][0] for i in range(patches)])


def _new_state(
    config: TrainConfig,
    source: PatchSource,
    objective: _Labels | Distillation,
    start: Path | None,
    blocks: Path | None,
    world: World,
) -> State:
    torch.manual_seed(config.seed)
    torch.backends.cudnn.deterministic = config.deterministic
    network, new_level = UNet(config.network), True
    if start:
        begun, new_level = _begun(config, source, start)
        network.load_state_dict(begun.state_dict())
    if blocks:
        read_blocks(blocks, network)
        new_level = False
    model = objective.model(network, new_level=new_level)
    model = model.train().to(world.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if config.fixed_statistics:
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm3d):
                layer.eval()
    average = AveragedModel(
        model.network,
        multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / config.average_steps),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    taught = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return State(model, average, torch.optim.AdamW(taught, weight_decay=config.weight_decay))


def _begun(config: TrainConfig, source: PatchSource, start: Path) -> tuple[UNet, bool]:
    """Return the network that a file begins, and whether its first level is drawn at random."""
    loaded = load_network(start)
    stem: dict[str, Any] = {
        "stem": loaded.config.stem,
        "stem_channels": loaded.config.stem_channels,
    }
    begun = adopt(loaded, replace(config.network, **stem))
    if replace(begun.config, **stem) != replace(config.network, **stem):
        raise WeightsError(
            f"{start} holds a network of {begun.config}, and {config.network} is configured"
        )
    if start.suffix == ".onnx":
        restore_statistics(begun, (patch[None] for patch in _sample(source, _SETTLING_PATCHES)))
    return adopt(begun, config.network), begun.config != config.network


def _steps(
    first: int,
    state: State,
    source: PatchSource,
    objective: _Labels | Distillation,
    config: TrainConfig,
    world: World,
    writer: RunWriter | None,
) -> Iterator[tuple[int, float]]:
    """Train from step `first` on, and yield the steps done and the loss after each."""
    model = world.share(state.model)
    batches = _Keys(first, config, world)
    loader = DataLoader(
        source,
        batch_sampler=batches,
        num_workers=config.workers,
        generator=torch.Generator(),
    )
    for step, keys, (patches, labels) in zip(
        range(first, config.steps), batches, loader, strict=True
    ):
        rate = learning_rate(step, config)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        hu = patches.to(world.device, memory_format=torch.channels_last_3d)
        loss = objective(model, hu, labels, keys)
        state.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
        _check_finite(step, loss.total, norm, source, config, world)
        state.optimiser.step()
        state.average.update_parameters(state.model.network)
        if writer:
            writer.note(step + 1, loss, rate, float(norm))
        yield step + 1, loss.total.item()


def _check_finite(
    step: int, loss: Tensor, norm: Tensor, source: PatchSource, config: TrainConfig, world: World
) -> None:
    for name, value in (("loss", loss), ("length of the gradient", norm)):
        if not torch.isfinite(value):
            keys = [(config.drawn(step), i) for i in range(config.stage(step).batch * world.size)]
            files = ", ".join(str(source.case(key).path) for key in keys)
            raise FloatingPointError(
                f"the {name} is {value.item()} at step {step + 1}, on patches of {files}: look at "
                "these cases, or lower learning_rate"
            )


class _Keys:
    """What every step draws in this process: the same patches, however many share the work."""

    def __init__(self, first: int, config: TrainConfig, world: World) -> None:
        self.first, self.config, self.world = first, config, world

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.first, self.config.steps):
            batch = self.config.stage(step).batch
            drawn = self.config.drawn(step)
            yield [(drawn, self.world.rank * batch + i) for i in range(batch)]


class StoppedError(Exception):
    """The training was asked to stop, and has written a checkpoint to go on from.

    Parameters
    ----------
    step : int
        Steps done.
    signal_number : int
        What asked.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step}; the same command goes on from there")
        self.step, self.signal_number = step, signal_number


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list; a second one ends the process as it always does.

    In a thread other than the main one, where no handler can be set, the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    former = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def hand_back() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def catch(number: int, _: object) -> None:
        caught.append(number)
        hand_back()

    for number in former:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        hand_back()
