"""Converts stored values to HU, and finds a missing rescale.

A header without a rescale can still be read where the grey values of air determine it: air has
-1000 HU, and scanners use few intercepts. The result carries a flag; an ambiguity is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import NotHUError
from dlild_client.flags import Flag
from dlild_client.reading.dicom.decode import Stored, read_stored
from dlild_client.reading.dicom.slices import PixelFormat, SliceHeader
from dlild_client.volume import AIR_HU

HIGHEST_HU = int(np.iinfo(np.int16).max)
LOWEST_PADDING = -10_000
"""Scanners pad with -2000, -2048 or -3024; far lower values are no padding."""

PADDINGS = 4
"""Most distinct values of padding; more are an overlay in the bits above the pixel."""

Mask = npt.NDArray[np.bool_]


def read_hu(header: SliceHeader, out: npt.NDArray[np.int16], *, inverted: bool = False) -> None:
    """Read one slice as HU.

    Parameters
    ----------
    header : SliceHeader
        With slope and intercept.
    out : ndarray of int16, shape (rows, columns)
        Contiguous; filled. HU below -1024 and padded pixels become -1024.
    inverted : bool
        Whether stored values decrease with HU.

    Raises
    ------
    UnreadableFileError
        The slice cannot be decoded.
    NotHUError
        The header does not say whether values are signed, and it matters.
    """
    assert header.slope is not None
    assert header.intercept is not None
    stored = read_stored(header, out)
    outside = padded(stored, header)
    _check_sign(stored, header, outside)
    stored = used_bits(stored, header.pixels)
    if inverted:
        stored = invert(stored, header.pixels)
    rescale(stored, header.slope, header.intercept, out)
    if outside is not None:
        out[outside] = AIR_HU


def _check_sign(stored: Stored, header: SliceHeader, outside: Mask | None) -> None:
    """Raise `NotHUError` where values depend on a sign that the header does not state."""
    pixels = header.pixels
    if pixels.sign_known or not 0 < pixels.bits_stored <= 8 * stored.dtype.itemsize:
        return
    top = (stored >> pixels.high_bit) & 1
    if outside is not None:
        top = top[~outside]
    if top.any():
        raise NotHUError(
            f"{header.name}: no pixel representation in the header, so that negative values cannot "
            "be told from large ones; export the original CT"
        )


def invert(stored: Stored, pixels: PixelFormat) -> npt.NDArray[np.int32]:
    """Invert stored values within the range of their bits."""
    top = -1 if pixels.signed else (1 << pixels.bits_stored) - 1
    return top - stored.astype(np.int32)


def rescale(stored: Stored, slope: float, intercept: float, out: npt.NDArray[np.int16]) -> None:
    """Write ``stored * slope + intercept`` as HU, clipped to -1024 and the top of int16.

    Parameters
    ----------
    stored : ndarray of whole numbers
    slope, intercept : float
    out : ndarray of int16
        Of the same shape; may be the memory of `stored` itself.
    """
    if slope == 1 and intercept.is_integer() and stored.dtype.itemsize == 2:
        limits = np.iinfo(stored.dtype)
        low = max(limits.min, AIR_HU - int(intercept))
        high = min(limits.max, HIGHEST_HU - int(intercept))
        if low <= high:
            target = out.view(stored.dtype)
            np.clip(stored, low, high, out=target)
            # uint16 sums wrap around to the right int16.
            target += np.array(int(intercept) & 0xFFFF, dtype=np.uint16).view(stored.dtype)
            return
    hu = np.rint(stored * np.float64(slope) + intercept)
    out[...] = np.clip(hu, AIR_HU, HIGHEST_HU)


def used_bits(stored: Stored, pixels: PixelFormat) -> Stored:
    """Clear, in place, the bits beyond BitsStored."""
    width = 8 * stored.dtype.itemsize
    bits, below = pixels.bits_stored, pixels.high_bit + 1 - pixels.bits_stored
    # Decoders of compressed streams return no spare bits.
    if pixels.compressed or not (0 < bits < width and 0 <= below <= width - bits):
        return stored
    # Shift up and down again: the arithmetic right shift extends the sign.
    np.left_shift(stored, width - bits - below, out=stored)
    np.right_shift(stored, width - bits, out=stored)
    return stored


def padded(stored: Stored, header: SliceHeader) -> Mask | None:
    """Mask the padding that clipping would not turn into air; None where there is none.

    Padding is connected to the left or right edge along its row: a pixel inside the patient that
    has the same value by chance keeps its HU.
    """
    equal = _hidden_padding(stored, header)
    tagged = _tagged_padding(stored, header)
    if equal is None:
        equal = tagged
    elif tagged is not None:
        equal |= tagged
    return None if equal is None else from_the_edges(equal)


def from_the_edges(equal: Mask) -> Mask:
    """Keep pixels connected along their row to the left or right edge."""
    from_left = np.logical_and.accumulate(equal, axis=1)
    from_right = np.logical_and.accumulate(equal[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(from_left | from_right)


def _tagged_padding(stored: Stored, header: SliceHeader) -> Mask | None:
    if header.padding is None:
        return None
    assert header.slope is not None
    assert header.intercept is not None
    ends = [_as_stored(header.padding, stored.dtype)]
    if header.padding_limit is not None:
        ends.append(_as_stored(header.padding_limit, stored.dtype))
    low, high = min(ends), max(ends)
    limits = np.iinfo(stored.dtype)
    if high < limits.min or low > limits.max:
        return None
    if high * header.slope + header.intercept <= AIR_HU and _fits(high, header.pixels):
        return None  # clipping turns it into air
    equal = (stored >= max(low, limits.min)) & (stored <= min(high, limits.max))
    return equal if equal.any() else None


def _fits(value: int, pixels: PixelFormat) -> bool:
    """Whether the stored bits can represent a value."""
    if pixels.signed:
        return -(1 << (pixels.bits_stored - 1)) <= value < 1 << (pixels.bits_stored - 1)
    return 0 <= value < 1 << pixels.bits_stored


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """Convert a padding value to the type of the pixels: the tag often has the wrong sign."""
    limits, span = np.iinfo(dtype), 1 << (8 * dtype.itemsize)
    if value > limits.max:
        return value - span
    return value + span if value < limits.min else value


def _hidden_padding(stored: Stored, header: SliceHeader) -> Mask | None:
    """Mask negative padding in pixels that the header declares unsigned or narrower.

    An example: -2000 in unsigned 12-bit pixels, which a mask of 12 bits would make 1072 HU.
    """
    pixels = header.pixels
    if pixels.bits_stored >= 16 and pixels.signed:
        return None
    if pixels.high_bit + 1 != pixels.bits_stored:
        return None  # the sign of the 16 bits is that of the pixel
    if stored.dtype.itemsize != 2 or header.slope != 1:
        return None
    assert header.intercept is not None
    negative = stored.view(np.int16)
    if negative.min() >= 0:
        return None
    found = (negative < 0) & (negative > LOWEST_PADDING)
    found &= negative < AIR_HU - min(header.intercept, 0)
    if not found.any() or len(np.unique(negative[found])) > PADDINGS:
        return None
    return found


INTERCEPTS = (0, -1000, -1024, -2048, -8192, -32768)
"""Intercepts that scanners use with a slope of 1."""

AIR_LEVELS = (-1015.0, -985.0)
COARSE_SLOPE = 4.0

Values = npt.NDArray[np.floating[Any] | np.signedinteger[Any]]


@dataclass(frozen=True)
class Rescaled:
    """Slices with slope and intercept, whether values are inverted, and flags."""

    slices: tuple[SliceHeader, ...]
    inverted: bool
    flags: tuple[Flag, ...]


def settle_rescale(slices: tuple[SliceHeader, ...]) -> Rescaled:
    """Determine the rescale of all slices.

    Raises
    ------
    NotHUError
        Colours; a slope or type that is not HU; a missing rescale that pixels do not determine.
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
        raise NotHUError(
            f"{s.name}: photometric interpretation {kind}, not grey values; export the original CT"
        )
    for tag, name in (("RescaleSlope", "slope"), ("RescaleIntercept", "intercept")):
        if tag in s.unreadable:
            raise NotHUError(
                f"{s.name}: no rescale {name} in numbers, but '{s.unreadable[tag]}'; export the "
                "original CT"
            )
    if s.slope is not None and not 0 < s.slope < 1000:
        raise NotHUError(f"{s.name}: rescale slope {s.slope:g} gives no HU; export the original CT")
    if s.intercept is not None and abs(s.intercept) > 100_000:
        raise NotHUError(
            f"{s.name}: rescale intercept {s.intercept:g} gives no HU; export the original CT"
        )
    if s.rescale_type not in {"", "HU", "US"}:
        raise NotHUError(f"{s.name}: rescale type {s.rescale_type}, not HU; export the original CT")


