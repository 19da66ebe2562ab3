"""What a scanner makes of a patient: slice thickness, kernel and noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dlild_export.phantom.fields import Array
from dlild_export.phantom.spec import PhantomSpec


def acquire(hu: Array, spec: PhantomSpec, spacing_mm: float, rng: np.random.Generator) -> Array:
    """Scan a phantom: thick slices, kernel, noise, and back on its grid.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The patient.
    spec : PhantomSpec
        Acquisition.
    spacing_mm : float
        Edge of a voxel of the grid.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        What the grid holds after the scan was resampled to it, HU.
    """
    slices, positions = _thick_slices(hu, spec.thickness_mm / spacing_mm)
    if spec.sharpness < 0:
        slices = ndimage.gaussian_filter(slices, (0, -spec.sharpness, -spec.sharpness))
    elif spec.sharpness > 0:
        blurred = ndimage.gaussian_filter(slices, (0, 0.8, 0.8))
        slices = slices + 0.8 * spec.sharpness * (slices - blurred)
    slices = np.maximum(slices + _noise(slices.shape, spec, rng), -1024)
    return _between_slices(slices, positions, hu.shape[0])


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


def _noise(shape: tuple[int, ...], spec: PhantomSpec, rng: np.random.Generator) -> Array:
    """Noise with the texture of filtered back-projection: little at low frequencies."""
    white = rng.standard_normal(shape, np.float32)
    grain = 0.45 if spec.sharpness > 0 else 0.7
    fine = ndimage.gaussian_filter(white, (0.3, grain, grain))
    texture = fine - 0.7 * ndimage.gaussian_filter(white, (0.3, 2.2, 2.2))
    noise: Array = texture * np.float32(spec.noise_hu / (texture.std() + 1e-6))
    return noise


def _between_slices(slices: Array, positions: Array, count: int) -> Array:
    if len(slices) == count:
        return slices
    z = np.arange(count)
    upper = np.clip(np.searchsorted(positions, z), 1, len(positions) - 1)
    span = positions[upper] - positions[upper - 1]
    weight = np.clip((z - positions[upper - 1]) / span, 0, 1).astype(np.float32)[:, None, None]
    return slices[upper - 1] + weight * (slices[upper] - slices[upper - 1])
