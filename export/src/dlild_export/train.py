"""The training loop: cases in, a checkpoint out."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dlild_export import checkpoints
from dlild_export.cases import ArrayCache, Case, case_files, open_case, split
from dlild_export.checkpoints import State
from dlild_export.distributed import World, open_world
from dlild_export.journal import Journal
from dlild_export.losses import Loss, dice_ce_loss, over_levels
from dlild_export.patches import Key, PatchSource
from dlild_export.start import load_network, restore_statistics
from dlild_export.train_config import TrainConfig, write_config
from dlild_export.unet import SupervisedUNet, UNet
from dlild_export.validation import validate

__all__ = ["Stopped", "TrainConfig", "load_network", "train"]

# Called after every step with the steps done and the loss.
Progress = Callable[[int, float], None]
_SETTLING_PATCHES = 8  # that the statistics of a network read from ONNX are measured on


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training was asked to stop, and has written a checkpoint to go on from."""

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step}; the same command goes on from there")
        self.step, self.signal_number = step, signal_number


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
    progress: Progress | None = None,
) -> Path:
    """Train the network on cases; goes on from the checkpoint in `out`, where there is one.

    Parameters
    ----------
    folder : pathlib.Path
        Prepared cases, `*.npz`.
    out : pathlib.Path
        Gets `checkpoint.pt`, `config.toml`, `metrics.csv`, `validation.csv` and `tensorboard/`.
    config : TrainConfig
        How to train.
    start : pathlib.Path, optional
        Checkpoint or ONNX file whose weights to begin with.
    progress : callable, optional
        Called after every step with the steps done and the loss.

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
    Stopped
        SIGTERM or SIGINT came; the checkpoint is written.
    """
    with open_world() as world, _listening() as caught:
        out.mkdir(parents=True, exist_ok=True)
        cases = [open_case(path) for path in case_files(folder)]
        learned, held_out = split(cases, config.held_out, config.seed)
        source = PatchSource(learned, config)
        state = _new_state(config, source, start, world)
        checkpoint = out / checkpoints.NAME
        names = [case.name for case in learned]
        first = checkpoints.resume(checkpoint, state, config, names)
        world.wait()
        keeper = _Keeper(world, config, state, out, names, held_out)
        if world.rank == 0:
            write_config(config, out / "config.toml")
        journal = (
            Journal(out, first=first, every=config.log_every) if world.rank == 0 else nullcontext()
        )
        with journal as keeper.journal:
            for done, loss in _steps(first, state, source, config, world, keeper):
                stop = world.any(bool(caught))
                keeper.after(done, last=stop or done == config.steps)
                if progress:
                    progress(done, loss)
                if stop and done < config.steps:
                    raise Stopped(done, caught[0] if caught else signal.SIGTERM)
    return checkpoint


def _new_state(config: TrainConfig, source: PatchSource, start: Path | None, world: World) -> State:
    torch.manual_seed(config.seed)
    torch.use_deterministic_algorithms(config.deterministic)
    network = UNet(config.network)
    model = SupervisedUNet(network, config.deep_supervision)
    if start:
        begun = load_network(start)
        if begun.config != config.network:
            raise checkpoints.ResumeError(
                f"{start} holds a network of {begun.config}, and {config.network} is configured"
            )
        if start.suffix == ".onnx":
            restore_statistics(
                begun, (source[0, 10**9 + i][0][None] for i in range(_SETTLING_PATCHES))
            )
        network.load_state_dict(begun.state_dict())
    model = model.train().to(world.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = AveragedModel(
        model.network,
        multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / config.average_steps),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    return State(model, average, optimiser)


def _steps(
    first: int,
    state: State,
    source: PatchSource,
    config: TrainConfig,
    world: World,
    keeper: _Keeper,
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
    for step, (hu, labels) in enumerate(loader, start=first):
        rate = learning_rate(step, config)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        hu = hu.to(world.device, memory_format=torch.channels_last_3d)
        with torch.autocast(world.device.type, torch.bfloat16, enabled=config.bf16):
            logits = model(hu)
        loss = over_levels(logits, labels.to(world.device), loss_of)
        state.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
        _check_finite(step, loss.total, norm, source, config, world)
        state.optimiser.step()
        state.average.update_parameters(state.model.network)
        keeper.note(step + 1, loss, rate, float(norm))
        yield step + 1, loss.total.item()


def _loss(config: TrainConfig, world: World) -> Callable[[Tensor, Tensor], Loss]:
    weights = None
    if config.class_weights:
        weights = torch.tensor(config.class_weights, device=world.device)
    return partial(
        dice_ce_loss,
        class_weights=weights,
        focal_gamma=config.focal_gamma,
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


@dataclass
class _Keeper:
    """Writes metrics, validations and checkpoints of a training; the first process's alone."""

    world: World
    config: TrainConfig
    state: State
    out: Path
    names: list[str]
    held_out: list[Case]
    journal: Journal | None = None

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.arrays = ArrayCache(self.config.cache_gb * 1e9)

    def note(self, done: int, loss: Loss, rate: float, norm: float) -> None:
        if self.journal is None:
            return
        values = {
            "loss": loss.total.item(),
            "cross_entropy": loss.cross_entropy.item(),
            **{f"dice_{c}": dice for c, dice in enumerate(loss.dice.tolist())},
            "learning_rate": rate,
            "gradient": norm,
            "seconds": time.monotonic() - self.began,
        }
        self.journal.step(done, values)

    def after(self, done: int, *, last: bool) -> None:
        if self.journal is None:
            return
        c = self.config
        if last or done % c.checkpoint_every == 0:
            checkpoints.save(self.out / checkpoints.NAME, done, self.state, c, self.names)
        due = c.validate_every and (done % c.validate_every == 0 or done == c.steps)
        if due and self.held_out:
            found = validate(
                self.state.average,
                self.held_out[: c.validate_cases],
                self.arrays,
                window=c.stages[-1].patch,
                device=self.world.device,
                bf16=c.bf16,
            )
            values = {
                **{f"dice_{number}": dice for number, dice in enumerate(found.dice)},
                "lung_dice": found.lung_dice,
                "lesion_dice": found.lesion_dice,
                "dl_ild_mae": found.dl_ild_mae,
                "dl_ild_bias": found.dl_ild_bias,
            }
            self.journal.validation(done, values)


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT while a step is finished; a second one ends at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # only the main thread may set handlers
        return
    former = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def catch(number: int, _: object) -> None:
        caught.append(number)
        for s, handler in former.items():
            signal.signal(s, handler)

    for s in former:
        signal.signal(s, catch)
    try:
        yield caught
    finally:
        for s, handler in former.items():
            signal.signal(s, handler)
