"""Branching trees of vessels and airways, and their drawing into a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_export.phantom.fields import Array

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """A straight piece of a tube: ends in mm (z, y, x), and its radius in mm."""

    start: Points
    stop: Points
    radius_mm: float


def grow_tree(
    root_mm: Points, targets_mm: Points, leaf_radius_mm: float, rng: np.random.Generator
) -> list[Segment]:
    """Grow a tree from a root to every target by splitting the targets in two, again and again.

    Parameters
    ----------
    root_mm : ndarray of float, shape (3,)
        Where the tree begins (z, y, x).
    targets_mm : ndarray of float, shape (n, 3)
        Where its leaves end.
    leaf_radius_mm : float
        Radius of the last branches. A branch that feeds n leaves is n ** 0.36 times as wide
        (Murray's law has 1/3, lungs measure a little more).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Segment
    """
    segments: list[Segment] = []
    open_branches = [(root_mm, targets_mm)]
    while open_branches:
        start, targets = open_branches.pop()
        count = len(targets)
        radius = leaf_radius_mm * count**0.36
        if count == 1:
            segments.append(Segment(start, targets[0], radius))
            continue
        centre = targets.mean(axis=0)
        reach = np.linalg.norm(centre - start)
        stop = start + rng.uniform(0.3, 0.55) * (centre - start)
        stop = stop + rng.normal(0.0, 0.06 * reach, 3)
        segments.append(Segment(start, stop, radius))
        offsets = targets - centre
        axis = np.linalg.svd(offsets[:: max(1, count // 64)], full_matrices=False)[2][0]
        side = offsets @ axis
        first = side <= np.quantile(side, rng.uniform(0.3, 0.7))
        if first.all() or not first.any():
            first = np.arange(count) < count // 2
        open_branches += [(stop, targets[first]), (stop, targets[~first])]
    return segments


def draw_segments(
    shape: tuple[int, int, int],
    spacing_mm: float,
    segments: list[Segment],
    *,
    grow_mm: float = 0.0,
) -> Array:
    """Draw tubes as the share of each voxel that they fill.

    Parameters
    ----------
    shape : tuple of int
        Shape of the volume (z, y, x).
    spacing_mm : float
        Edge of a voxel.
    segments : list of Segment
        The tubes.
    grow_mm : float
        Added to every radius, such as the wall of an airway.

    Returns
    -------
    ndarray of float32, shape (z, y, x), 0 … 1
    """
    share = np.zeros(shape, np.float32)
    for segment in segments:
        _draw(share, spacing_mm, segment, segment.radius_mm + grow_mm)
    return share


def _draw(share: Array, spacing_mm: float, segment: Segment, radius_mm: float) -> None:
    reach = radius_mm + spacing_mm
    low = np.floor((np.minimum(segment.start, segment.stop) - reach) / spacing_mm).astype(int)
    high = np.ceil((np.maximum(segment.start, segment.stop) + reach) / spacing_mm).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, share.shape)
    if (high <= low).any():
        return
    axes = [
        (np.arange(a, b, dtype=np.float32) * spacing_mm).reshape(
            [-1 if axis == i else 1 for i in range(3)]
        )
        for axis, (a, b) in enumerate(zip(low, high, strict=True))
    ]
    along = segment.stop - segment.start
    length2 = max(float(along @ along), 1e-6)
    offset = [
        a - np.float32(s) for a, s in zip(axes, segment.start.astype(np.float32), strict=True)
    ]
    t = sum(o * np.float32(d / length2) for o, d in zip(offset, along, strict=True))
    t = np.clip(t, 0.0, 1.0)
    distance2 = sum((o - t * np.float32(d)) ** 2 for o, d in zip(offset, along, strict=True))
    # A tube thinner than a voxel fills only part of the voxels on its axis.
    drawn_radius = max(radius_mm, 0.5 * spacing_mm)
    strength = (radius_mm / drawn_radius) ** 2
    filled = strength * np.clip((drawn_radius - np.sqrt(distance2)) / spacing_mm + 0.5, 0.0, 1.0)
    region = share[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    np.maximum(region, filled, out=region)
