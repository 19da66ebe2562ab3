"""What networks take for disease: hila, bowel with food, bullae, fissures. All without lesions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dlild_export.phantom.anatomy.lungs import LungFrame
from dlild_export.phantom.anatomy.trees import Points, Segment, draw_segments
from dlild_export.phantom.fields import Array, Mask

_LARGE_MM = 4.5
"""Radius from which hilar vessels are no part of the lung."""


def add_hila(
    hu: Array,
    frame: LungFrame,
    hila_mm: list[Points],
    blood_hu: float,
    rng: np.random.Generator,
) -> tuple[Array, Mask]:
    """Draw the vessels, bronchi and lymph nodes of both hila into the lung.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Lung so far.
    frame : LungFrame
    hila_mm : list of ndarray, shape (3,)
        Right and left, mm within the frame.
    blood_hu : float
    rng : numpy.random.Generator

    Returns
    -------
    hu : ndarray of float32, shape (z, y, x)
    outside : ndarray of bool, shape (z, y, x)
        Vessels and nodes that are so large that they count as mediastinum.
    """
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    vessels: list[Segment] = []
    bronchi: list[tuple[Segment, float]] = []
    nodes: list[Segment] = []
    for side, hilum in zip((-1.0, 1.0), hila_mm, strict=True):
        for _ in range(int(rng.integers(3, 7))):
            _branch(hilum, side, vessels, bronchi, rng)
        for _ in range(int(rng.integers(0, 4))):
            at = hilum + rng.normal(0, 9, 3)
            nodes.append(Segment(at, at + rng.normal(0, 4, 3), rng.uniform(2.5, 8)))
    walls = [Segment(s.start, s.stop, s.radius_mm + wall) for s, wall in bronchi]
    hu = hu + draw_segments(shape, frame.spacing_mm, nodes) * (35 - hu)
    hu = hu + draw_segments(shape, frame.spacing_mm, vessels) * (blood_hu - hu)
    hu = hu + draw_segments(shape, frame.spacing_mm, walls) * np.maximum(10 - hu, 0)
    hu = hu + draw_segments(shape, frame.spacing_mm, [s for s, _ in bronchi]) * (-985 - hu)
    large = [s for s in vessels + nodes if s.radius_mm > _LARGE_MM]
    outside: Mask = draw_segments(shape, frame.spacing_mm, large) > 0.5
    return hu, outside


def _branch(
    hilum: Points,
    side: float,
    vessels: list[Segment],
    bronchi: list[tuple[Segment, float]],
    rng: np.random.Generator,
) -> None:
    """Let a vessel run from a hilum outwards, and often a bronchus beside it."""
    way = np.array([rng.normal(-0.2, 0.8), rng.normal(0.1, 0.7), side * rng.uniform(0.2, 1.0)])
    start, radius = hilum + rng.normal(0, 5, 3) - 8 * way / np.linalg.norm(way), rng.uniform(2.5, 9)
    beside = np.cross(way / np.linalg.norm(way), rng.standard_normal(3))
    lumen, wall = rng.uniform(1.5, 5.0), rng.uniform(0.8, 1.7)
    paired = rng.random() < 0.7
    for _ in range(int(rng.integers(2, 5))):
        stop = start + way / np.linalg.norm(way) * rng.uniform(8, 16)
        vessels.append(Segment(start, stop, radius))
        if paired:
            shift = beside / np.linalg.norm(beside) * (radius + lumen + wall)
            bronchi.append((Segment(start + shift, stop + shift, lumen), wall))
        start, radius, lumen = stop, radius * rng.uniform(0.65, 0.9), lumen * rng.uniform(0.7, 0.9)
        way = way / np.linalg.norm(way) + 0.4 * rng.standard_normal(3)


def fissure_distance(frame: LungFrame, rng: np.random.Generator) -> Array:
    """Distance to the fissures, mm: oblique ones on both sides, a horizontal one on the right."""
    height_mm = float((np.ptp(np.flatnonzero(frame.lungs.any(axis=(1, 2)))) + 1) * frame.spacing_mm)
    x = np.arange(frame.lungs.shape[2])[None, None, :]
    right = x < frame.lungs.shape[2] / 2
    bend = 5.0 * frame.noise(70, rng)
    distance = np.full(frame.lungs.shape, 1e3, np.float32)
    for side in (right, ~right):
        offset = frame.height - rng.uniform(0.02, 0.2) - rng.uniform(0.45, 0.75) * frame.back
        own = np.abs(offset * height_mm * 0.8 + bend)
        distance = np.where(side, np.minimum(distance, own), distance)
    level = np.abs((frame.height - rng.uniform(0.45, 0.6)) * height_mm + bend)
    minor = right & (frame.back < 0.55) & (frame.back > 0.0)
    if rng.random() < 0.7:
        distance = np.where(minor, np.minimum(distance, level), distance)
    return distance.astype(np.float32)


def add_bowel(
    hu: Array, lungs: Mask, spacing_mm: float, middle_x: float, rng: np.random.Generator
) -> None:
    """Put stomach and colon with gas, fluid, food and wall under the diaphragm, in place."""
    shape = hu.shape
    depth = (lungs[::-1].cumsum(axis=0)[::-1] > 0) & ~(lungs.cumsum(axis=0) > 0)
    voxels = np.argwhere(depth[::4, ::4, ::4]) * 4
    if not len(voxels):
        return
    # The left side, and the front of the right.
    weight = np.where(voxels[:, 2] * spacing_mm > middle_x, 1.0, 0.25)
    count = int(rng.integers(0, 5))
    for i in rng.choice(len(voxels), count, p=weight / weight.sum()):
        radii = rng.uniform(11, 40, 3)
        centre = voxels[i] * spacing_mm - np.array([rng.uniform(-5, 25), 0, 0])
        _one_bowel(hu, shape, centre, radii, spacing_mm, rng)


def _one_bowel(
    hu: Array,
    shape: tuple[int, ...],
    centre: Points,
    radii: Points,
    spacing_mm: float,
    rng: np.random.Generator,
) -> None:
    low = np.maximum(((centre - radii - 8) / spacing_mm).astype(int), 0)
    high = np.minimum(((centre + radii + 8) / spacing_mm).astype(int) + 1, shape)
    if (high - low < 4).any():
        return
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = np.ogrid[box]
    away = np.sqrt(
        sum(
            ((a * spacing_mm - c) / r) ** 2
            for a, c, r in zip((z, y, x), centre, radii, strict=True)
        )
    )
    size = away.shape
    rough = ndimage.gaussian_filter(rng.standard_normal(size), 3.0)
    rough *= rng.uniform(1, 4) / rough.std()
    distance = ((away - 1) * radii.min() + rough).astype(np.float32)
    wall = rng.uniform(1.5, 4.0)
    part = hu[box]
    filled = _contents(size, y * spacing_mm, centre, radii, rng)
    outer = np.clip((wall - distance) / spacing_mm + 0.5, 0, 1)
    inner = np.clip(-distance / spacing_mm + 0.5, 0, 1)
    part += outer * (35 - part)
    part += inner * (filled - part)


def _contents(
    size: tuple[int, ...], y_mm: np.ndarray, centre: Points, radii: Points, rng: np.random.Generator
) -> Array:
    gas = rng.uniform(-1000, -920)
    fluid: Array = np.full(size, rng.uniform(0, 50), np.float32)
    kind = rng.random()
    if kind < 0.35:
        return np.full(size, gas, np.float32)
    if kind < 0.8:  # food: bubbles in a paste
        grain = ndimage.gaussian_filter(rng.standard_normal(size), rng.uniform(0.6, 1.6))
        grain /= grain.std()
        bubbles = np.clip((grain - rng.uniform(0.3, 1.8)) * 2, 0, 1)
        fluid = (fluid + bubbles * (gas - fluid)).astype(np.float32)
        if kind < 0.6:
            return fluid
    level = centre[1] + rng.uniform(-0.6, 0.8) * radii[1]
    split: Array = np.where(y_mm > level, fluid, np.float32(gas)).astype(np.float32)
    return split


def add_bullae(hu: Array, frame: LungFrame, count: int, rng: np.random.Generator) -> None:
    """Draw air-filled bullae with hairline walls, mostly above and at the pleura, in place."""
    inside = frame.lungs & (frame.depth_mm < 15) & (frame.height > 0.45)
    voxels = np.argwhere(inside[::3, ::3, ::3]) * 3
    if not len(voxels):
        return
    for voxel in voxels[rng.integers(0, len(voxels), count)]:
        radii = rng.uniform(5, 22) * rng.uniform(0.7, 1.3, 3)
        reach = (radii / frame.spacing_mm).astype(int) + 3
        low, high = np.maximum(voxel - reach, 0), np.minimum(voxel + reach + 1, hu.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[box]
        away = np.sqrt(
            sum(
                ((a - p) * frame.spacing_mm / r) ** 2
                for a, p, r in zip(axes, voxel, radii, strict=True)
            )
        )
        distance = (away - 1) * radii.min()
        wall = 0.4 * np.exp(-((distance / 1.0) ** 2))
        share = np.clip(0.5 - distance / frame.spacing_mm, 0, 1)
        part = hu[box]
        part += share * (-990 - part)
        part += wall * np.maximum(-100 - part, 0)
