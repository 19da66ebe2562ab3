"""The 3D U-Net: raw HU in, class probabilities out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, pad

from dlild_client.contract.classes import Label
from dlild_export.training.breath import AIR_HU, WATER_HU, move_lung

# The network sees how far a voxel lies above healthy lung. An engine of bf16 has 8 bits for a
# number: HU near -850 it rounds to multiples of 4, whole numbers near 0 it holds, and so all of
# lung. (From HU, ties were rounded to one side: the density was wrong by 0.5 HU, and DL-ILD of a
# phantom by 0.13 point; now by 0.03.) Units are powers of 2, in which healthy lung is 0.
HEALTHY_HU, DENSITY_UNIT_HU, SEEN_HU = -848.0, 128.0, 512.0
_GRAIN = 2  # voxels along the edge of the cubes that are averaged first: noise and vessels even out
# Air-filled lung, darker than most disease and brighter than air outside the body.
_AERATED = tuple((bound - HEALTHY_HU) / DENSITY_UNIT_HU for bound in (-987.0, -668.0))
_NEAR = 9  # cells of the coarsest level that the density is taken over: 108 mm at 1.5 mm
_DOUBT = 0.02  # share of air-filled lung at which its density counts half
# How often the density is taken again, and of what: from 80 HU below the last one to 60 above it.
_ROUNDS, _KEPT = 3, (-80.0 / DENSITY_UNIT_HU, 60.0 / DENSITY_UNIT_HU)
_NO_LUNG = 1e-4  # share of lung round a voxel at which its evidence counts half
_LEAST_SHARE = -30.0  # logarithm of the least probability that is told from 0
_MOST_EVIDENCE = 6.0  # log-odds beyond which a voxel counts no more for its neighbours
_LEAST_PROBABILITY = 1e-6  # added to probabilities that are divided: bf16 and FP16 hold it
# Beyond these densities the little between air and lung would be stretched without measure.
_MOVED_FROM = ((-950.0 - HEALTHY_HU) / DENSITY_UNIT_HU, (-760.0 - HEALTHY_HU) / DENSITY_UNIT_HU)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Size of the network, and the window that it looks at HU through."""

    # Channels from full resolution down. Multiples of 16 fill a vector register in bf16.
    channels: tuple[int, ...] = (16, 32, 64, 128)
    classes: int = len(Label)
    # At which resolution the first level computes. "full": convolutions at full resolution, as in
    # U-Net. "space_to_depth": a convolution with a stride of 2 takes the place of them (a
    # space-to-depth by 2 and a convolution, with some weights 0), and the head is a transposed
    # convolution that gives each of a cube's 8 voxels its logits (a 1 x 1 x 1 convolution and a
    # depth-to-space). Two thirds of an engine's time are spent at full resolution, and whether a
    # voxel is a lesion is decided on cubes of 2 voxels anyhow (`evidence_on_cubes`).
    stem: Literal["full", "space_to_depth"] = "full"
    # Channels of the first level after a space-to-depth: 8 voxels are described together.
    stem_channels: int = 32
    # HU below and above carry nothing about the lungs and are cut off.
    window_hu: tuple[float, float] = (-1024.0, 276.0)
    # HU that the first convolution sees as 0, and how many are 1.
    centre_hu: float = HEALTHY_HU
    unit_hu: float = SEEN_HU
    # Whether the network sees how dense the air-filled lung round a voxel is.
    lung_density: bool = True
    # Whether HU are moved so that the air-filled lung round a voxel is as dense in every patient.
    relative_hu: bool = True
    # How often the evidence for lesions is averaged over neighbouring lung (0: each voxel decides
    # by itself).
    evidence_passes: int = 0
    # Whether it stays on cubes of 2 voxels to the end: an eighth of the values to average.
    evidence_on_cubes: bool = False

    @property
    def stride(self) -> int:
        """Voxels that a patch's edges must be a multiple of."""
        return int(2 ** (len(self.channels) - 1))


