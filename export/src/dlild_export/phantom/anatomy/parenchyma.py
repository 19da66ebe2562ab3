"""Healthy lung: air-filled tissue with vessels, airways and fissures, and the marks of a life.

What is dense or dark here and yet no interstitial disease (dependent density, emphysema, plates of
atelectasis, nodules) is a mimic: its truth is healthy lung.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dlild_export.phantom.anatomy.lungs import LungFrame
from dlild_export.phantom.anatomy.trees import Points, draw_segments, grow_tree
from dlild_export.phantom.fields import Array
from dlild_export.phantom.spec import PhantomSpec


def healthy_lung(
    frame: LungFrame, spec: PhantomSpec, hila_mm: list[Points], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Fill the lungs' frame with lung that has no lesion.

    Parameters
    ----------
    frame : LungFrame
        The lungs.
    spec : PhantomSpec
        Density, gravity, mimics and blood.
    hila_mm : list of ndarray, shape (3,)
        Where the trees of the right and the left lung begin (z, y, x), mm.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    hu : ndarray of float32, shape (z, y, x)
        HU.
    lumens : ndarray of float32, shape (z, y, x)
        Share of a voxel that is air of an airway.
    """
    return with_trees(aerated_lung(frame, spec, rng), frame, spec, hila_mm, rng)


def aerated_lung(
    frame: LungFrame, spec: PhantomSpec, rng: np.random.Generator, *, fissures: bool = True
) -> Array:
    """Fill the lungs' frame with lung that has neither lesions nor vessels.

    Parameters
    ----------
    frame, spec, rng
        As in `healthy_lung`.
    fissures : bool
        Whether oblique fissures run through it.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        HU.
    """
    down = 1 - frame.back if spec.prone else frame.back
    hu = spec.lung_hu + spec.dependent_hu * (down - 0.4)
    hu = hu + rng.uniform(8, 30) * frame.noise(rng.uniform(40, 90), rng)
    hu = hu + rng.uniform(4, 22) * frame.noise(rng.uniform(5, 10), rng)
    hu = hu + _dependent_rim(frame, spec, down, rng)
    if spec.emphysema > 0:
        holes = frame.noise(rng.uniform(7, 25), rng) + 0.4 * frame.noise(60, rng)
        gone = holes > np.quantile(holes[frame.lungs][::17], 1 - spec.emphysema)
        hu = hu + ndimage.gaussian_filter(gone.astype(np.float32), 0.7) * (-975 - hu)
    if fissures:
        hu = hu + _fissures(frame, rng)
    hu = _with_atelectasis(np.clip(hu, -1000, -450), frame, spec, rng)
    return _with_nodules(hu, frame, spec, rng)


def _dependent_rim(
    frame: LungFrame, spec: PhantomSpec, down: Array, rng: np.random.Generator
) -> Array:
    """Gravity closes the lowest few millimetres further."""
    rim = np.exp(-frame.depth_mm / rng.uniform(2, 6)) * np.clip((down - 0.6) / 0.4, 0, 1)
    hu_offset: Array = rng.uniform(0, 2.2) * max(spec.dependent_hu, 0) * rim
    return hu_offset


def _fissures(frame: LungFrame, rng: np.random.Generator) -> Array:
    """Oblique fissures: thin curved sheets, a little brighter than the lung."""
    offset = frame.height - rng.uniform(0.25, 0.45) - rng.uniform(0.4, 0.7) * frame.back
    height_mm = frame.lungs.shape[0] * frame.spacing_mm
    distance_mm = offset * height_mm + 4.0 * frame.noise(60, rng)
    strength = rng.uniform(30, 160)
    sheet: Array = strength * np.exp(-((distance_mm / rng.uniform(0.8, 1.6)) ** 2))
    return sheet


def _with_atelectasis(
    hu: Array, frame: LungFrame, spec: PhantomSpec, rng: np.random.Generator
) -> Array:
    """Plates of collapsed lung above the diaphragm: a few millimetres thick, centimetres wide."""
    height_mm = frame.lungs.shape[0] * frame.spacing_mm
    for _ in range(spec.atelectasis_plates):
        level = rng.uniform(0.02, 0.22) + rng.uniform(-0.12, 0.12) * frame.back
        distance_mm = (frame.height - level) * height_mm + 3.0 * frame.noise(50, rng)
        plate = np.exp(-((distance_mm / rng.uniform(1.0, 2.2)) ** 2))
        # It reaches in from the pleura, over part of one lung.
        plate *= np.exp(-((frame.depth_mm / rng.uniform(8, 25)) ** 2))
        plate *= frame.noise(70, rng) > rng.uniform(-0.3, 0.6)
        hu = hu + rng.uniform(0.4, 0.95) * plate * (rng.uniform(-100, 40) - hu)
    return hu


def _with_nodules(
    hu: Array, frame: LungFrame, spec: PhantomSpec, rng: np.random.Generator
) -> Array:
    """Round solid nodules."""
    if spec.nodules == 0:
        return hu
    voxels = np.argwhere(frame.lungs[::3, ::3, ::3]) * 3
    hu = hu.copy()
    for voxel in voxels[rng.integers(0, len(voxels), spec.nodules)]:
        radius_mm = float(np.exp(rng.uniform(np.log(2.0), np.log(11.0))))
        reach = int(radius_mm / frame.spacing_mm) + 3
        low = np.maximum(voxel - reach, 0)
        high = np.minimum(voxel + reach + 1, hu.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[box]
        away = np.sqrt(sum((a - p) ** 2 for a, p in zip(axes, voxel, strict=True)))
        share = np.clip(0.5 + radius_mm / frame.spacing_mm - away, 0, 1)
        hu[box] += share * (rng.uniform(-30, 80) - hu[box])
    return hu


def with_trees(
    hu: Array,
    frame: LungFrame,
    spec: PhantomSpec,
    hila_mm: list[Points],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Let arteries, veins and airways grow into the lung; returns HU and the airways' lumens."""
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    points = np.argwhere(frame.lungs[::2, ::2, ::2]) * (2 * frame.spacing_mm)
    middle = 0.5 * (hila_mm[0][2] + hila_mm[1][2])
    vessels, airways = [], []
    for side, hilum in zip((-1, 1), hila_mm, strict=True):
        lung = points[(points[:, 2] - middle) * side > 0].astype(np.float64)
        for _ in range(2):  # arteries and veins
            leaves = lung[rng.integers(0, len(lung), rng.integers(350, 800))]
            root = hilum + rng.normal(0, 5, 3)
            vessels += grow_tree(root, leaves, rng.uniform(0.35, 0.6), rng)
        leaves = lung[rng.integers(0, len(lung), rng.integers(40, 140))]
        airways += grow_tree(hilum, leaves, rng.uniform(0.45, 0.75), rng)
    wall_mm = rng.uniform(0.5, 1.1)
    hu = hu + draw_segments(shape, frame.spacing_mm, vessels) * (spec.blood_hu - hu)
    walls = draw_segments(shape, frame.spacing_mm, airways, grow_mm=wall_mm)
    hu = hu + walls * np.maximum(-80 - hu, 0)
    lumens = draw_segments(shape, frame.spacing_mm, airways)
    return hu + lumens * (-960 - hu), lumens
