"""How stored values become HU: what the header says, and what to do where it does not.

A header without a rescale may still be read, where the grey values of air tell it beyond doubt: air
has -1000 HU, and scanners use few intercepts. The result then carries a flag; a doubt is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import NotHU
from dlild_client.flags import Flag
from dlild_client.reading.dicom.decode import read_stored
from dlild_client.reading.dicom.hu import invert, used_bits
from dlild_client.reading.dicom.slices import SliceHeader

INTERCEPTS = (0, -1000, -1024, -2048, -8192, -32768)
"""Intercepts that scanners use with a slope of 1."""

AIR_LEVELS = (-1015.0, -985.0)
COARSE_SLOPE = 4.0

Values = npt.NDArray[np.floating[Any] | np.signedinteger[Any]]


@dataclass(frozen=True)
class Rescaled:
    """Slices whose slope and intercept are known, whether values are inverted, and flags."""

    slices: tuple[SliceHeader, ...]
    inverted: bool
    flags: tuple[Flag, ...]


def settle_rescale(slices: tuple[SliceHeader, ...]) -> Rescaled:
    """Make sure that stored values turn into HU by a known rule.

    Raises
    ------
    NotHU
        Colours, a slope or a type that is not HU, or a missing rescale that the pixels do not tell.
    """
    for s in slices:
        _check(s)
    flags: list[Flag] = []
    if any(s.slope is None or s.intercept is None for s in slices):
        slices, flag = _assume(slices)
        flags.append(flag)
    inverted = slices[0].pixels.photometric == "MONOCHROME1" and _is_inverted(slices)
    if inverted:
        flags.append(Flag("inverted_grey_values"))
    slope = max(s.slope or 0.0 for s in slices)
    if slope > COARSE_SLOPE:
        flags.append(Flag("coarse_grey_levels", step_hu=slope))
    lossy = sum(s.lossy for s in slices)
    if lossy:
        flags.append(Flag("lossy_compression", slices=lossy))
    return Rescaled(slices, inverted, tuple(flags))


def _check(s: SliceHeader) -> None:
    p = s.pixels
    if p.photometric not in {"MONOCHROME1", "MONOCHROME2"} or p.samples != 1:
        kind = p.photometric or "unknown"
        raise NotHU(
            f"{s.name}: photometric interpretation {kind}, not grey values; export the original CT"
        )
    for tag, name in (("RescaleSlope", "slope"), ("RescaleIntercept", "intercept")):
        if tag in s.unreadable:
            raise NotHU(
                f"{s.name}: no rescale {name} in numbers, but '{s.unreadable[tag]}'; export the "
                "original CT"
            )
    if s.slope is not None and not 0 < s.slope < 1000:
        raise NotHU(f"{s.name}: rescale slope {s.slope:g} gives no HU; export the original CT")
    if s.intercept is not None and abs(s.intercept) > 100_000:
        raise NotHU(
            f"{s.name}: rescale intercept {s.intercept:g} gives no HU; export the original CT"
        )
    if s.rescale_type not in {"", "HU", "US"}:
        raise NotHU(f"{s.name}: rescale type {s.rescale_type}, not HU; export the original CT")


def _assume(slices: tuple[SliceHeader, ...]) -> tuple[tuple[SliceHeader, ...], Flag]:
    """Find the intercept that gives air -1000 HU, where one and only one does."""
    bare = next(s for s in slices if s.slope is None or s.intercept is None)
    known = {s.intercept for s in slices} - {None}
    candidates = [i for i in known if i is not None] or list(INTERCEPTS)
    if {s.slope for s in slices} - {None, 1.0}:
        candidates = []
    sample = _sample(slices)
    fitting = [c for c in candidates if looks_like_hu(sample + c)]
    if len(fitting) != 1:
        missing = "slope" if bare.slope is None else ""
        missing += " and " if bare.slope is None and bare.intercept is None else ""
        missing += "intercept" if bare.intercept is None else ""
        raise NotHU(
            f"{bare.name}: no rescale {missing}, and the grey values do not tell them "
            f"({sample.min():g} to {sample.max():g}); export the original CT"
        )
    intercept = float(fitting[0])
    whole = tuple(replace(s, slope=s.slope or 1.0, intercept=intercept) for s in slices)
    return whole, Flag("rescale_assumed", slope=1.0, intercept=intercept)


def _is_inverted(slices: tuple[SliceHeader, ...]) -> bool:
    """Tell whether MONOCHROME1 pixels are inverted: by the standard they are not, but some are."""
    first = slices[0]
    assert first.slope is not None
    assert first.intercept is not None
    straight, turned = (_sample(slices, inverted=i) for i in (False, True))
    if looks_like_hu(straight * first.slope + first.intercept):
        return False
    if looks_like_hu(turned * first.slope + first.intercept):
        return True
    raise NotHU(
        f"{first.name}: MONOCHROME1, and the grey values are not HU either way; export the "
        "original CT"
    )


def _sample(slices: Sequence[SliceHeader], *, inverted: bool = False) -> Values:
    """Read stored values of five slices, every second row and column."""
    chosen = [
        slices[i] for i in sorted({round(f * (len(slices) - 1)) for f in np.linspace(0, 1, 5)})
    ]
    parts = []
    for s in chosen:
        stored = used_bits(read_stored(s), s.pixels)
        parts.append((invert(stored, s.pixels) if inverted else stored)[::2, ::2].ravel())
    return np.concatenate(parts).astype(np.float64)


def looks_like_hu(hu: Values) -> bool:
    """Tell whether air stands out near -1000, and there is soft tissue near 0.

    The lowest value of all is left out: it is what padding has, or what values were cut off at.
    """
    if np.mean(np.abs(hu) < 200) < 0.05:
        return False
    level = air_level(hu)
    return level is not None and AIR_LEVELS[0] <= level <= AIR_LEVELS[1]


def air_level(hu: Values, low: float = -1100.0, high: float = -900.0) -> float | None:
    """HU that air has: the mean of a peak of 20 HU; None where no peak stands out.

    Parameters
    ----------
    hu : ndarray
    low, high : float
        Where to look.
    """
    near = hu[(hu > max(low, hu.min())) & (hu < high)]
    if len(near) < 0.01 * hu.size:
        return None
    counts, edges = np.histogram(near, bins=np.arange(low, high + 1, 2.0))
    window = np.convolve(counts, np.ones(10), mode="same")
    peak = edges[int(np.argmax(window))]
    inside = near[np.abs(near - peak) <= 10]
    # Spread evenly, a window of 20 of 200 HU would hold a tenth.
    return float(inside.mean()) if len(inside) > 0.3 * len(near) else None
