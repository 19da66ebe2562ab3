"""The 3D U-Net: raw HU in, class probabilities out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, pad

from dlild_export.breath import AIR_HU, HEALTHY_LUNG_HU, WATER_HU, move_lung

# Air-filled lung, darker than nearly all disease and brighter than air outside the body. In bf16,
# HU of this size are rounded to multiples of 4, but none across these bounds. Across -985 and -750
# some were, which moved DL-ILD by 0.16 point.
_AERATED_HU = (-986.5, -749.5)
_LEVEL_HU = 100.0
_NEAR = 9  # cells of the coarsest level that the lung's level is taken over: 108 mm at 1.5 mm
_DOUBT = 0.02  # share of air-filled lung at which its level counts half
# Beyond these levels the little between air and lung would be stretched without measure.
_MOVED_FROM = (-1.0, 0.9)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Size of the network, and the window that it looks at HU through."""

    # Channels from full resolution down. Multiples of 16 fill a vector register in bf16.
    channels: tuple[int, ...] = (16, 32, 64, 128)
    classes: int = 6
    # HU below and above carry nothing about the lungs and are cut off.
    window_hu: tuple[float, float] = (-1024.0, 276.0)
    # Whether the network is told how dense the air-filled lung round a voxel is.
    lung_level: bool = True
    # Whether HU are moved so that the air-filled lung round a voxel is as dense in every patient.
    relative_hu: bool = True

    @property
    def stride(self) -> int:
        """Voxels that a patch's edges must be a multiple of."""
        return int(2 ** (len(self.channels) - 1))


