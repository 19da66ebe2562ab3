"""Smooth random fields and distances: the material that phantoms are shaped from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def smooth_noise(shape: tuple[int, int, int], wavelength: float, rng: np.random.Generator) -> Array:
    """Return a smooth random field of zero mean and unit variance.

    Parameters
    ----------
    shape : tuple of int
        Shape of the field (z, y, x).
    wavelength : float
        Typical distance between two bumps, in voxels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        White noise on a coarse lattice, interpolated: cheap for long wavelengths.
    """
    step = max(wavelength / 3.0, 1.0)
    coarse = tuple(int(np.ceil(n / step)) + 3 for n in shape)
    lattice = ndimage.gaussian_filter(rng.standard_normal(coarse, np.float32), 0.8, mode="wrap")
    field = resize(lattice, shape, step)
    return _normalised(field)


def band_noise(shape: tuple[int, int, int], wavelength: float, rng: np.random.Generator) -> Array:
    """Return a random field whose bumps nearly all have one size.

    Its zero level is a network of sheets about half a wavelength apart: in slices it looks like
    the lines of a reticular pattern.

    Parameters
    ----------
    shape : tuple of int
        Shape of the field (z, y, x).
    wavelength : float
        Distance between two bumps, in voxels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Zero mean, unit variance.
    """
    padded = tuple(fft.next_fast_len(n, real=True) for n in shape)
    spectrum = fft.rfftn(rng.standard_normal(padded, np.float32))
    axes = [np.fft.fftfreq(padded[0]), np.fft.fftfreq(padded[1]), np.fft.rfftfreq(padded[2])]
    squared = (
        axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2
    )
    relative = np.sqrt(squared).astype(np.float32) * wavelength
    spectrum *= np.exp(-(((relative - 1.0) / 0.25) ** 2))
    field: Array = fft.irfftn(spectrum, padded)[: shape[0], : shape[1], : shape[2]]
    return _normalised(field)


def _normalised(field: Array) -> Array:
    normalised: Array = (field - field.mean()) / (field.std() + 1e-6)
    return normalised


def resize(lattice: Array, shape: tuple[int, int, int], step: float) -> Array:
    """Interpolate a coarse lattice linearly, axis by axis.

    Parameters
    ----------
    lattice : ndarray of float32
        Values at every `step` voxels, starting at voxel 0.
    shape : tuple of int
        Shape of the result (z, y, x).
    step : float
        Voxels between two lattice points.

    Returns
    -------
    ndarray of float32, shape `shape`
    """
    field: Any = lattice
    for axis, size in enumerate(shape):
        position = np.minimum(np.arange(size) / step, field.shape[axis] - 1)
        field = interpolate(field, axis, position)
    result: Array = field
    return result


def interpolate(field: Array, axis: int, position: npt.NDArray[np.float64]) -> Array:
    """Interpolate a field linearly along one axis.

    Parameters
    ----------
    field : ndarray of float32, shape (z, y, x)
        Any values.
    axis : int
        Axis to interpolate along.
    position : ndarray of float
        Where along the axis, in voxels, from 0 to its last voxel.

    Returns
    -------
    ndarray of float32
        As long as `position` along the axis.
    """
    low = np.minimum(position.astype(np.intp), field.shape[axis] - 2)
    weight = (position - low).astype(np.float32)
    weight = weight.reshape([-1 if a == axis else 1 for a in range(3)])
    below, above = np.take(field, low, axis), np.take(field, low + 1, axis)
    between: Array = below + weight * (above - below)
    return between


def signed_distance(mask: Mask, spacing_mm: float, *, coarsen: int = 1) -> Array:
    """Return the distance to the surface of a mask, negative inside, in mm.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Any shape.
    spacing_mm : float
        Edge of a voxel.
    coarsen : int
        Measure on every `coarsen`-th voxel and interpolate: much faster for smooth shapes.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    small = mask[::coarsen, ::coarsen, ::coarsen]
    step_mm = spacing_mm * coarsen
    outside = ndimage.distance_transform_edt(~small) if small.any() else np.full(small.shape, 1e3)
    inside = ndimage.distance_transform_edt(small) if not small.all() else np.full(small.shape, 1e3)
    distance: Array = ((outside - inside) * step_mm).astype(np.float32)
    distance += np.where(small, 0.5, -0.5).astype(np.float32) * step_mm
    if coarsen == 1:
        return distance
    return resize(distance, mask.shape, coarsen)


def ramp(distance_mm: Array, width_mm: float) -> Array:
    """Turn a signed distance into the share of a voxel that is inside: 1 inside, 0 outside."""
    share: Array = np.clip(0.5 - distance_mm / width_mm, 0.0, 1.0)
    return share