def _assume(slices: tuple[SliceHeader, ...]) -> tuple[tuple[SliceHeader, ...], Flag]:
    """Find the only intercept that gives air -1000 HU."""
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
        raise NotHUError(
            f"{bare.name}: no rescale {missing}, and the grey values do not tell them "
            f"({sample.min():g} to {sample.max():g}); export the original CT"
        )
    intercept = float(fitting[0])
    whole = tuple(replace(s, slope=s.slope or 1.0, intercept=intercept) for s in slices)
    return whole, Flag("rescale_assumed", slope=1.0, intercept=intercept)


def _is_inverted(slices: tuple[SliceHeader, ...]) -> bool:
    """Whether MONOCHROME1 pixels are inverted: not by the standard, but in some files."""
    first = slices[0]
    assert first.slope is not None
    assert first.intercept is not None
    straight, turned = (_sample(slices, inverted=i) for i in (False, True))
    if looks_like_hu(straight * first.slope + first.intercept):
        return False
    if looks_like_hu(turned * first.slope + first.intercept):
        return True
    raise NotHUError(
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
    """Whether there is a peak of air near -1000, and soft tissue near 0.

    The lowest value is ignored: padding, or the bound that values were clipped at.
    """
    if np.mean(np.abs(hu) < 200) < 0.05:
        return False
    level = air_level(hu)
    return level is not None and AIR_LEVELS[0] <= level <= AIR_LEVELS[1]


def air_level(hu: Values, low: float = -1100.0, high: float = -900.0) -> float | None:
    """Estimate the HU of air: the mean of a peak of 20 HU; None without a clear peak.

    Parameters
    ----------
    hu : ndarray
    low, high : float
        Range to search.
    """
    near = hu[(hu > max(low, hu.min())) & (hu < high)]
    if len(near) < 0.01 * hu.size:
        return None
    counts, edges = np.histogram(near, bins=np.arange(low, high + 1, 2.0))
    window = np.convolve(counts, np.ones(10), mode="same")
    peak = edges[int(np.argmax(window))]
    inside = near[np.abs(near - peak) <= 10]
    # A uniform distribution has a tenth of its values in 20 of 200 HU.
    return float(inside.mean()) if len(inside) > 0.3 * len(near) else None
