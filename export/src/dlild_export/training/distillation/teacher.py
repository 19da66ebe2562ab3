"""What a teacher answers to a patch: logits, and the features that blocks are taught by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dlild_export.training.config import TrainConfig
from dlild_export.training.start import WeightsError, load_network
from dlild_export.training.unet import HEALTHY_HU, UNet


@dataclass(frozen=True)
class Targets:
    """A teacher's answers to a batch of patches, FP16.

    Attributes
    ----------
    logits : Tensor, shape (n, classes, z, y, x)
        Of the head: before evidence is averaged, a voxel's are about its own neighbourhood.
    pooled : Tensor, shape (n, channels, z / 2, y / 2, x / 2)
        Features of the encoder's first level, pooled: what its second level reads.
    decoded : Tensor, shape (n, channels of the second level, z / 2, y / 2, x / 2)
        Features of the decoder's second level: what its first level reads, with a skip.
    """

    logits: Tensor
    pooled: Tensor
    decoded: Tensor


class Teacher:
    """Answers patches, and remembers what it answered to those that come again.

    Parameters
    ----------
    network : UNet
        In evaluation mode, with its first level at full resolution where blocks are taught.
    config : TrainConfig
        Its `distil`, `repeat_steps` and `cache_gb`.
    device : torch.device
        Where to compute. Answers are computed in FP32.
    """

    def __init__(self, network: UNet, config: TrainConfig, device: torch.device) -> None:
        self.network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._blocks = config.distil == "blocks"
        self._bound_bytes = config.cache_gb * 1e9 if config.repeat_steps else 0.0
        self._kept: dict[tuple[int, int], Targets] = {}
        self._kept_bytes = 0

    def targets(self, hu: Tensor, keys: Sequence[tuple[int, int]]) -> Targets:
        """Return the answers to a batch.

        Parameters
        ----------
        hu : Tensor, shape (n, 1, z, y, x)
            HU of the patches.
        keys : sequence of tuple of int
            Names of the patches, n of them: what had a name once is not computed again.
        """
        found = [self._target(patch[None], key) for patch, key in zip(hu, keys, strict=True)]
        return Targets(
            *(torch.cat(parts).to(hu.device) for parts in zip(*map(_tensors, found), strict=True))
        )

    def _target(self, hu: Tensor, key: tuple[int, int]) -> Targets:
        if key in self._kept:
            return self._kept[key]
        target = self.answer(hu)
        size = sum(part.nbytes for part in _tensors(target))
        if self._kept_bytes + size <= self._bound_bytes:
            self._kept[key] = Targets(*(part.cpu() for part in _tensors(target)))
            self._kept_bytes += size
        return target

    @torch.no_grad()
    def answer(self, hu: Tensor) -> Targets:
        """Return the answers to a batch, computed anew."""
        encoded = self.network.encode(hu - HEALTHY_HU)
        levels = self.network.decode(encoded)
        logits = self.network.head(levels[0]).half()
        if not self._blocks:
            return Targets(logits, logits[:, :0], logits[:, :0])
        return Targets(logits, self.network.pool(encoded[0]).half(), levels[1].half())


def _tensors(targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    return targets.logits, targets.pooled, targets.decoded


def load_teacher(path: Path, config: TrainConfig, device: torch.device) -> Teacher:
    """Load a teacher, and check that it can teach the network that is configured.

    Parameters
    ----------
    path : pathlib.Path
        Checkpoint or ONNX file.
    config : TrainConfig
        Of the training.
    device : torch.device
        Where to compute.

    Raises
    ------
    WeightsError
        The file holds no weights, or those of a network that does not fit.
    """
    network = load_network(path)
    taught, teaching = config.network, network.config
    if teaching.classes != taught.classes:
        raise WeightsError(
            f"{path}: the teacher tells {teaching.classes} classes apart, and network.classes is "
            f"{taught.classes}"
        )
    if config.distil == "blocks" and teaching.stem != "full":
        raise WeightsError(
            f"{path}: the teacher's first level is {teaching.stem} too: blocks are taught by a "
            "network whose first level is at full resolution, and another one by distil = all"
        )
    if config.distil == "blocks" and teaching.channels != taught.channels:
        raise WeightsError(
            f"{path}: the teacher has {teaching.channels} channels and network.channels is "
            f"{taught.channels}: blocks are taught by features, which must be as many"
        )
    return Teacher(network, config, device)
