"""Fibrosis of measured texture planted in a real scan without lesions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dlild_client.contract.classes import HEALTHY_LUNG_HU
from dlild_client.volume import Volume
from dlild_export.data.crop import box_of
from dlild_export.phantom.anatomy.body import find_landmarks
from dlild_export.phantom.fields import Array, Mask
from dlild_export.phantom.lesions.fibrosis import hilar_nearness, measured_disease, traction_bronchi
from dlild_export.phantom.lesions.layers import Places, show_layer
from dlild_export.phantom.lesions.patterns import (
    CONSOLIDATION,
    Labels,
    frame_lungs,
    paint_consolidation,
)
from dlild_export.phantom.optics import Optics
from dlild_export.phantom.plant import check_lungs
from dlild_export.phantom.spec import Pattern

_THICKNESS_MM = 1.5
_VESSEL_HU = -700
_LEVEL_MM = 7.0


def plant_measured(
    volume: Volume, lungs: Mask, *, pattern: Pattern, severity: float, seed: int
) -> tuple[np.ndarray, Labels]:
    """Blend lesions of measured texture into the lungs of a scan, as its scanner would show them.

    Parameters
    ----------
    volume : Volume
        A scan on the grid (cubes, feet to head, front to back, right to left), HU.
    lungs : ndarray of bool, shape (z, y, x)
        Its healthy lungs, such as `threshold_lungs` finds.
    pattern, severity, seed
        As in `plant_lesions`.

    Returns
    -------
    hu : ndarray of int16, shape (z, y, x)
        The scan with its lesions; its noise is what it was.
    labels : ndarray of uint8, shape (z, y, x)
        0 outside the lungs, 1 healthy lung, 2 … 5 lesions.

    Raises
    ------
    ValueError
        The mask is empty or of another shape than the scan.
    """
    check_lungs(volume, lungs)
    rng = np.random.default_rng([seed, 8])
    spacing = volume.spacing_mm[0]
    box = box_of(lungs, margin=4)
    frame = frame_lungs(lungs[box], spacing)
    hila = find_landmarks(frame.lungs, spacing).hila
    hilar = hilar_nearness(frame, hila)
    disease = measured_disease(frame, frame.depth_mm, pattern, severity, rng, hilar)
    healthy = volume.array[box].astype(np.float32)
    level = lung_level(healthy, frame.lungs, spacing)
    thickness = volume.series.slice_thickness_mm or _THICKNESS_MM
    voxels = thickness / spacing
    room: Array = np.clip((40 - healthy) / 900, 0, 1)
    hu: Array = healthy + _as_thick(disease.haze_hu, voxels) * room
    solid = disease.labels == CONSOLIDATION
    if solid.any():
        airways = np.clip((-930 - healthy) / 40, 0, 1).astype(np.float32) * frame.lungs
        hu += _as_thick(paint_consolidation(hu, airways, solid, frame, rng) - hu, voxels)
    bronchi = traction_bronchi(disease.labels, frame, rng)
    walls, lumens = (_as_thick(part, voxels) for part in bronchi)
    hu = hu + walls * np.maximum(0 - hu, 0)
    hu = hu + lumens * (-980 - hu)
    count, rows, columns = healthy.shape
    places = Places(np.arange(count), np.arange(rows), np.arange(columns), spacing)
    optics = Optics(rng.uniform(0.45, 0.8), thickness, spacing, max(thickness, spacing))
    for layer in disease.layers:
        show_layer(hu, level + disease.haze_hu, layer, places, optics)
    # Beyond the pleura nothing changes but what half a voxel of blur carries over.
    rim: Array = ndimage.gaussian_filter(frame.lungs.astype(np.float32), 0.55)
    planted = volume.array.astype(np.int16)
    planted[box] = np.clip(np.rint(healthy + rim * (hu - healthy)), -1024, 3071)
    labels = np.zeros(lungs.shape, np.uint8)
    labels[box] = disease.labels
    return planted, labels


def lung_level(hu: Array, lungs: Mask, spacing_mm: float) -> Array:
    """Mean HU of the lung round a place, without vessels: what a texture takes the place of."""
    air = (lungs & (hu < _VESSEL_HU)).astype(np.float32)
    width = _LEVEL_MM / spacing_mm
    share = ndimage.gaussian_filter(air, width)
    usual = float(np.median(hu[air > 0])) if air.any() else HEALTHY_LUNG_HU
    total = ndimage.gaussian_filter(air * (hu - usual), width)
    level: Array = usual + total / np.maximum(share, 0.02)
    return level


def _as_thick(change: Array, voxels: float) -> Array:
    if voxels <= 1.0:
        return change
    blurred: Array = ndimage.gaussian_filter1d(change, voxels / np.sqrt(6.0), axis=0)
    return blurred
