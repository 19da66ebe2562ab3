"""The training loop: cases in, a checkpoint out."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

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
from dlild_export.training.distributed import World, open_world
from dlild_export.training.losses import Loss, dice_ce_loss, over_levels
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
        Checkpoint or ONNX file whose weights to begin with.
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
        state = _new_state(config, source, start, world)
        checkpoint = out / checkpoints.NAME
        first = checkpoints.resume(checkpoint, state, config, [case.name for case in learned])
        world.wait()  # no process may write a checkpoint that another one has still to read
        with _run_writer(out, config, state, learned, held_out, first, world) as writer:
            for done, loss in _steps(first, state, source, config, world, writer):
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


def _new_state(config: TrainConfig, source: PatchSource, start: Path | None, world: World) -> State:
    torch.manual_seed(config.seed)
    torch.backends.cudnn.deterministic = config.deterministic
    network = UNet(config.network)
    model = SupervisedUNet(network, config.deep_supervision)
    if config.fixed_statistics and not start:
        raise WeightsError(
            "fixed_statistics is true, and a new network has none to fix: name the weights to "
            "begin with (--start)"
        )
    if start:
        begun = adopt(load_network(start), config.network)
        if begun.config != config.network:
            raise WeightsError(
                f"{start} holds a network of {begun.config}, and {config.network} is configured"
            )
        if start.suffix == ".onnx":
            restore_statistics(
                begun, (source[0, 10**9 + i][0][None] for i in range(_SETTLING_PATCHES))
            )
        network.load_state_dict(begun.state_dict())
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
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    return State(model, average, optimiser, origin_of(start))


def _steps(
    first: int,
    state: State,
    source: PatchSource,
    config: TrainConfig,
    world: World,
    writer: RunWriter | None,
) -> Iterator[tuple[int, float]]:
    """Train from step `first` on, and yield the steps done and the loss after each."""
    model = world.share(state.model)
    loss_of = _loss(config, world)
    loader = DataLoader(
        source,
        batch_sampler=_Keys(first, config, world),
        num_workers=config.workers,
        generator=torch.Generator(),
    )
    precision = mixed_precision(world.device, wanted=config.bf16)
    for step, (patches, labels) in enumerate(loader, start=first):
        rate = learning_rate(step, config)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        hu = patches.to(world.device, memory_format=torch.channels_last_3d)
        with precision:
            logits = model(hu)
        loss = over_levels(logits, labels.to(world.device), loss_of)
        state.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
        _check_finite(step, loss.total, norm, source, config, world)
        state.optimiser.step()
        state.average.update_parameters(state.model.network)
        if writer:
            writer.note(step + 1, loss, rate, float(norm))
        yield step + 1, loss.total.item()


def _loss(config: TrainConfig, world: World) -> Callable[[Tensor, Tensor], Loss]:
    weights = None
    if config.class_weights:
        weights = torch.tensor(config.class_weights, device=world.device)
    return partial(
        dice_ce_loss,
        class_weights=weights,
        focal_gamma=config.focal_gamma,
        lesions_together=config.lesions_together,
        over_processes=world.sum,
    )


def _check_finite(
    step: int, loss: Tensor, norm: Tensor, source: PatchSource, config: TrainConfig, world: World
) -> None:
    for name, value in (("loss", loss), ("length of the gradient", norm)):
        if not torch.isfinite(value):
            keys = [(step, i) for i in range(config.stage(step).batch * world.size)]
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
            yield [(step, self.world.rank * batch + i) for i in range(batch)]


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
