"""Lesions planted in a real scan: its lungs, its noise, and a truth that is known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dlild_client.contract.classes import HEALTHY_LUNG_HU, Label
from dlild_client.volume import Volume
from dlild_export.data.crop import box_of
from dlild_export.phantom.acquisition import filtered_noise
from dlild_export.phantom.anatomy.body import find_landmarks
from dlild_export.phantom.anatomy.lungs import frame_lungs
from dlild_export.phantom.compose import on_grid
from dlild_export.phantom.fields import Array, Mask
from dlild_export.phantom.lesions.fibrosis import hilar_nearness, measured_disease, traction_bronchi
from dlild_export.phantom.lesions.layers import SampleGrid, show_layer
from dlild_export.phantom.lesions.patterns import (
    CONSOLIDATION,
    Labels,
    paint_consolidation,
    paint_lesions,
    place_lesions,
)
from dlild_export.phantom.optics import Optics
from dlild_export.phantom.spec import Pattern

_DEFAULT_THICKNESS_MM = 1.5

_VESSEL_HU = -700
_DENSITY_MM = 7.0


def check_lungs(volume: Volume, lungs: np.ndarray) -> None:
    """Raise ValueError where a lung mask is empty or of another shape than its scan."""
    if lungs.shape != volume.shape:
        raise ValueError(f"the lung mask is {lungs.shape}, the scan {volume.shape}: give one grid")
    if not lungs.any():
        raise ValueError("the lung mask is empty: there is nowhere to plant a lesion")


def plant_lesions(
    volume: Volume, lungs: Mask, *, pattern: Pattern, severity: float, seed: int
) -> tuple[np.ndarray, Labels]:
    """Blend lesions into the lungs of a scan, as its scanner would have shown them.

    Parameters
    ----------
    volume : Volume
        A scan on the grid (cubes, feet to head, front to back, right to left), HU.
    lungs : ndarray of bool, shape (z, y, x)
        Its healthy lungs, such as `threshold_lungs` finds.
    pattern : Pattern
        Disease pattern.
    severity : float
        Share of the lungs that becomes lesion, met to one voxel: DL-ILD is 100 times this.
    seed : int
        Seed of positions and textures.

    Returns
    -------
    hu : ndarray of int16, shape (z, y, x)
        The scan with its lesions.
    labels : ndarray of uint8, shape (z, y, x)
        0 outside the lungs, 1 healthy lung, 2 … 5 lesions.

    Raises
    ------
    ValueError
        The mask is empty or of another shape than the scan.
    """
    check_lungs(volume, lungs)
    rng = np.random.default_rng([seed, 3])
    spacing_mm = volume.spacing_mm[0]
    box = box_of(lungs, margin=4)
    frame = frame_lungs(lungs[box], spacing_mm)
    inside = place_lesions(frame, pattern, severity, rng)
    healthy = volume.array[box].astype(np.float32)
    painted = paint_lesions(healthy, _airways(healthy, frame.lungs), inside, frame, rng)
    thickness_mm = volume.series.slice_thickness_mm or _DEFAULT_THICKNESS_MM
    change = _as_thick(painted - healthy, thickness_mm / spacing_mm)
    change += _lost_noise(healthy, frame.lungs, inside > Label.LUNG, rng)
    return _inserted(volume, healthy, change, frame.lungs, box), on_grid(inside, lungs.shape, box)


def _airways(hu: Array, lungs: Mask) -> Array:
    """Air that the scan shows to be darker than its lung: airways, which may stay open."""
    usual = float(np.median(hu[lungs]))
    dark = np.float32(min(usual - 60, -940))
    share: Array = (np.clip((dark - hu) / 40, 0, 1) * lungs).astype(np.float32)
    return share


def _as_thick(change: Array, voxels: float) -> Array:
    """Blur a change along z as the scan's slices blurred the patient."""
    if voxels <= 1.0:
        return change
    # A slab and the interpolation between slabs: together about a Gaussian of this width.
    blurred: Array = ndimage.gaussian_filter1d(change, voxels / np.sqrt(6.0), axis=0)
    return blurred


def _lost_noise(hu: Array, lungs: Mask, lesion: Mask, rng: np.random.Generator) -> Array:
    """Noise for lesions that replace what was there, as strong as in the healthy lung."""
    fine = hu - ndimage.uniform_filter(hu, (1, 3, 3))
    air = lungs & (hu < -700)
    sample = fine[air] if air.any() else fine[lungs]
    # Median absolute deviation; 3 x 3 means hide a ninth of the variance.
    noise_hu = 1.4826 * float(np.median(np.abs(sample - np.median(sample)))) / np.sqrt(8 / 9)
    grain: Array = 0.6 * filtered_noise(hu.shape, noise_hu, 0.0, rng) * lesion
    return grain


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
    density = lung_density(healthy, frame.lungs, spacing)
    thickness = volume.series.slice_thickness_mm or _DEFAULT_THICKNESS_MM
    voxels = thickness / spacing
    share_of_air: Array = np.clip((40 - healthy) / 900, 0, 1)
    hu: Array = healthy + _as_thick(disease.haze_hu, voxels) * share_of_air
    solid = disease.labels == CONSOLIDATION
    if solid.any():
        airways = np.clip((-930 - healthy) / 40, 0, 1).astype(np.float32) * frame.lungs
        hu += _as_thick(paint_consolidation(hu, airways, solid, frame, rng) - hu, voxels)
    bronchi = traction_bronchi(disease.labels, frame, rng)
    walls, lumens = (_as_thick(part, voxels) for part in bronchi)
    hu = hu + walls * np.maximum(0 - hu, 0)
    hu = hu + lumens * (-980 - hu)
    count, rows, columns = healthy.shape
    sampling = SampleGrid(np.arange(count), np.arange(rows), np.arange(columns), spacing)
    optics = Optics(rng.uniform(0.45, 0.8), thickness, spacing, max(thickness, spacing))
    for layer in disease.layers:
        show_layer(hu, density + disease.haze_hu, layer, sampling, optics)
    planted = _inserted(volume, healthy, hu - healthy, frame.lungs, box)
    return planted, on_grid(disease.labels, lungs.shape, box)


def _inserted(
    volume: Volume, healthy: Array, change: Array, lungs: Mask, box: tuple[slice, ...]
) -> np.ndarray:
    # Beyond the pleura nothing changes but what half a voxel of blur carries over.
    rim: Array = ndimage.gaussian_filter(lungs.astype(np.float32), 0.55)
    hu = volume.array.astype(np.int16)
    hu[box] = np.clip(np.rint(healthy + rim * change), -1024, 3071)
    return hu


def lung_density(hu: Array, lungs: Mask, spacing_mm: float) -> Array:
    """Mean HU of the lung round each voxel, without vessels: what a texture replaces."""
    air = (lungs & (hu < _VESSEL_HU)).astype(np.float32)
    width = _DENSITY_MM / spacing_mm
    share = ndimage.gaussian_filter(air, width)
    usual = float(np.median(hu[air > 0])) if air.any() else HEALTHY_LUNG_HU
    total = ndimage.gaussian_filter(air * (hu - usual), width)
    density: Array = usual + total / np.maximum(share, 0.02)
    return density
