"""Fibrosis as it was measured in patients: where it lies, and the textures that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dlild_client.contract.classes import Label
from dlild_export.phantom.anatomy.lungs import LungFrame
from dlild_export.phantom.anatomy.trees import Points, Segment, draw_segments
from dlild_export.phantom.fields import Array, Mask, band_noise
from dlild_export.phantom.lesions.layers import Layer, draw_layer
from dlild_export.phantom.lesions.patterns import (
    GROUND_GLASS,
    HONEYCOMBING,
    RETICULATION,
    Labels,
    place_lesions,
)
from dlild_export.phantom.spec import Pattern

_HILUM_MM = 30.0


@dataclass(frozen=True)
class Fibrosis:
    """The disease of one patient.

    Attributes
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Class of every voxel, as a reader outlines it.
    haze_hu : ndarray of float32, shape (z, y, x)
        How much denser the lung is between lines and cysts.
    layers : list of Layer
        Textures.
    """

    labels: Labels
    haze_hu: Array
    layers: list[Layer]


def hilar_nearness(frame: LungFrame, hila_mm: Sequence[Points]) -> Array:
    """Return how near each voxel is to a hilum: 1 there, 0 some centimetres away.

    Parameters
    ----------
    frame : LungFrame
    hila_mm : sequence of ndarray, shape (3,)
        Where they are (z, y, x), mm within the frame.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    axes = np.ogrid[tuple(slice(0, n) for n in frame.lungs.shape)]
    near = np.zeros(frame.lungs.shape, np.float32)
    for hilum in hila_mm:
        away = sum((a * frame.spacing_mm - h) ** 2 for a, h in zip(axes, hilum, strict=True))
        near = np.maximum(near, np.exp(-np.asarray(away, np.float32) / _HILUM_MM**2))
    return near


def place_fibrosis(
    frame: LungFrame,
    edge_mm: Array,
    severity: float,
    rng: np.random.Generator,
    hilar: Array | None = None,
) -> Labels:
    """Choose where fibrosis of the pattern of UIP lies, and of which class it is.

    It grows from the edges of the lung inwards: from the ribs, the diaphragm, the mediastinum and
    the fissures, in front as much as behind, at the bases nearly everywhere, above in patches.

    Parameters
    ----------
    frame : LungFrame
        The lungs.
    edge_mm : ndarray of float32, shape (z, y, x)
        Distance to the nearest edge.
    severity : float
        Share of the lungs that becomes lesion, met to one voxel.
    rng : numpy.random.Generator
        Source of randomness.
    hilar : ndarray of float32, shape (z, y, x), optional
        Nearness of the hila, which fibrosis spares.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
    """
    labels = frame.lungs.astype(np.uint8)
    wanted = round(severity * int(frame.lungs.sum()))
    if wanted == 0:
        return labels
    low = 1 - frame.height
    patches = frame.noise(rng.uniform(28, 50), rng) + 0.4 * frame.noise(rng.uniform(11, 18), rng)
    basal = rng.uniform(1.1, 2.3)
    liking = basal * low**1.5 + rng.uniform(0.9, 1.35) * patches - edge_mm / rng.uniform(6, 10.5)
    liking += rng.uniform(-0.3, 0.5) * frame.back
    if hilar is not None:
        liking -= rng.uniform(1.0, 3.0) * hilar
    liking = ndimage.gaussian_filter(liking, 1.0)[frame.lungs]
    chosen = np.argpartition(liking, -wanted)[-wanted:]
    classes = _fibrotic_classes(frame, edge_mm, liking, chosen, rng)
    inside = np.ones(liking.shape, np.uint8)
    inside[chosen] = classes
    labels[frame.lungs] = inside
    return labels


def _fibrotic_classes(
    frame: LungFrame,
    edge_mm: Array,
    liking: Array,
    chosen: np.ndarray,
    rng: np.random.Generator,
) -> Labels:
    """Honeycombing where the disease is oldest, reticulation round it, some ground-glass."""
    order = 0.8 * frame.noise(26, rng) + 0.8 * (1 - frame.height) - edge_mm / 13
    order = order[frame.lungs][chosen] + 0.3 * liking[chosen]
    honeycomb = rng.uniform(0.12, 0.6) if rng.random() < 0.7 else 0.0
    haze = rng.uniform(0.03, 0.25) if rng.random() < 0.5 else 0.0
    classes = np.full(len(chosen), RETICULATION, np.uint8)
    if honeycomb:
        classes[order > np.quantile(order, 1 - honeycomb)] = HONEYCOMBING
    if haze:
        glass = frame.noise(24, rng)[frame.lungs][chosen]
        rest = classes == RETICULATION
        if rest.any():
            classes[rest & (glass > np.quantile(glass[rest], 1 - haze))] = GROUND_GLASS
    return classes


