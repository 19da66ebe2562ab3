"""What a scanner makes of a patient: slice thickness, kernel and noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dlild_export.phantom.fields import Array, Mask
from dlild_export.phantom.spec import Acquisition


def acquire(hu: Array, lungs: Mask, acquisition: Acquisition, spacing_mm: float) -> Array:
    """Scan a patient: motion, thick slices, kernel, noise, and back on the grid.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The patient; stays as it is.
    lungs : ndarray of bool, shape (z, y, x)
        Where the lungs are: their lower part is what moves.
    acquisition : Acquisition
        Scanner and noise.
    spacing_mm : float
        Edge of a voxel of the grid.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        What the grid holds after the scan was resampled to it, HU.
    """
    rng = np.random.default_rng([acquisition.seed, 2])
    if acquisition.motion_mm > 0:
        hu = blurred_by_motion(hu, lungs, acquisition.motion_mm / spacing_mm)
    slices, positions = _thick_slices(hu, acquisition.thickness_mm / spacing_mm)
    sharpness = acquisition.sharpness
    if sharpness < 0:
        slices = ndimage.gaussian_filter(slices, (0, -sharpness, -sharpness))
    elif sharpness > 0:
        blurred = ndimage.gaussian_filter(slices, (0, 0.8, 0.8))
        slices = slices + 0.8 * sharpness * (slices - blurred)
    noise = filtered_noise(slices.shape, acquisition.noise_hu, sharpness, rng)
    return _between_slices(np.maximum(slices + noise, -1024), positions, hu.shape[0])


def blurred_by_motion(hu: Array, lungs: Mask, voxels: float) -> Array:
    """Two contours of diaphragm and lower lung, as breathing during the scan leaves them."""
    height = np.flatnonzero(lungs.any(axis=(1, 2)))
    up = (np.arange(len(hu)) - height[0]) / max(height[-1] - height[0], 1)
    weight = (0.5 * np.clip(1.2 - 2.0 * up, 0, 1)).astype(np.float32)[:, None, None]
    moved: Array = ndimage.shift(hu, (voxels, 0, 0), order=1, mode="nearest")
    blurred: Array = hu + weight * (moved - hu)
    return blurred


def _thick_slices(hu: Array, thickness: float) -> tuple[Array, Array]:
    """Average over the slice thickness, at every slice position (both in voxels)."""
    count = hu.shape[0]
    if thickness <= 1.0:
        return hu, np.arange(count, dtype=np.float32)
    # Means over the slab of each slice, from the running integral.
    integral = np.concatenate([np.zeros_like(hu[:1]), np.cumsum(hu, axis=0, dtype=np.float64)])
    edges = np.arange(0, count - thickness + 1e-6, thickness)
    upper, lower = _at(integral, edges + thickness), _at(integral, edges)
    slices = ((upper - lower) / thickness).astype(np.float32)
    return slices, (edges + thickness / 2 - 0.5).astype(np.float32)


def _at(integral: np.ndarray, position: np.ndarray) -> np.ndarray:
    low = np.minimum(position.astype(np.intp), len(integral) - 2)
    weight = (position - low)[:, None, None]
    between: np.ndarray = integral[low] * (1 - weight) + integral[low + 1] * weight
    return between


def filtered_noise(
    shape: tuple[int, ...], noise_hu: float, sharpness: float, rng: np.random.Generator
) -> Array:
    """Return noise with the texture of filtered back-projection: little at low frequencies.

    Parameters
    ----------
    shape : tuple of int
        Slices, rows, columns.
    noise_hu : float
        Standard deviation.
    sharpness : float
        Of the kernel: the grain is finer above 0.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32, shape `shape`
    """
    white = rng.standard_normal(shape, np.float32)
    grain = 0.45 if sharpness > 0 else 0.7
    fine = ndimage.gaussian_filter(white, (0.3, grain, grain))
    texture = fine - 0.7 * ndimage.gaussian_filter(white, (0.3, 2.2, 2.2))
    noise: Array = texture * np.float32(noise_hu / (texture.std() + 1e-6))
    return noise


def _between_slices(slices: Array, positions: Array, count: int) -> Array:
    if len(slices) == count:
        return slices
    z = np.arange(count)
    upper = np.clip(np.searchsorted(positions, z), 1, len(positions) - 1)
    span = positions[upper] - positions[upper - 1]
    weight = np.clip((z - positions[upper - 1]) / span, 0, 1).astype(np.float32)[:, None, None]
    return slices[upper - 1] + weight * (slices[upper] - slices[upper - 1])
