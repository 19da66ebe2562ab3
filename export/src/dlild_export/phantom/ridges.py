"""Lines and walls in a slice: where they run, how thick and how dense they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dlild_export.phantom.fields import Array, Mask

_STEP_MM = 0.1
_REACH_MM = 3.0


@dataclass(frozen=True)
class Ridges:
    """Points on the crests of lines.

    Attributes
    ----------
    length_mm : float
        Of all lines together.
    peak_hu, base_hu, width_mm, thickness_mm : ndarray of float, shape (n,)
        Crest; what lies beside it; full width at half height; thickness that tissue of +40 HU with
        the same integral over what lies beside would have.
    """

    length_mm: float
    peak_hu: np.ndarray
    base_hu: np.ndarray
    width_mm: np.ndarray
    thickness_mm: np.ndarray


def find_ridges(hu: Array, where: Mask, pixel_mm: float, *, least_hu: float = 120.0) -> Ridges:
    """Find the lines of a slice that stand out of what lies beside them.

    Parameters
    ----------
    hu : ndarray of float32, shape (y, x)
        A slice without noise.
    where : ndarray of bool, shape (y, x)
        Where to look.
    pixel_mm : float
        Edge of a pixel.
    least_hu : float
        By which a crest must rise above both sides.

    Returns
    -------
    Ridges
    """
    width = 0.5 / pixel_mm
    yy, xx, xy = (
        ndimage.gaussian_filter(hu, width, order=order) for order in ((2, 0), (0, 2), (1, 1))
    )
    angle = 0.5 * np.arctan2(2 * xy, yy - xx)
    bend = 0.5 * (yy + xx) - np.sqrt((0.5 * (yy - xx)) ** 2 + xy**2)
    # The direction across a line is that of the strongest downward bend.
    across = np.stack([-np.sin(angle), np.cos(angle)])
    place = np.indices(hu.shape).astype(np.float32)
    side = [
        ndimage.map_coordinates(hu, place + sign * across, order=1, mode="nearest")
        for sign in (-1, 1)
    ]
    crest = where & (bend < 0) & (hu >= side[0]) & (hu > side[1])
    y, x = np.nonzero(crest)
    if not len(y):
        nothing = np.zeros(0)
        return Ridges(0.0, nothing, nothing, nothing, nothing)
    return _profiles(hu, np.stack([y, x]), across[:, y, x], pixel_mm, least_hu)


def _profiles(
    hu: Array, points: np.ndarray, across: np.ndarray, pixel_mm: float, least_hu: float
) -> Ridges:
    offsets = np.arange(-_REACH_MM, _REACH_MM + _STEP_MM / 2, _STEP_MM)
    at = points[:, :, None] + across[:, :, None] * offsets / pixel_mm
    profile = ndimage.map_coordinates(hu, at, order=1, mode="nearest")
    middle = len(offsets) // 2
    peak = profile[:, middle]
    # A side ends at its lowest place: beyond it the next line begins.
    left, right = profile[:, middle::-1], profile[:, middle:]
    ends = [side.argmin(axis=1) for side in (left, right)]
    lows = [side.min(axis=1) for side in (left, right)]
    clear = np.maximum(*lows) < peak - least_hu
    base = 0.5 * (lows[0] + lows[1])
    half = 0.5 * (peak + base)
    width, area = np.zeros(len(peak)), np.zeros(len(peak))
    for side, end in zip((left, right), ends, strict=True):
        own = np.arange(side.shape[1])[None] <= end[:, None]
        falling = np.minimum.accumulate(side, axis=1)
        width += ((falling > half[:, None]) & own).sum(axis=1) * _STEP_MM
        area += (np.clip(side - base[:, None], 0, None) * own).sum(axis=1) * _STEP_MM
    thickness = area / np.maximum(40 - base, 1)
    # Crests run along pixels and across their corners: 1.12 pixels of length a pixel, on average.
    length = 1.12 * pixel_mm * float(clear.sum())
    return Ridges(length, peak[clear], base[clear], width[clear], thickness[clear])
