"""What a scanner and the model grid do to fine texture and to noise, as transfer functions.

Everything between the patient and the model grid is linear: the kernel of the reconstruction, the
thickness of the slices, and the triangle by which the client resamples
(`dlild_client.preparation.resampling`). So a periodic cube of texture is scanned once, as a product
in the frequency domain, and then only looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from dlild_export.phantom.fields import Array
from dlild_export.phantom.tiles import Tile


@dataclass(frozen=True)
class Optics:
    """A scanner, and the voxels that its images end on.

    Attributes
    ----------
    blur_mm : float
        Standard deviation of the point spread in the plane of the slices.
    thickness_mm : float
        Of the slices.
    pixel_mm : float or None
        Spacing of the grid that slices are resampled to in their plane; None: they stay as they
        are.
    along_mm : float or None
        Spacing along z of the grid that slices are averaged to; None: they are not.
    """

    blur_mm: float
    thickness_mm: float
    pixel_mm: float | None
    along_mm: float | None


def scanned(tile: Tile, optics: Optics, scale: float) -> tuple[Array, Array]:
    """Scan a periodic cube.

    Parameters
    ----------
    tile : Tile
        Its first axis lies along z.
    optics : Optics
    scale : float
        By which the cube is enlarged in the patient.

    Returns
    -------
    tissue, lumen : ndarray of float32, shape (n, n, n)
        Shares as the scan shows them.
    """
    n, step = tile.tissue.shape[0], tile.spacing_mm * scale
    f, half = np.fft.fftfreq(n, step), np.fft.rfftfreq(n, step)
    along = np.sinc(f * optics.thickness_mm)
    if optics.along_mm is not None:
        along = along * np.sinc(f * optics.along_mm) ** 2
    y, x = (_in_plane(axis, optics) for axis in (f, half))
    transfer = (along[:, None, None] * y[None, :, None] * x[None, None, :]).astype(np.float32)
    tissue, lumen = (
        fft.irfftn(fft.rfftn(part) * transfer, part.shape) if part.any() else part
        for part in (tile.tissue, tile.lumen)
    )
    return tissue, lumen


def _in_plane(f: np.ndarray, optics: Optics) -> np.ndarray:
    transfer: np.ndarray = np.exp(-2 * (np.pi * optics.blur_mm * f) ** 2)
    if optics.pixel_mm is not None:
        transfer = transfer * np.sinc(f * optics.pixel_mm) ** 2
    return transfer


def scan_noise(
    shape: tuple[int, int, int],
    noise_hu: float,
    peak_per_mm: float,
    pixel_mm: float,
    rng: np.random.Generator,
    *,
    resampled: bool = True,
) -> Array:
    """Noise of a reconstruction, as it arrives on the grid.

    Parameters
    ----------
    shape : tuple of int
        Slices, rows, columns of the grid.
    noise_hu : float
        Standard deviation in the slices as reconstructed.
    peak_per_mm : float
        Where the noise is strongest: 0.2 with soft kernels, 0.55 to 0.7 with sharp ones. The power
        is f exp(-f² / 2 peak²): the ramp of filtered back-projection, and the kernel.
    pixel_mm : float
        Of the grid.
    rng : numpy.random.Generator
        Source of randomness.
    resampled : bool
        Whether slices were resampled to the grid by its triangle; else they were made on it.

    Returns
    -------
    ndarray of float32, shape `shape`
        Slices are independent.
    """
    _, rows, columns = shape
    power = np.zeros((rows, columns))
    fy, fx = np.fft.fftfreq(rows, pixel_mm), np.fft.fftfreq(columns, pixel_mm)
    # What lies beyond the grid's highest frequency comes back as lower ones.
    for alias_y in range(-2, 3):
        for alias_x in range(-2, 3):
            y = (fy + alias_y / pixel_mm)[:, None]
            x = (fx + alias_x / pixel_mm)[None, :]
            f = np.sqrt(y**2 + x**2)
            own = f * np.exp(-0.5 * (f / peak_per_mm) ** 2)
            if resampled:
                own = own * (np.sinc(y * pixel_mm) * np.sinc(x * pixel_mm)) ** 4
            power += own
    # The integral of the power over the plane is 2 pi times that of f² exp(...).
    whole = 2 * np.pi * np.sqrt(np.pi / 2) * peak_per_mm**3
    amplitude = (noise_hu * np.sqrt(power / whole) / pixel_mm).astype(np.float32)
    white = rng.standard_normal(shape, np.float32)
    noise: Array = fft.irfft2(
        fft.rfft2(white, axes=(1, 2)) * amplitude[:, : columns // 2 + 1],
        (rows, columns),
        axes=(1, 2),
    )
    return noise