def measured_disease(
    frame: LungFrame,
    edge_mm: Array,
    pattern: Pattern,
    severity: float,
    rng: np.random.Generator,
    hilar: Array | None = None,
) -> Fibrosis:
    """Make the disease of a patient, of the measured textures.

    Parameters
    ----------
    frame, edge_mm, severity, rng, hilar
        As in `place_fibrosis`.
    pattern : Pattern
        Disease pattern.

    Returns
    -------
    Fibrosis
        Consolidation has no layer: it is painted as in other phantoms.
    """
    if pattern is Pattern.UIP:
        labels = place_fibrosis(frame, edge_mm, severity, rng, hilar)
    else:
        labels = _smooth(place_lesions(frame, pattern, severity, rng), frame)
    haze = np.zeros(labels.shape, np.float32)
    layers: list[Layer] = []
    for label in (GROUND_GLASS, RETICULATION, HONEYCOMBING):
        where = labels == label
        if where.any():
            weight = _soft(where, rng)
            haze += weight * _haze(label, frame, rng)
            layers += _textures(label, weight, frame, rng)
    return Fibrosis(labels, haze, layers)


def _smooth(labels: Labels, frame: LungFrame) -> Labels:
    """Remove specks from a map of classes: readers do not outline them."""
    smooth: Labels = ndimage.median_filter(labels, size=3)
    return np.where(frame.lungs, np.maximum(smooth, 1), 0).astype(np.uint8)


def _soft(where: Mask, rng: np.random.Generator) -> Array:
    soft: Array = ndimage.gaussian_filter(where.astype(np.float32), rng.uniform(0.6, 1.1))
    return soft


def _haze(label: int, frame: LungFrame, rng: np.random.Generator) -> Array:
    """Rise of HU between lines and cysts, with a fine grain of its own."""
    z, y, x = frame.lungs.shape
    grain = band_noise((z, y, x), rng.uniform(4, 8) / frame.spacing_mm, rng)
    slow = frame.noise(rng.uniform(14, 30), rng)
    if label == RETICULATION:
        hu_offset = np.exp(rng.normal(np.log(10), 0.4))
    elif label == HONEYCOMBING:
        hu_offset = np.exp(rng.normal(np.log(18), 0.5))
    else:
        hu_offset = rng.uniform(90, 300)
    haze: Array = hu_offset * np.clip(1 + 0.3 * slow + 0.25 * grain, 0.2, 2.2)
    return haze


def _textures(label: int, weight: Array, frame: LungFrame, rng: np.random.Generator) -> list[Layer]:
    spacing = frame.spacing_mm
    if label == HONEYCOMBING:
        lumen = rng.uniform(-1000, -965)
        cysts = draw_layer(
            "honeycomb",
            weight,
            spacing,
            rng,
            lumen_hu=lumen,
            strength=rng.uniform(0.8, 1.1),
            scale=(0.85, 1.25),
        )
        # Between the cysts lie those that no scan resolves, and septa.
        return [
            cysts,
            draw_layer(
                "septa", weight, spacing, rng, scale=(0.7, 1.0), strength=rng.uniform(0.0, 0.3)
            ),
        ]
    strength = rng.uniform(0.85, 1.55) if label == RETICULATION else rng.uniform(0.1, 0.5)
    return [draw_layer("septa", weight, spacing, rng, strength=strength)]


def traction_bronchi(
    labels: Labels, frame: LungFrame, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw widened bronchi through reticulation and honeycombing.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Classes.
    frame : LungFrame
    rng : numpy.random.Generator

    Returns
    -------
    walls, lumens : ndarray of float32, shape (z, y, x)
        Shares of the voxels.
    """
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    voxels = np.argwhere(np.isin(labels[::3, ::3, ::3], (RETICULATION, HONEYCOMBING))) * 3
    walls, lumens = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    if len(voxels) < 20:
        return walls, lumens
    count = int(np.clip(rng.poisson(len(voxels) / 900), 0, 25))
    tubes, thick = [], []
    for voxel in voxels[rng.integers(0, len(voxels), count)]:
        point = voxel * frame.spacing_mm
        way = rng.standard_normal(3)
        radius = rng.uniform(1.75, 4.2)
        wall = rng.uniform(0.5, 0.9)
        for _ in range(int(rng.integers(2, 6))):
            way = way / np.linalg.norm(way) + 0.35 * rng.standard_normal(3)
            stop = point + way / np.linalg.norm(way) * rng.uniform(4, 8)
            tubes.append(Segment(point, stop, radius))
            thick.append(Segment(point, stop, radius + wall))
            point, radius = stop, np.clip(radius * rng.uniform(0.85, 1.1), 1.6, 4.2)
    inside = ndimage.gaussian_filter((labels > Label.LUNG).astype(np.float32), 0.7)
    lumens = draw_segments(shape, frame.spacing_mm, tubes) * inside
    walls = draw_segments(shape, frame.spacing_mm, thick) * inside
    return walls, lumens
