"""Lesions: where a disease puts them, and what each class looks like on CT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from dlild_client.contract.classes import Label
from dlild_export.phantom.anatomy.lungs import LungFrame
from dlild_export.phantom.fields import Array, Mask, band_noise
from dlild_export.phantom.spec import Pattern

Labels = npt.NDArray[np.uint8]

_, _, GROUND_GLASS, RETICULATION, HONEYCOMBING, CONSOLIDATION = map(int, Label)


def place_lesions(
    frame: LungFrame, pattern: Pattern, severity: float, rng: np.random.Generator
) -> Labels:
    """Choose the lesion class of every voxel of the lungs.

    Parameters
    ----------
    frame : LungFrame
        The lungs.
    pattern : Pattern
        Disease pattern.
    severity : float
        Share of the lungs that becomes lesion, met to one voxel.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        0 outside the lungs, 1 in healthy lung, 2 … 5 in lesions.
    """
    labels = frame.lungs.astype(np.uint8)
    wanted = round(severity * int(frame.lungs.sum()))
    if pattern is Pattern.NONE or wanted == 0:
        return labels
    liking = _liking(frame, pattern, rng)[frame.lungs]
    chosen = np.argpartition(liking, -wanted)[-wanted:]
    inside = np.ones(liking.shape, np.uint8)
    inside[chosen] = _classes(frame, pattern, rng)[frame.lungs][chosen]
    labels[frame.lungs] = inside
    return labels


def _liking(frame: LungFrame, pattern: Pattern, rng: np.random.Generator) -> Array:
    """How much a disease likes a voxel: the most liked ones fall ill first."""
    near_pleura = np.exp(-frame.depth_mm / rng.uniform(8, 18))
    low = 1 - frame.height
    if pattern is Pattern.UIP:
        noise = frame.noise(rng.uniform(20, 50), rng)
        liking = 1.3 * near_pleura + 0.9 * low + 0.35 * frame.back + 0.3 * noise
    elif pattern is Pattern.NSIP:
        spared = np.exp(-frame.depth_mm / 4.0)
        liking = 1.1 * low + 0.3 * frame.back + 0.3 * frame.noise(45, rng) - 0.5 * spared
    elif pattern is Pattern.ORGANISING:
        liking = frame.noise(rng.uniform(30, 60), rng) + 0.5 * near_pleura + 0.2 * low
    else:
        tilt = rng.uniform(-1.2, 1.2, 3)
        noise = frame.noise(rng.uniform(18, 70), rng)
        liking = noise + tilt[0] * low + tilt[1] * frame.back + tilt[2] * near_pleura
    result: Array = liking
    return result


def _classes(frame: LungFrame, pattern: Pattern, rng: np.random.Generator) -> Labels:
    """Class that a voxel would have if it fell ill; patches of one class are centimetres wide."""
    if pattern is Pattern.UIP:
        order = (
            np.exp(-frame.depth_mm / 12) + 0.6 * (1 - frame.height) + 0.35 * frame.noise(28, rng)
        )
        shares = {HONEYCOMBING: rng.uniform(0.2, 0.5), RETICULATION: rng.uniform(0.3, 0.5)}
        rest = GROUND_GLASS
    elif pattern is Pattern.NSIP:
        # No consolidation: with much of it one thinks of organising pneumonia.
        order = frame.noise(35, rng) + 0.5 * (1 - frame.height)
        shares = {RETICULATION: rng.uniform(0.1, 0.4)}
        rest = GROUND_GLASS
    elif pattern is Pattern.ORGANISING:
        order = frame.noise(26, rng) + 0.4 * np.exp(-frame.depth_mm / 15)
        shares = {CONSOLIDATION: rng.uniform(0.4, 0.8)}
        rest = GROUND_GLASS
    else:
        fields = [frame.noise(rng.uniform(22, 45), rng) + rng.normal(0, 0.5) for _ in range(4)]
        mixed: Labels = (np.argmax(fields, axis=0) + GROUND_GLASS).astype(np.uint8)
        return mixed
    inside = order[frame.lungs]
    classes = np.full(order.shape, rest, np.uint8)
    taken = 0.0
    for label, share in shares.items():
        # The most diseased share of the lung is of the first class, the next of the second.
        high = np.quantile(inside, 1 - taken) if taken else np.inf
        taken = min(taken + share, 1.0)
        classes[(order <= high) & (order > np.quantile(inside, 1 - taken))] = label
    return classes


def paint_lesions(
    lung_hu: Array, bronchi: Array, labels: Labels, frame: LungFrame, rng: np.random.Generator
) -> Array:
    """Change the lung's HU as its lesions do.

    Parameters
    ----------
    lung_hu : ndarray of float32, shape (z, y, x)
        Healthy lung with its vessels, HU.
    bronchi : ndarray of float32, shape (z, y, x)
        Share of a voxel that is air of an airway: it stays open in consolidation.
    labels : ndarray of uint8, shape (z, y, x)
        What `place_lesions` chose.
    frame : LungFrame
        The lungs.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        HU.
    """
    hu = lung_hu
    for label in (GROUND_GLASS, RETICULATION, HONEYCOMBING, CONSOLIDATION):
        where = labels == label
        if not where.any():
            continue
        if label == GROUND_GLASS:
            diseased = _ground_glass(hu, frame, rng)
        elif label == RETICULATION:
            diseased = _reticulation(hu, frame, rng)
        elif label == HONEYCOMBING:
            diseased = _honeycombing(hu, where, frame, rng)
        else:
            diseased = _consolidation(hu, bronchi, frame, rng)
        hu = hu + _soft(where, rng) * (diseased - hu)
    return hu


def _soft(where: Mask, rng: np.random.Generator) -> Array:
    """Edges of a lesion fade over a few millimetres."""
    soft: Array = ndimage.gaussian_filter(where.astype(np.float32), rng.uniform(0.5, 1.1))
    return soft


def _ground_glass(hu: Array, frame: LungFrame, rng: np.random.Generator) -> Array:
    hu_offset = rng.uniform(140, 400) + rng.uniform(15, 60) * frame.noise(rng.uniform(6, 16), rng)
    # The denser the voxel is already, the less air there is to lose.
    hazy: Array = hu + np.clip(hu_offset, 90, 520) * np.clip((40 - hu) / 900, 0, 1)
    return hazy


def _reticulation(hu: Array, frame: LungFrame, rng: np.random.Generator) -> Array:
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    # Fine fibrosis below the voxel: lines without any haze between them are the exception.
    haze = rng.uniform(40, 200)
    lines = np.zeros(shape, np.float32)
    for _ in range(2):
        field = band_noise(shape, rng.uniform(5.5, 13) / frame.spacing_mm, rng)
        lines = np.maximum(lines, np.exp(-((field / rng.uniform(0.22, 0.42)) ** 2)))
    lines *= np.clip(0.75 + 0.35 * frame.noise(12, rng), 0.2, 1.3)
    net: Array = hu + haze + rng.uniform(300, 620) * lines * np.clip((60 - hu) / 900, 0, 1)
    return net


def _honeycombing(hu: Array, where: Mask, frame: LungFrame, rng: np.random.Generator) -> Array:
    """Stacked cysts with shared walls: the cells of a Voronoi diagram."""
    cell_mm = rng.uniform(4.5, 10)
    near = ndimage.binary_dilation(where, iterations=2)
    voxels = np.argwhere(near).astype(np.float32) * frame.spacing_mm
    low, high = voxels.min(axis=0) - cell_mm, voxels.max(axis=0) + cell_mm
    count = max(4, int(np.prod((high - low) / cell_mm)))
    seeds = rng.uniform(low, high, (count, 3)).astype(np.float32)
    close, _ = cKDTree(voxels[::7]).query(seeds, distance_upper_bound=2 * cell_mm, workers=2)
    seeds = seeds[np.isfinite(close)]
    if len(seeds) < 4:
        return hu
    distance, _ = cKDTree(seeds).query(voxels, k=2, workers=2)
    to_wall = 0.5 * (distance[:, 1] - distance[:, 0]).astype(np.float32)
    wall = np.clip((rng.uniform(0.5, 1.1) - to_wall) / frame.spacing_mm + 0.5, 0, 1)
    lumen_hu = rng.uniform(-980, -860)
    painted = hu.copy()
    painted[near] = lumen_hu + wall * (rng.uniform(-150, 90) - lumen_hu)
    return painted


def _consolidation(hu: Array, bronchi: Array, frame: LungFrame, rng: np.random.Generator) -> Array:
    solid = rng.uniform(-60, 55) + rng.uniform(5, 40) * frame.noise(8, rng)
    # Some airways stay open: the air bronchogram.
    open_air = bronchi * rng.uniform(0.0, 1.0)
    filled: Array = np.maximum(solid, np.minimum(hu, 60)) * (1 - open_air) - 950 * open_air
    return filled


def paint_consolidation(
    hu: Array, bronchi: Array, where: Mask, frame: LungFrame, rng: np.random.Generator
) -> Array:
    """Fill a part of the lung, but for the airways that stay open; its edges are soft."""
    painted: Array = hu + _soft(where, rng) * (_consolidation(hu, bronchi, frame, rng) - hu)
    return painted
