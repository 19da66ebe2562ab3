"""The shape of the lungs: built from a few curves, or taken from a mask; positions in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from scipy import ndimage

from dlild_export.phantom.fields import Array, Mask, signed_distance, smooth_noise

# Margin round the lungs for chest wall, shoulders and upper abdomen (z below, z above, y, x), mm.
_MARGIN_MM = (60.0, 50.0, 52.0, 58.0)


@dataclass(frozen=True)
class LungFrame:
    """Where a voxel lies in the lung.

    Attributes
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Both lungs.
    depth_mm : ndarray of float32, shape (z, y, x)
        Distance to the surface of the lung, positive inside.
    height : ndarray of float32, shape (z, 1, 1)
        0 at the base, 1 at the apex.
    back : ndarray of float32, shape (1, y, 1)
        0 at the front, 1 at the back.
    spacing_mm : float
        Edge of a voxel.
    """

    lungs: Mask
    depth_mm: Array
    height: Array
    back: Array
    spacing_mm: float

    def noise(self, wavelength_mm: float, rng: np.random.Generator) -> Array:
        """Return a smooth random field over the frame."""
        z, y, x = self.lungs.shape
        return smooth_noise((z, y, x), wavelength_mm / self.spacing_mm, rng)


def frame_lungs(lungs: Mask, spacing_mm: float) -> LungFrame:
    """Measure where every voxel lies in the lungs.

    Parameters
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Both lungs, with a margin round them.
    spacing_mm : float
        Edge of a voxel.

    Returns
    -------
    LungFrame
    """
    z, y, _ = np.nonzero(lungs)
    rows = np.arange(lungs.shape[0], dtype=np.float32)[:, None, None]
    columns = np.arange(lungs.shape[1], dtype=np.float32)[None, :, None]
    return LungFrame(
        lungs=lungs,
        depth_mm=np.maximum(-signed_distance(lungs, spacing_mm, coarsen=2), 0),
        height=np.clip((rows - z.min()) / (z.max() - z.min()), 0, 1),
        back=np.clip((columns - y.min()) / (y.max() - y.min()), 0, 1),
        spacing_mm=spacing_mm,
    )


def make_lungs(lung_mask: Path | None, spacing_mm: float, rng: np.random.Generator) -> Mask:
    """Return lungs of the shape of a mask, or built from curves where there is none."""
    if lung_mask is None:
        return built_lungs(spacing_mm, rng)
    return lungs_from_mask(lung_mask, spacing_mm, rng)


def built_lungs(spacing_mm: float, rng: np.random.Generator) -> Mask:
    """Build a pair of lungs from curves: rib cage, mediastinum, heart and diaphragm.

    Parameters
    ----------
    spacing_mm : float
        Edge of a voxel.
    rng : numpy.random.Generator
        Draws the size and the proportions.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        Feet to head, front to back, right to left.
    """
    height, width, depth = rng.uniform(190, 275), rng.uniform(112, 150), rng.uniform(72, 105)
    below, above, margin_y, margin_x = _MARGIN_MM
    size_mm = (height + below + above, 2 * (depth + margin_y), 2 * (width + margin_x))
    shape = (
        int(size_mm[0] / spacing_mm),
        int(size_mm[1] / spacing_mm),
        int(size_mm[2] / spacing_mm),
    )
    z = (np.arange(shape[0], dtype=np.float32) * spacing_mm - below)[:, None, None]
    y = (np.arange(shape[1], dtype=np.float32) * spacing_mm - size_mm[1] / 2)[None, :, None]
    x = (np.arange(shape[2], dtype=np.float32) * spacing_mm - size_mm[2] / 2)[None, None, :]

    outside = _rib_cage(z, y, x, height, width, depth)
    middle = 0.22 * depth * np.clip(z / height, 0, 1) ** 2
    gap = (
        rng.uniform(3, 9)
        + 16 * np.exp(-(((y - middle - 0.78 * depth) / 20) ** 2))
        + rng.uniform(12, 24) * np.exp(-(((y - middle) / 30) ** 2))
    )
    outside = np.maximum(outside, gap - np.abs(x))
    outside = np.maximum(outside, _heart(z, y, x, height, depth, rng))
    outside = np.maximum(outside, _diaphragm(z, y, x, width, depth, rng))
    outside = outside + rng.uniform(1.0, 3.5) * smooth_noise(shape, 40.0 / spacing_mm, rng)
    rounded: Array = ndimage.gaussian_filter((outside < 0).astype(np.float32), 1.6)
    return _largest_two(rounded > 0.5)


def _rib_cage(z: Array, y: Array, x: Array, height: float, width: float, depth: float) -> Array:
    up = np.clip(z / height, 0, 1.2)
    half_width = width * (1 - 0.72 * np.clip((up - 0.3) / 0.72, 0, 1) ** 2.2)
    half_depth = depth * (1 - 0.62 * np.clip((up - 0.4) / 0.62, 0, 1) ** 2.4)
    middle = 0.22 * depth * np.clip(up, 0, 1) ** 2
    radius = (np.abs(x / half_width) ** 2.3 + np.abs((y - middle) / half_depth) ** 2.6) ** (1 / 2.4)
    cage = np.maximum((radius - 1) * np.minimum(half_width, half_depth), z - height)
    distance: Array = cage.astype(np.float32)
    return distance


def _heart(
    z: Array, y: Array, x: Array, height: float, depth: float, rng: np.random.Generator
) -> Array:
    centre = (0.27 * height, -0.28 * depth, rng.uniform(10, 26))
    radii = (rng.uniform(46, 62), rng.uniform(36, 50), rng.uniform(42, 60))
    radius = np.sqrt(
        sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True))
    )
    distance: Array = ((1 - radius) * min(radii)).astype(np.float32)
    return distance


def _diaphragm(
    z: Array, y: Array, x: Array, width: float, depth: float, rng: np.random.Generator
) -> Array:
    dome = rng.uniform(28, 62)
    higher_right = rng.uniform(0, 18)
    side = np.where(x < 0, -0.5, 0.5) * width
    bowl = 1 - ((x - side) / (0.62 * width)) ** 2 - ((y + 0.1 * depth) / (1.05 * depth)) ** 2
    floor = dome * np.clip(bowl, -0.2, 1) + np.where(x < 0, higher_right, 0.0) - z
    distance: Array = floor.astype(np.float32)
    return distance


def lungs_from_mask(path: Path, spacing_mm: float, rng: np.random.Generator) -> Mask:
    """Take the shape of real lungs from a mask, scaled and mirrored at random.

    Parameters
    ----------
    path : pathlib.Path
        Mask image, non-zero in the lungs, with axes feet to head, front to back and across.
    spacing_mm : float
        Edge of a voxel of the phantom.
    rng : numpy.random.Generator
        Draws scale and mirroring.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
    """
    image = SimpleITK.ReadImage(str(path))
    mask = SimpleITK.GetArrayFromImage(image) > 0
    mask = mask[ndimage.find_objects(mask.astype(np.uint8))[0]]
    if rng.random() < 0.5:
        mask = mask[:, :, ::-1]
    source_mm = np.array(image.GetSpacing()[::-1])  # type: ignore[no-untyped-call]
    # Hyperinflated lungs are tall; squeezing the height makes ordinary ones of them.
    scale = rng.uniform(0.85, 1.12) * np.array(
        [rng.uniform(0.7, 1.05), *rng.uniform(0.93, 1.08, 2)]
    )
    zoomed = ndimage.zoom(mask.astype(np.float32), source_mm * scale / spacing_mm, order=1)
    below, above, margin_y, margin_x = (int(margin / spacing_mm) for margin in _MARGIN_MM)
    smooth = np.pad(zoomed, ((below, above), (margin_y, margin_y), (margin_x, margin_x)))
    return _largest_two(ndimage.gaussian_filter(smooth, 0.8) > 0.5)


def _largest_two(mask: Mask) -> Mask:
    """Keep the two largest pieces, or one where the lungs touch."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())[1:]
    keep = 1 + np.argsort(sizes)[::-1][:2]
    return np.isin(pieces, keep[sizes[keep - 1] > 0.05 * sizes.sum()])
