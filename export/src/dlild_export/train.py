"""The training loop: phantoms in, a checkpoint out."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from dlild_export.dataset import PatchSource
from dlild_export.unet import UNet, UNetConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained."""

    network: UNetConfig = field(default_factory=UNetConfig)
    steps: int = 4000
    # Two patches are the fewest that batch normalisation takes kindly to.
    batch: int = 2
    patch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warm_up_steps: int = 150
    # Weights are averaged over about this many of the last steps.
    average_steps: int = 300
    checkpoint_every: int = 250
    seed: int = 0
    # bf16 halves the time of a step where the CPU or GPU has it.
    bf16: bool = True
    # Patches drawn and warped by other processes while the network computes.
    workers: int = 0


class _Patches(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, folder: Path, patch: int, seed: int) -> None:
        self.folder, self.patch, self.seed = folder, patch, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        source = PatchSource(self.folder, self.patch, self.seed + (worker.id if worker else 0))
        while True:
            hu, labels = source.draw()
            yield torch.from_numpy(hu)[None], torch.from_numpy(labels)[None]


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to zero."""
    if step < config.warm_up_steps:
        return config.learning_rate * (step + 1) / config.warm_up_steps
    left = (step - config.warm_up_steps) / max(config.steps - config.warm_up_steps, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(left, 1.0)))


def warp(hu: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Stretch, turn and shear a batch a little, the same for HU and labels.

    Parameters
    ----------
    hu, labels : Tensor, shape (n, 1, z, y, x)
        HU, and classes as whole numbers.
    rng : numpy.random.Generator
        Draws the change; one in two batches stays as it is.

    Returns
    -------
    hu, labels : Tensor, shape (n, 1, z, y, x)
        Changed alike; HU linear, labels nearest.
    """
    if rng.random() < 0.5:
        return hu, labels
    stretch = np.diag(rng.uniform(0.8, 1.2, 3)) + rng.normal(0, 0.06, (3, 3))
    matrix = torch.tensor(np.c_[stretch, np.zeros(3)], dtype=torch.float32)
    grid = nn.functional.affine_grid(
        matrix.expand(len(hu), 3, 4), list(hu.shape), align_corners=False
    )
    moved = nn.functional.grid_sample(hu, grid, padding_mode="border", align_corners=False)
    classes = nn.functional.grid_sample(
        labels.float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return moved, classes.long()


def train(
    folder: Path,
    out: Path,
    config: TrainConfig,
    *,
    start: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Path:
    """Train the network on phantoms; goes on from the last checkpoint in `out`.

    Parameters
    ----------
    folder : pathlib.Path
        Phantoms, as `dataset.write_phantoms` wrote them.
    out : pathlib.Path
        Gets `checkpoint.pt` and `metrics.csv`.
    config : TrainConfig
        How to train.
    start : pathlib.Path, optional
        Checkpoint whose averaged weights to begin with, for fine-tuning.
    progress : callable, optional
        Called after every step with the steps done and the loss.

    Returns
    -------
    pathlib.Path
        The checkpoint; its `average` holds the weights to use.

    Raises
    ------
    FileNotFoundError
        The folder holds no phantoms.
    FloatingPointError
        The loss is not a finite number.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(start).train() if start else UNet(config.network)
    network = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = AveragedModel(
        network,
        multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / config.average_steps),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, include_background=True, batch=True)
    checkpoint = out / "checkpoint.pt"
    first = _resume(checkpoint, network, average, optimiser)
    patches = _Patches(folder, config.patch, config.seed * 1_000_003 + first)
    batches = iter(DataLoader(patches, config.batch, num_workers=config.workers))
    rng = np.random.default_rng([config.seed, first])
    began = time.monotonic()
    for step in range(first, config.steps):
        hu, labels = next(batches)
        hu, labels = warp(hu, labels, rng)
        hu = hu.to(device, memory_format=torch.channels_last_3d)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            logits = network(hu)
        loss = loss_of(logits.float(), labels.to(device))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {step}: lower learning_rate, or look for "
                f"HU that are not finite in {folder}"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(network)
        _log(out / "metrics.csv", step, loss.item(), time.monotonic() - began)
        if progress:
            progress(step + 1, loss.item())
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(checkpoint, step + 1, network, average, optimiser, config)
    return checkpoint


def load_network(checkpoint: Path) -> UNet:
    """Load the averaged weights of a checkpoint, ready for inference on the CPU.

    Parameters
    ----------
    checkpoint : pathlib.Path
        What `train` wrote.

    Returns
    -------
    UNet
        In evaluation mode.
    """
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    settings = stored["config"]["network"]
    network = UNet(UNetConfig(**settings))
    weights = {
        k.removeprefix("module."): v for k, v in stored["average"].items() if k != "n_averaged"
    }
    network.load_state_dict(weights)
    return network.eval()


def _resume(
    checkpoint: Path, network: UNet, average: AveragedModel, optimiser: torch.optim.Optimizer
) -> int:
    if not checkpoint.exists():
        return 0
    stored = torch.load(checkpoint, weights_only=True)
    network.load_state_dict(stored["network"])
    average.load_state_dict(stored["average"])
    optimiser.load_state_dict(stored["optimiser"])
    step: int = stored["step"]
    return step


def _save(
    checkpoint: Path,
    step: int,
    network: UNet,
    average: AveragedModel,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
) -> None:
    stored: dict[str, Any] = {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "config": asdict(config),
    }
    unfinished = checkpoint.with_suffix(".unfinished")
    torch.save(stored, unfinished)
    unfinished.rename(checkpoint)


def _log(path: Path, step: int, loss: float, seconds: float) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "seconds"])
        writer.writerow([step, f"{loss:.5f}", f"{seconds:.1f}"])