class _Block(nn.Sequential):
    """Two convolutions, each with batch normalisation and ReLU.

    Batch normalisation, not instance or group normalisation: its statistics are fixed once
    trained, so a voxel's class does not depend on where the window was cut, and it costs nothing
    when served.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv3d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm3d(outside),
            nn.ReLU(inplace=True),
            nn.Conv3d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm3d(outside),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """3D U-Net (Çiçek et al. 2016) with the preprocessing inside.

    Parameters
    ----------
    config : UNetConfig
        Size of the network.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.down = nn.ModuleList(
            _Block(a, b) for a, b in zip((1 + config.lung_level, *widths[:-1]), widths, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_Block(2 * b, b) for _, b in pairs)
        self.head = nn.Conv3d(widths[0], config.classes, 1)

    def forward(self, hu: Tensor) -> Tensor:
        """Return logits of the classes.

        Parameters
        ----------
        hu : Tensor, shape (n, 1, z, y, x)
            HU; edges must be multiples of `config.stride`.

        Returns
        -------
        Tensor, shape (n, classes, z, y, x)
            Logits; softmax over axis 1 gives probabilities.
        """
        logits: Tensor = self.head(self.features(hu)[0])
        return logits

    def features(self, hu: Tensor) -> list[Tensor]:
        """Return what the decoder makes of HU on every level, from full resolution down.

        Parameters
        ----------
        hu : Tensor, shape (n, 1, z, y, x)
            HU; edges must be multiples of `config.stride`.

        Returns
        -------
        list of Tensor, shape (n, channels, z, y, x)
            One a level but the deepest, each half as large as the one before.
        """
        config = self.config
        if config.lung_level or config.relative_hu:
            level = lung_level(hu, config.stride)
        x = relative_hu(hu, level) if config.relative_hu else hu
        low, high = config.window_hu
        x = (x.clamp(low, high) - (low + high) / 2) / ((high - low) / 2)
        if config.lung_level:
            x = torch.cat((x, level), dim=1)
        skipped = []
        for depth, block in enumerate(self.down):
            x = block(self.pool(x) if depth else x)
            skipped.append(x)
        x = skipped.pop()
        levels: list[Tensor] = []
        for rise, block in zip(self.rise, self.up, strict=True):
            x = block(torch.cat((rise(x), skipped.pop()), dim=1))
            levels.insert(0, x)
        return levels


def lung_level(hu: Tensor, cell: int) -> Tensor:
    """Return how dense the air-filled lung round each voxel is: the mean HU of what is air-filled.

    Healthy lung of one patient, at one depth of breath, is as dense as ground-glass of another. A
    reader compares a place with the lung round it; a network of few steps does not learn to.

    Parameters
    ----------
    hu : Tensor, shape (n, 1, z, y, x)
        HU; edges must be multiples of `cell`.
    cell : int
        Voxels along the edge of the cubes that share a level.

    Returns
    -------
    Tensor, shape (n, 1, z, y, x)
        0 at -850 HU and where there is no air-filled lung, 1 at -750 HU.
    """
    low, high = _AERATED_HU
    aerated = ((hu > low) & (hu < high)).to(hu.dtype)
    sums = torch.cat((aerated * ((hu - HEALTHY_LUNG_HU) / _LEVEL_HU), aerated), dim=1)
    near = avg_pool3d(pad(avg_pool3d(sums, cell), (_NEAR // 2,) * 6), _NEAR, stride=1)
    level = near[:, :1] / (near[:, 1:] + _DOUBT)
    return interpolate(level, scale_factor=float(cell), mode="nearest")


def relative_hu(hu: Tensor, level: Tensor) -> Tensor:
    """Return HU as they would be if the air-filled lung round each voxel were at -850 HU.

    Faint ground-glass in dark lung is as dense as healthy lung elsewhere. A network that was told
    the level still went by HU, after 7,000 steps; with HU that start from the level it need not
    learn to.

    Parameters
    ----------
    hu : Tensor, shape (n, 1, z, y, x)
        HU.
    level : Tensor, shape (n, 1, z, y, x)
        As `lung_level` returns it.

    Returns
    -------
    Tensor, shape (n, 1, z, y, x)
        HU, in the order that they had; air (-1000 HU), water (0 HU) and all above it stay.
    """
    # On the level's scale lung is near 0, where bf16 is fine: near -850 it has steps of 4 HU, and
    # a level that is rounded so moves whole lungs (DL-ILD by 0.13 point on one phantom).
    level = level.clamp(*_MOVED_FROM)
    air, water = ((fixed - HEALTHY_LUNG_HU) / _LEVEL_HU for fixed in (AIR_HU, WATER_HU))
    seen = (hu - HEALTHY_LUNG_HU) / _LEVEL_HU
    moved = move_lung(seen, level, -level, air=air, water=water)
    return moved * _LEVEL_HU + HEALTHY_LUNG_HU


class SupervisedUNet(nn.Module):
    """The network as it is trained: with a head on coarser levels of the decoder too.

    Deep supervision (Lee et al. 2015). The further heads are for the training alone and are never
    exported.

    Parameters
    ----------
    network : UNet
        To train.
    depth : int
        Coarser levels with a head.
    """

    def __init__(self, network: UNet, depth: int) -> None:
        super().__init__()
        self.network = network
        config = network.config
        self.heads = nn.ModuleList(
            nn.Conv3d(width, config.classes, 1) for width in config.channels[1 : depth + 1]
        )

    def forward(self, hu: Tensor) -> list[Tensor]:
        """Return logits of the classes on every level that is taught, full resolution first."""
        levels = self.network.features(hu)
        logits = [self.network.head(levels[0])]
        taught = levels[1 : len(self.heads) + 1]
        logits += [head(level) for head, level in zip(self.heads, taught, strict=True)]
        return logits


class ServedUNet(nn.Module):
    """The network as it is served: FP16 HU in, FP16 probabilities out.

    Parameters
    ----------
    network : UNet
        Trained network.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, window: Tensor) -> Tensor:
        """Return probabilities, FP16, shape (n, classes, z, y, x), of an FP16 window of HU."""
        probabilities: Tensor = torch.softmax(self.network(window.float()), dim=1).half()
        return probabilities