def _convolution(
    inside: int, outside: int, edge: int = 3, stride: int = 1, padding: int = 1
) -> tuple[nn.Module, ...]:
    """Return a convolution with batch normalisation and ReLU."""
    return (
        nn.Conv3d(inside, outside, edge, stride=stride, padding=padding, bias=False),
        nn.BatchNorm3d(outside),
        nn.ReLU(inplace=True),
    )


class _Block(nn.Sequential):
    """Two convolutions, each with batch normalisation and ReLU.

    Batch normalisation, not instance or group normalisation: its statistics are fixed once
    trained, so a voxel's class does not depend on where the window was cut, and it costs nothing
    when served.
    """

    def __init__(self, inside: int, outside: int, *, halving: bool = False) -> None:
        first = _convolution(inside, outside, *((4, 2) if halving else (3, 1)))
        super().__init__(*first, *_convolution(outside, outside))


def _rename_stored(
    _module: nn.Module, stored: dict[str, Tensor], prefix: str, *_others: object
) -> None:
    """Read older checkpoints, which store `upsampling` as `rise`."""
    old = f"{prefix}rise."
    for key in [key for key in stored if key.startswith(old)]:
        stored[f"{prefix}upsampling.{key.removeprefix(old)}"] = stored.pop(key)


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
            _Block(a, b)
            for a, b in zip((1 + config.lung_density, *widths[:-1]), widths, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.upsampling = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_Block(2 * b, b) for _, b in pairs)
        self.head: nn.Conv3d | nn.ConvTranspose3d = nn.Conv3d(widths[0], config.classes, 1)
        # Between the first level and the second one: what a pooling is at full resolution.
        self.narrowing: nn.Module | None = None
        if self.halved:
            stem = config.stem_channels
            self.down[0] = _Block(1 + config.lung_density, stem, halving=True)
            self.narrowing = nn.Sequential(*_convolution(stem, widths[0], edge=1, padding=0))
            del self.upsampling[-1]
            self.up[-1] = _Block(widths[1] + stem, stem)
            self.head = nn.ConvTranspose3d(stem, config.classes, 2, stride=2)
        self.register_load_state_dict_pre_hook(_rename_stored)  # type: ignore[no-untyped-call]

    @property
    def halved(self) -> bool:
        """Whether nothing but the head's logits is at full resolution."""
        return self.config.stem == "space_to_depth"

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
        return self.classify(hu - HEALTHY_HU)

    def classify(self, hu_offset: Tensor) -> Tensor:
        """Return logits of the classes from HU above healthy lung (-848 HU)."""
        return self.decide(self.features(hu_offset)[0])

    def decide(self, features: Tensor) -> Tensor:
        """Return logits of the classes from the decoder's features on the first level."""
        logits: Tensor = self.head(features)
        passes = self.config.evidence_passes
        if not passes:
            return logits
        if self.config.evidence_on_cubes:
            return evidence_on_cubes(logits, passes).clamp_min(_LEAST_PROBABILITY**2).log()
        return averaged_evidence(logits, passes)

    def probabilities(self, hu_offset: Tensor) -> Tensor:
        """Return probabilities of the classes from HU above healthy lung (-848 HU)."""
        if not (self.config.evidence_passes and self.config.evidence_on_cubes):
            return torch.softmax(self.classify(hu_offset), dim=1)
        # As `decide`, without the logarithm and the exponential that undo each other.
        logits = self.head(self.features(hu_offset)[0])
        return evidence_on_cubes(logits, self.config.evidence_passes)

    def features(self, hu_offset: Tensor) -> list[Tensor]:
        """Return what the decoder makes of a chest on every level, the first one first.

        Parameters
        ----------
        hu_offset : Tensor, shape (n, 1, z, y, x)
            HU above healthy lung (-848 HU); edges must be multiples of `config.stride`.

        Returns
        -------
        list of Tensor, shape (n, channels, z, y, x)
            One a level but the deepest, each half as large as the one before; after a
            space-to-depth the first two are of one size, half of full resolution.
        """
        return self.decode(self.encode(hu_offset))

    def encode(self, hu_offset: Tensor) -> list[Tensor]:
        """Return what the encoder makes of a chest on every level, the first one first."""
        x = self.inputs(hu_offset)
        encoded = []
        for depth, block in enumerate(self.down):
            x = block(self._halve(x, depth) if depth else x)
            encoded.append(x)
        return encoded

    def decode(self, encoded: list[Tensor]) -> list[Tensor]:
        """Return what the decoder makes of the levels of the encoder, as `features` does."""
        *skipped, x = encoded
        levels: list[Tensor] = []
        for number, block in enumerate(self.up):
            if number < len(self.upsampling):
                x = self.upsampling[number](x)
            x = block(torch.cat((x, skipped.pop()), dim=1))
            levels.insert(0, x)
        return levels

    def _halve(self, x: Tensor, depth: int) -> Tensor:
        """Return what a level of the encoder reads of the one before."""
        halved: Tensor = self.narrowing(x) if self.narrowing and depth == 1 else self.pool(x)
        return halved

    def inputs(self, hu_offset: Tensor) -> Tensor:
        """Return what the first convolution sees: HU through the window, and the lung's density."""
        config = self.config
        low, high = (bound - HEALTHY_HU for bound in config.window_hu)
        centre, unit = config.centre_hu - HEALTHY_HU, config.unit_hu
        if not (config.lung_density or config.relative_hu):
            return (hu_offset.clamp(low, high) - centre) / unit
        # Without an axis of one channel: with it, OpenVINO takes the voxels one by one.
        seen = hu_offset[:, 0]
        density = lung_density(seen, config.stride)
        if config.relative_hu:
            seen = relative_offset(seen, density)
        seen = (seen.clamp(low, high) - centre) / unit
        return torch.stack((seen, density), dim=1) if config.lung_density else seen[:, None]


