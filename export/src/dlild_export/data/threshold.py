"""The lungs of a scan without dense lesions, found by a threshold: a reference that learns nothing.

What it gives for healthy lungs is what textbooks call a threshold segmentation with filled vessels.
Consolidated lung is not in it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

LUNG_BELOW_HU = -500
_SOLID_HU = -250
_MASS_RADIUS_MM = 4.5
_RIM_HU = -300
_SMALLEST_ML = 150.0
_LARGEST_AIRWAY_ML = 90.0
_AROUND_MM = 15.0
_AIRWAY_HU = (-900, -920, -940, -960, -975)


class NoLungsError(ValueError):
    """The threshold finds nothing that could be a lung."""


def threshold_lungs(
    hu: npt.NDArray[np.integer], spacing_mm: float, *, closing_mm: float = 6.0
) -> Mask:
    """Find both lungs, vessels filled, trachea and main bronchi left out.

    Parameters
    ----------
    hu : ndarray of int, shape (z, y, x)
        HU on a grid of cubes; feet to head, front to back, right to left.
    spacing_mm : float
        Edge of a voxel.
    closing_mm : float
        Radius of the ball that closes vessels and fissures.

    Returns
    -------
    ndarray of bool, shape (z, y, x)

    Raises
    ------
    NoLungsError
        No air inside the body is as large as a lung.
    """
    air = _air_inside(hu < LUNG_BELOW_HU, spacing_mm)
    airway = _airway(hu, air, spacing_mm)
    lungs = _large_pieces(air & ~airway, spacing_mm)
    closed = closed_by_ball(lungs, closing_mm / spacing_mm)
    return _filled(closed & ~airway)


def _ml(voxels: float, spacing_mm: float) -> float:
    return voxels * spacing_mm**3 / 1000.0


def _air_inside(air: Mask, spacing_mm: float) -> Mask:
    """Air that does not reach the sides of the scan, slice by slice: tables do not leak."""
    inside = np.stack([enclosed_air(plane) for plane in air])
    return _within_tissue(_large_pieces(inside, spacing_mm), air, spacing_mm)


def enclosed_air(air: Mask) -> Mask:
    """Return the air of a slice, shape (y, x), that does not reach the slice's edges."""
    pieces, _ = ndimage.label(air)
    rim = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    inside: Mask = air & ~np.isin(pieces, np.unique(rim))
    return inside


def _within_tissue(inside: Mask, air: Mask, spacing_mm: float) -> Mask:
    """Drop the hollow of a table: a thin shell is round it, and air again behind that."""
    pieces, count = ndimage.label(inside)
    kept = np.zeros_like(inside)
    for piece, found in enumerate(ndimage.find_objects(pieces), start=1):
        reach = int(np.ceil(_AROUND_MM / spacing_mm))
        box = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in found)
        own = pieces[box] == piece
        around = (ndimage.distance_transform_edt(~own) * spacing_mm <= _AROUND_MM) & ~own
        if (around & air[box]).sum() < 0.4 * around.sum():
            kept[box] |= own
    if count and not kept.any():
        raise NoLungsError("the air that was found has no tissue round it: no lung")
    return kept


def _large_pieces(mask: Mask, spacing_mm: float) -> Mask:
    pieces, count = ndimage.label(mask)
    sizes = _ml(1.0, spacing_mm) * np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0.0
    if sizes.max() < _SMALLEST_ML:
        raise NoLungsError(
            f"the largest piece of air inside the body has {sizes.max():.0f} mL: no lung"
        )
    return np.isin(pieces, np.flatnonzero(sizes >= max(_SMALLEST_ML, 0.1 * sizes.max())))


def _airway(hu: npt.NDArray[np.integer], air: Mask, spacing_mm: float) -> Mask:
    """Trachea and main bronchi: grown from the top through the darkest air, as far as it holds."""
    seed = _trachea(air, spacing_mm)
    if not seed.any():
        return seed
    for threshold in _AIRWAY_HU:
        dark = ndimage.binary_opening(air & (hu < threshold), iterations=1) | seed
        grown: Mask = ndimage.binary_propagation(seed, mask=dark)
        if _ml(grown.sum(), spacing_mm) <= _LARGEST_AIRWAY_ML:
            wall: Mask = ndimage.binary_dilation(grown, iterations=1) & air
            return wall
    return seed


