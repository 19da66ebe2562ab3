"""Several processes that train one network: `torchrun dlild-export train ...`.

Every sum that a single process would take over its batch is taken over the batches of all:
those of the loss, and those of batch normalisation. So two processes compute what one with
twice the batch does.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

# The others wait while the first prepares a dataset. A process that dies is torchrun's affair: it
# ends the rest.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class World:
    """The processes of a training.

    Attributes
    ----------
    rank, size : int
        Number of this process, and how many there are.
    device : torch.device
        Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes; gradients flow back to all of them."""
        if self.size == 1:
            return tensor
        return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]

    def any(self, flag: bool) -> bool:
        """Whether a flag is up in any process."""
        if self.size == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(raised)
        return bool(raised > 0)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            distributed.barrier()

    def share(self, network: nn.Module) -> nn.Module:
        """Make a network one network of all processes, batch normalisation included."""
        if self.size == 1:
            return network
        # A kernel of one voxel has no memory order; a note about it would tell the user nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        if self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return nn.parallel.DistributedDataParallel(
                network, device_ids=[self.device.index], forward_sync_buffers=False
            )
        _share_statistics(network)
        return nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False)


@contextmanager
def open_world() -> Iterator[World]:
    """Join the processes that `torchrun` started, or be alone."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size == 1:
        yield World(0, 1, device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(rank, size, device)
    finally:
        distributed.destroy_process_group()


class _Sum(torch.autograd.Function):
    """Sum over the processes, whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone().contiguous()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone().contiguous()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm3d(nn.BatchNorm3d):
    """Batch normalisation over the batches of all CPU processes; torch has it for GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; in training with mean and variance over all processes."""
        if not self.training:
            return super().forward(x)
        axes, like = (0, 2, 3, 4), (1, -1, 1, 1, 1)
        wide = x.float()
        count = wide.numel() // wide.shape[1] * distributed.get_world_size()
        mean = cast(Tensor, _Sum.apply(wide.sum(axes))) / count  # type: ignore[no-untyped-call]
        centred = wide - mean.view(like)
        squares = cast(Tensor, _Sum.apply(centred.square().sum(axes)))  # type: ignore[no-untyped-call]
        variance = squares / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        normal = centred * (variance + self.eps).rsqrt().view(like)
        return (normal * self.weight.view(like) + self.bias.view(like)).to(x.dtype)


def _share_statistics(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm3d:
                shared = SharedBatchNorm3d(child.num_features, child.eps, child.momentum)
                shared.train(child.training)  # fixed statistics stay fixed
                shared.weight, shared.bias = child.weight, child.bias
                shared.running_mean, shared.running_var = child.running_mean, child.running_var
                shared.num_batches_tracked = child.num_batches_tracked
                setattr(parent, name, shared)