def lung_density(hu_offset: Tensor, cell: int) -> Tensor:
    """Return the lung's own density: the mode of the HU of the air-filled lung round each voxel.

    A mean shift (Fukunaga and Hostetler 1975) with a flat window: the mean of all air-filled lung
    would be raised by faint ground-glass and lowered by emphysema, so the mean is taken again, of
    what lies near it, until it rests on the larger share.

    Healthy lung of one patient, at one depth of breath, is as dense as ground-glass of another. A
    reader compares a region with the lung round it; a network of few steps does not learn to.

    Parameters
    ----------
    hu_offset : Tensor, shape (n, z, y, x)
        HU above healthy lung (-848 HU); edges must be multiples of `cell`.
    cell : int
        Voxels along the edge of the cubes that share a density; even.

    Returns
    -------
    Tensor, shape (n, z, y, x)
        0 at -848 HU and where there is no air-filled lung, 1 at -720 HU.
    """
    grains = _pool(hu_offset, _GRAIN) / DENSITY_UNIT_HU
    cell_grains = cell // _GRAIN
    aerated = (grains > _AERATED[0]) & (grains < _AERATED[1])
    density = _mean_near(grains, aerated, cell_grains)
    for _ in range(_ROUNDS):
        away = grains - _enlarge(density, cell_grains)
        kept = aerated & (away > _KEPT[0]) & (away < _KEPT[1])
        density = _mean_near(grains, kept, cell_grains)
    return _enlarge(density, cell)


