"""The network that a teacher teaches: the whole of it, or its first and last block alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dlild_export.training.start import first_level
from dlild_export.training.unet import HEALTHY_HU, UNet


class Student(nn.Module):
    """A network, and which part of it is taught.

    Parameters
    ----------
    network : UNet
        To teach; what is not taught stays as it is.
    part : str
        "all", or "blocks": nothing is computed but the first and the last block, the last one on
        the features that the teacher has for all that lies between.
    """

    def __init__(self, network: UNet, part: Literal["blocks", "all"]) -> None:
        super().__init__()
        self.network, self.part = network, part
        self.heads = nn.ModuleList()
        if part == "blocks":
            taught = first_level(network.state_dict())
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name in taught)

    def forward(self, hu: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Answer a batch.

        Parameters
        ----------
        hu : Tensor, shape (n, 1, z, y, x)
            HU.
        decoded : Tensor, shape (n, channels, z / 2, y / 2, x / 2)
            As `Targets` has them; not read where all is taught.

        Returns
        -------
        logits : Tensor, shape (n, classes, z, y, x)
            Of the head.
        pooled : Tensor, shape (n, channels, z / 2, y / 2, x / 2)
            What the encoder's second level reads; no channels where all is taught.
        """
        network, hu_offset = self.network, hu - HEALTHY_HU
        if self.part == "all":
            logits = network.head(network.features(hu_offset)[0])
            return logits, decoded[:, :0]
        assert network.narrowing is not None
        with torch.no_grad():
            inputs = network.inputs(hu_offset)
        first = network.down[0](inputs)
        last = network.up[-1](torch.cat((decoded, first), dim=1))
        return network.head(last), network.narrowing(first)


def first_norms(network: UNet) -> list[nn.BatchNorm3d]:
    """Return the normalisations of the first level, those of the encoder first."""
    level = first_level(network.state_dict())
    return [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm3d) and f"{name}.weight" in level
    ]


@torch.no_grad()
def measure_statistics(
    student: Student, norms: Sequence[nn.BatchNorm3d], hu: Tensor, decoded: Tensor
) -> None:
    """Give layers that are new the statistics of a batch, so that they begin evenly.

    Parameters
    ----------
    student : Student
        Of these layers. Left in evaluation mode.
    norms : sequence of torch.nn.BatchNorm3d
        Mean and variance of these are changed in place.
    hu, decoded : Tensor
        As `Student.forward` takes them; the more patches, the better.
    """
    student.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    student(hu, decoded)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