def _trachea(air: Mask, spacing_mm: float) -> Mask:
    """Follow a round hole near the middle, from above the lungs downwards, until it is none."""
    trachea = np.zeros_like(air)
    middle = np.array(air.shape[1:]) / 2
    last: Mask | None = None
    for z in range(len(air) - 1, -1, -1):
        pieces, count = ndimage.label(air[z])
        best, best_away = 0, 45.0 / spacing_mm
        for piece in range(1, count + 1):
            where = pieces == piece
            area_mm2 = where.sum() * spacing_mm**2
            if not 60 <= area_mm2 <= 700:
                continue
            if last is not None and not (where & last).any():
                continue
            away = float(np.abs(np.argwhere(where).mean(axis=0) - middle)[1])
            if away < best_away:
                best, best_away = piece, away
        if best:
            last = trachea[z] = pieces == best
        elif last is not None:
            break
    return trachea


def closed_by_ball(mask: Mask, radius: float) -> Mask:
    """Close a mask of any number of axes with a ball of a radius in voxels."""
    if not mask.any():
        return mask
    margin = int(np.ceil(radius)) + 1
    padded = np.pad(mask, margin)
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed: Mask = ndimage.distance_transform_edt(grown) > radius
    inner = (slice(margin, -margin),) * mask.ndim
    whole: Mask = closed[inner] | mask
    return whole


def _filled(mask: Mask) -> Mask:
    filled = mask.copy()
    for plane in filled:
        plane[:] = ndimage.binary_fill_holes(plane)
    return filled


def doubtful_tissue(
    hu: npt.NDArray[np.integer], lungs: Mask, spacing_mm: float, *, radius_mm: float = 6.0
) -> Mask:
    """Find what a threshold cannot judge: solid tissue in or between the lungs, and its rim.

    It may be heart, a mass or consolidated lung. A training must not learn a class from it.

    Parameters
    ----------
    hu : ndarray of int, shape (z, y, x)
        HU on a grid of cubes.
    lungs : ndarray of bool, shape (z, y, x)
        What `threshold_lungs` found.
    spacing_mm : float
        Edge of a voxel.
    radius_mm : float
        Balls of this radius fit into it: vessels and the chest wall's edge are not meant.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
    """
    hull = closed_by_ball(lungs, 20.0 / spacing_mm)
    solid = hull & (hu > _RIM_HU)
    core: Mask = ndimage.distance_transform_edt(solid) > radius_mm / spacing_mm
    if not core.any():
        return core
    reach = (radius_mm + 8.0) / spacing_mm
    doubtful: Mask = (ndimage.distance_transform_edt(~core) <= reach) & hull
    return doubtful


def label_no_lesion(hu: npt.NDArray[np.integer], lungs: Mask, spacing_mm: float) -> Labels:
    """Label a scan that is known to hold no lesion: what is solid is no lung, the rest is.

    A training learns from it that hila, masses and the dome of the diaphragm are no lesions, which
    `doubtful_tissue` leaves open.

    Parameters
    ----------
    hu : ndarray of int, shape (z, y, x)
        HU on a grid of cubes.
    lungs : ndarray of bool, shape (z, y, x)
        What `threshold_lungs` found.
    spacing_mm : float
        Edge of a voxel.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        1 for lung, 0 for what is none.
    """
    doubtful = doubtful_tissue(hu, lungs, spacing_mm)
    solid = (hu > _SOLID_HU) & (lungs | doubtful)
    # Vessels are thinner, and count as lung.
    radius = _MASS_RADIUS_MM / spacing_mm
    core = ndimage.distance_transform_edt(solid) > radius
    mass = solid & (ndimage.distance_transform_edt(~core) <= radius) if core.any() else core
    outside = mass | (doubtful & (hu > _RIM_HU))
    labels: Labels = ((lungs | doubtful) & ~outside).astype(np.uint8)
    return labels