def _mean_near(grains: Tensor, kept: Tensor, cell: int) -> Tensor:
    """Return the mean of the grains that are kept, round each cube of `cell` grains."""
    weight = kept.to(grains.dtype)
    # Each by itself: two channels side by side cost OpenVINO changes of layout.
    sums = torch.stack([_pool(x, cell) for x in (weight * grains, weight)], dim=1)
    near = avg_pool3d(pad(sums, (_NEAR // 2,) * 6), _NEAR, stride=1)
    return near[:, 0] / (near[:, 1] + _DOUBT)


def _pool(values: Tensor, edge: int) -> Tensor:
    """Return the means of cubes; shape (n, z, y, x) in and out."""
    return avg_pool3d(values[:, None], edge)[:, 0]


def _enlarge(values: Tensor, times: int) -> Tensor:
    """Repeat every value along all three axes; shape (n, z, y, x) in and out."""
    return interpolate(values[:, None], scale_factor=float(times), mode="nearest")[:, 0]


def relative_offset(hu_offset: Tensor, density: Tensor) -> Tensor:
    """Return HU above the air-filled lung round each voxel, as far as a breath moves them.

    Faint ground-glass in dark lung is as dense as healthy lung elsewhere. A network that saw
    the density still went by HU, after 7,000 steps; with HU that start from the density it need
    not learn to.

    Parameters
    ----------
    hu_offset : Tensor, shape (n, z, y, x)
        HU above healthy lung (-848 HU).
    density : Tensor, shape (n, z, y, x)
        As `lung_density` returns it.

    Returns
    -------
    Tensor, shape (n, z, y, x)
        HU above healthy lung as they would be if the lung round each voxel were at -848 HU. Their
        order stays, and so do air (-1000 HU), water (0 HU) and all above it.
    """
    density = density.clamp(*_MOVED_FROM)
    air, water = ((fixed - HEALTHY_HU) / DENSITY_UNIT_HU for fixed in (AIR_HU, WATER_HU))
    moved = move_lung(hu_offset / DENSITY_UNIT_HU, density, -density, air=air, water=water)
    return moved * DENSITY_UNIT_HU


def averaged_evidence(logits: Tensor, passes: int) -> Tensor:
    """Average the evidence for lesions over the lung round each voxel.

    Fibrosis is lines and walls with aerated lung between them, and a reader outlines the region.
    The evidence is the log-odds of all lesion classes against lung without lesion, at most 6 either
    way. Its mean is weighted by the probability that a voxel belongs to the lungs: what lies
    outside them has no part in it. That probability stays, and so do the shares of the lesion
    classes among each other.

    The mean is taken over cubes of 2 voxels, then `passes` times over 3 x 3 x 3 of them, which is
    nearly a Gaussian with a standard deviation of ``sqrt(1.2 + 8 / 3 * passes)`` voxels: 5.2 mm on
    a grid of 1.5 mm with 4 passes.

    Parameters
    ----------
    logits : Tensor, shape (n, classes, z, y, x)
        Logits in the order of `Label`: outside, lung without lesion, lesion classes; even edges.
    passes : int
        Means over neighbouring cubes, one after the other.

    Returns
    -------
    Tensor, shape (n, classes, z, y, x)
        Logits, float32.
    """
    # Bounded first: exponentials of plain logits are infinite or 0 in some engines, and then NaN.
    shares = torch.log_softmax(logits.float(), dim=1).clamp_min(_LEAST_SHARE)
    outside, lung, lesions = shares[:, :1], shares[:, 1:2], shares[:, 2:]
    together = _channels_together(lesions.exp())
    weight = together + lung.exp()
    inside, together = weight.log(), together.log()
    sums = weight * (together - lung).clamp(-_MOST_EVIDENCE, _MOST_EVIDENCE)
    sums, weight = (_mean_round(x, passes) for x in (sums, weight))
    evidence = sums / (weight + _NO_LUNG)
    lung = inside + torch.sigmoid(-evidence).log()
    lesions = lesions - together + inside + torch.sigmoid(evidence).log()
    return torch.cat((outside, lung, lesions), dim=1)


def _channels_together(values: Tensor) -> Tensor:
    """Sum over channels by additions: OpenVINO 2026.4 reduces an axis wrongly with AVX2 kernels."""
    return functools.reduce(torch.add, (values[:, i : i + 1] for i in range(values.shape[1])))


def _mean_round(values: Tensor, passes: int) -> Tensor:
    """Average over cubes of 2 voxels and their neighbours, and back to voxels."""
    means = avg_pool3d(values, 2)
    for _ in range(passes):
        means = avg_pool3d(means, 3, stride=1, padding=1)
    return avg_pool3d(interpolate(means, scale_factor=2.0, mode="nearest"), 3, stride=1, padding=1)


def evidence_on_cubes(logits: Tensor, passes: int) -> Tensor:
    """Average the evidence for lesions over neighbouring lung, on cubes of 2 voxels.

    As `averaged_evidence`, but a cube's evidence is that of its mean probabilities, and its
    voxels share the mean: an engine computes one channel voxel by voxel, so nothing is averaged
    at full resolution.

    Parameters
    ----------
    logits : Tensor, shape (n, classes, z, y, x)
        Logits in the order of `Label`: outside, lung without lesion, lesion classes; even edges.
    passes : int
        Means over 3 x 3 x 3 neighbouring cubes, one after the other: a standard deviation of
        ``sqrt(0.5 + 8 / 3 * passes)`` voxels round a cube's centre.

    Returns
    -------
    Tensor, shape (n, classes, z, y, x)
        Probabilities, float32. That of lying outside the lungs stays, and so do the shares of the
        lesion classes among each other.
    """
    probabilities = torch.softmax(logits.float(), dim=1)
    outside, lung, lesions = probabilities[:, :1], probabilities[:, 1:2], probabilities[:, 2:]
    together = _channels_together(lesions)
    lung_cubes, lesion_cubes = avg_pool3d(lung, 2), avg_pool3d(together, 2)
    share = torch.sigmoid(cube_evidence(lung_cubes, lesion_cubes, passes))
    inside = lung + together
    ill = inside * interpolate(share, scale_factor=2.0, mode="nearest")
    # Where no class of lesion is likely at all they share alike: nothing is divided by 0.
    classes = together + lesions.shape[1] * _LEAST_PROBABILITY
    return torch.cat((outside, inside - ill, (lesions + _LEAST_PROBABILITY) * (ill / classes)), 1)


def cube_evidence(lung: Tensor, lesions: Tensor, passes: int) -> Tensor:
    """Return the evidence for lesions of every cube, averaged over neighbouring lung.

    Parameters
    ----------
    lung, lesions : Tensor, shape (n, 1, z, y, x)
        Mean probabilities of cubes: of lung without lesion, and of all lesion classes together.
    passes : int
        Means over 3 x 3 x 3 neighbouring cubes, one after the other.

    Returns
    -------
    Tensor, shape (n, 1, z, y, x)
        Log-odds of lesion against lung without lesion, at most 6 either way.
    """
    odds = (lesions + _LEAST_PROBABILITY) / (lung + _LEAST_PROBABILITY)
    weight = lung + lesions
    sums = weight * odds.log().clamp(-_MOST_EVIDENCE, _MOST_EVIDENCE)
    # Sums in bf16 would be wrong by more than what neighbours differ in.
    mixed = torch.is_autocast_enabled(lung.device.type)
    with torch.autocast(lung.device.type, enabled=False) if mixed else nullcontext():
        sums, weight = _mean_of_neighbours((sums.float(), weight.float()), passes)
    return sums / (weight + _NO_LUNG)


def _mean_of_neighbours(images: Sequence[Tensor], passes: int) -> list[Tensor]:
    """Average over 3 x 3 x 3 neighbours, `passes` times; what lies beyond the edges counts as 0.

    Means along the three axes, one after the other, are the mean over the cube, and `passes` of
    them the power of one matrix: three products in place of 27 additions a pass, which take an
    engine a third of the time or less.

    Parameters
    ----------
    images : sequence of Tensor, shape (n, 1, z, y, x)
        Averaged one by one.
    passes : int
        Means, one after the other.

    Returns
    -------
    list of Tensor, shape (n, 1, z, y, x)
    """
    depth, height, width = (
        _mean_along(length, passes, images[0].device) for length in images[0].shape[2:]
    )
    averaged = []
    for image in images:
        plane = height @ (image @ width)
        averaged.append((depth @ plane.flatten(3)).reshape(image.shape))
    return averaged


def _mean_along(length: int, passes: int, device: torch.device) -> Tensor:
    """Return the matrix of `passes` means over three neighbours; shape (length, length)."""
    place = torch.arange(length, device=device)
    once = ((place[:, None] - place).abs() <= 1).float() / 3
    return functools.reduce(torch.matmul, [once] * passes, torch.eye(length, device=device))


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
        levels = self.network.features(hu - HEALTHY_HU)
        logits = [self.network.decide(levels[0])]
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
        # Whole numbers until healthy lung is near 0; a float would be rounded before.
        hu_offset = (window.to(torch.int32) - int(HEALTHY_HU)).float()
        probabilities: Tensor = self.network.probabilities(hu_offset).half()
        return probabilities
