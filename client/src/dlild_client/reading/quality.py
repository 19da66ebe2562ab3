"""Doubts that headers and grey values raise when a scan is read.

What is seen of the lungs themselves, on the model grid, is in
`dlild_client.preparation.inspection`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import MissingSlicesError, NotHUError
from dlild_client.flags import Flag
from dlild_client.reading.dicom.hu import air_level, from_the_edges
from dlild_client.reading.dicom.protocol import EXPIRATION, LATERAL, PRONE
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.candidates import Candidate
from dlild_client.reading.series.kernels import Kernel, judge_kernel
from dlild_client.reading.series.ranking import is_chest_word
from dlild_client.slabs import Hu, Slabs, corner_voxels, thinned
from dlild_client.volume import AIR_HU

THICK_SLICE_MM = 3.0
"""Thicker slices (or wider steps) are flagged: the network has learnt on thin ones."""

FINEST_PIXEL_MM, COARSEST_PIXEL_MM = 0.3, 1.2
"""Pixels of the field's chest scans; coarser ones are near the model grid itself."""

WIDEST_STEP_MM = 5.0
GAPS_UNKNOWN = (
    "may lie between the slices, whose thickness is not known: the index is then up to 2 points "
    "too high; give the original DICOM series"
)
SHIFT_HU = 30.0
HIGHEST_HU, MOST_ABOVE = 4000, 0.02
"""Beyond the 12 bits of most scanners, and the share of it that metal may have."""


def geometry_flags(step_mm: float, pixel_mm: tuple[float, float]) -> list[Flag]:
    """Flag spacings far from those the network has learnt on.

    Parameters
    ----------
    step_mm : float
        From slice to slice.
    pixel_mm : tuple of float
        Within a slice.
    """
    fine, coarse = min(pixel_mm), max(pixel_mm)
    if step_mm > WIDEST_STEP_MM or fine < FINEST_PIXEL_MM or coarse > COARSEST_PIXEL_MM:
        return [Flag("spacing_far_from_training", step_mm=step_mm, pixel_mm=coarse)]
    return []


def thickness_flags(step_mm: float, thickness_mm: float | None) -> list[Flag]:
    """Flag thick slices, and gaps between slices.

    Where no header says the thickness, wide steps may be thick slices or thin ones with gaps. Of
    these the index is too high, so the flag says that nobody knows.
    """
    flags = []
    known = thickness_mm is not None and thickness_mm > 0
    if max(step_mm, thickness_mm or 0.0) > THICK_SLICE_MM:
        values: dict[str, Any] = {"thickness_mm": thickness_mm} if known else {}
        values["step_mm"] = step_mm
        if not known and step_mm > WIDEST_STEP_MM:
            values["gaps"] = GAPS_UNKNOWN
        flags.append(Flag("thick_slices", **values))
    if thickness_mm and thickness_mm > 0 and step_mm > 2 * thickness_mm:
        flags.append(Flag("gaps_between_slices", thickness_mm=thickness_mm, step_mm=step_mm))
    return flags


def header_flags(chosen: Candidate) -> list[Flag]:
    """Flag what the headers of a series tell."""
    first = chosen.slices[0]
    assert first.pixel_spacing is not None
    rows, columns = first.pixel_spacing
    step = chosen.stack.widest_step_mm
    flags = thickness_flags(step, first.slice_thickness_mm)
    flags += geometry_flags(step, (rows, columns))
    if judge_kernel(first.kernel) is Kernel.UNUSUAL:
        flags.append(Flag("unusual_kernel", kernel=first.kernel))
    if first.body_part and not is_chest_word(first.body_part):
        flags.append(Flag("chest_doubtful", body_part=first.body_part))
    if first.contrast_agent:
        flags.append(Flag("contrast_likely", header="names a contrast agent"))
    return flags + protocol_flags(first) + number_flags(chosen.slices)


def protocol_flags(first: SliceHeader) -> list[Flag]:
    """Flag what the header says of breath and posture: not what the network has learnt on."""
    flags = []
    if first.breath == EXPIRATION:
        flags.append(Flag("expiration_likely", header="says expiration"))
    if first.posture in {PRONE, LATERAL}:
        flags.append(Flag("not_supine", header=f"says {first.posture}"))
    return flags


def number_flags(slices: Sequence[SliceHeader]) -> list[Flag]:
    """Flag numbers that are not written as DICOM has it, with the first of them."""
    flags = []
    if repaired := _first([s.repaired for s in slices]):
        flags.append(Flag("numbers_repaired", **repaired))
    if unreadable := _first([s.unreadable for s in slices]):
        flags.append(Flag("numbers_unreadable", **unreadable))
    return flags


def _first(held: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    found = [elements for elements in held if elements]
    if not found:
        return {}
    element, stands = next(iter(found[0].items()))
    return {"slices": len(found), "element": element, "stands": stands}


def pixel_flags(array: Hu | Slabs) -> list[Flag]:
    """Clear the padding of an array of HU, and flag what is odd about its values.

    Parameters
    ----------
    array : ndarray or Slabs, shape (z, y, x)
        HU; a constant outside the field of view is set to air, in place.

    Returns
    -------
    list of Flag
    """
    flags = []
    padding = clear_padding(array)
    if padding is not None:
        flags.append(Flag("padding_found", hu=padding))
    level = air_level(thinned(array)[:: max(1, len(array) // 60)].ravel())
    if level is not None and abs(level + 1000) > SHIFT_HU:
        flags.append(Flag("hu_shifted", air_hu=level))
    return flags


def check_hu(hu: npt.NDArray[Any]) -> None:
    """Raise `NotHUError` unless there is something like lung or air, and something like tissue."""
    check_range(hu)
    air, tissue = (float(np.mean(part)) for part in (hu < -500, hu > -200))
    if air < 0.01 or tissue < 0.01:
        raise NotHUError(
            f"values from {hu.min():g} to {hu.max():g} are not the HU of a chest "
            "(air near -1000, tissue above 0); give the CT in HU"
        )


def check_range(hu: npt.NDArray[Any]) -> None:
    """Raise `NotHUError` where many values exceed those of any body: wrong sign or byte order.

    Bone ends near 2000 HU. Metal reaches further, but fills no scan.
    """
    share = float(np.mean(hu > HIGHEST_HU))
    if share > MOST_ABOVE:
        raise NotHUError(
            f"{100 * share:.0f} % of the values are above {HIGHEST_HU} HU; sign, byte order or "
            "rescale must be wrong; export the original CT"
        )


def clear_padding(array: Hu | Slabs) -> int | None:
    """Set to air what lies outside the field of view, where that is a constant that is no air.

    Converters fill the corners outside the round field of view with 0 or any other value, which
    would pass for tissue. A corner that is tissue has noise; a constant in all four corners of all
    slices has none.

    Returns
    -------
    int or None
        The constant, where one was found and replaced.
    """
    corners = corner_voxels(array)
    value = int(corners.flat[0])
    if AIR_HU <= value <= -900 or min(array.shape[1:]) < 32:
        return None
    if np.any(corners != value):
        return None

    def clear(plane: Hu) -> None:
        plane[from_the_edges(plane == value)] = AIR_HU

    if isinstance(array, Slabs):
        array.change(clear)
        return value
    for plane in array:
        clear(plane)
    return value


TISSUE_HU = -500
LEAST_SHARE = 0.05
"""Of the usual area of tissue; even a neck has four times as much."""


def check_blanks(
    array: npt.NDArray[np.int16] | Slabs, names: Sequence[str] | None = None, axis: int = 0
) -> list[Flag]:
    """Look for slices that hold no picture of the body.

    Parameters
    ----------
    array : ndarray or Slabs
        HU.
    names : sequence of str, optional
        Of the slices, for messages; else they are numbered.
    axis : int
        The one of the slices, which lie across the body.

    Returns
    -------
    list of Flag
        `blank_slices` where the first or last slices are a constant.

    Raises
    ------
    MissingSlicesError
        Between slices of the body lie some that are a constant, or hold hardly any tissue.
    """
    small = thinned(array, axis)
    small = small.reshape(len(small), -1)
    constant = small.max(axis=1) == small.min(axis=1)
    tissue = np.count_nonzero(small > TISSUE_HU, axis=1)
    if constant.all():
        return []  # no chest at all, as others will find
    hollow = constant | (tissue < LEAST_SHARE * np.median(tissue[~constant]))
    shown = np.flatnonzero(~hollow)
    inside = shown[0] + np.flatnonzero(hollow[shown[0] : shown[-1]])
    if len(inside):
        first = names[inside[0]] if names else f"slice {inside[0] + 1}"
        raise MissingSlicesError(
            f"{len(inside)} slice{'s hold' if len(inside) > 1 else ' holds'} no picture of the "
            f"body, the first {first}, between slices that do; export the whole series"
        )
    ends = int(np.count_nonzero(constant))
    return [Flag("blank_slices", slices=ends)] if ends else []


JUMP_HU = 100.0
"""Neighbouring slices of real scans differ by less, seen over all soft tissue and all air."""

ENDS, JUMP_AT_ENDS_HU = 3, 450.0
"""The first and last slices of a helical scan may be dark: they were seen by part of a turn."""

LEAST_LIKENESS = 0.7
"""Correlation of two slices that show nearly the same; it does not depend on the rescale."""

LEAST_PIXELS = 50
BANDS = ((-1100.0, -850.0), (-200.0, 200.0))
"""Air, and soft tissue, in HU."""

Plane = npt.NDArray[np.floating]


def check_jumps(
    array: npt.NDArray[np.int16],
    names: Sequence[str] | None = None,
    rescales: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Raise `NotHUError` where HU jump between slices that show nearly the same.

    What is air, or soft tissue, in one slice is so in the next, but for its edges. A median that
    moves, up from one slice to the next and down the other way, is a change of the grey values.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        HU; every fourth row and column is enough.
    names : sequence of str, optional
        Of the slices, for messages; else they are numbered.
    rescales : sequence of (slope, intercept), optional
        Of the slices, for messages.
    """
    jumps = np.array([jump_hu(a, b) for a, b in pairwise(array)])
    found = np.abs(jumps) > _bounds(len(jumps), rescales)
    if not np.any(found):
        return
    steps = np.where(found, jumps, 0.0)
    levels = np.concatenate([[0.0], np.cumsum(steps)])
    runs = np.concatenate([[0], np.cumsum(steps != 0)])
    # What a wrong slope does depends on the tissue, so levels do not come back to the last HU.
    near = max(JUMP_HU / 2, 0.3 * float(np.abs(jumps).max()))
    odd = np.flatnonzero(np.abs(levels - np.median(levels)) > near).tolist()
    if not odd:
        odd = np.flatnonzero(runs == runs.max()).tolist()
    shown = [names[i] if names else f"slice {i + 1}" for i in odd]
    count = f"{len(odd)} slice{'s' if len(odd) > 1 else ''}"
    listed = ", ".join(shown if len(shown) <= 4 else [*shown[:3], "...", shown[-1]])
    largest = float(jumps[np.argmax(np.abs(jumps))])
    raise NotHUError(
        f"HU jump by {abs(largest):.0f} between slices: {count} ({listed}) differ from the others"
        f"{_why(odd, rescales)}; export the original CT"
    )


def jump_hu(a: npt.NDArray[np.int16], b: npt.NDArray[np.int16]) -> float:
    """Change of the grey values from one slice to the next; 0 where none can be told.

    Parameters
    ----------
    a, b : ndarray, shape (rows, columns)
        HU of neighbouring slices.
    """
    x, y = a.ravel().astype(np.float32), b.ravel().astype(np.float32)
    if x.std() < 1 or y.std() < 1 or np.corrcoef(x, y)[0, 1] < LEAST_LIKENESS:
        return 0.0
    there = _moves(x, y)
    back = _moves(y, x)
    # Anatomy that grows or shrinks moves one way only; grey values move both ways.
    found = [
        (f - g) / 2
        for f, g in zip(there, back, strict=True)
        if f is not None and g is not None and f * g < 0 and min(abs(f), abs(g)) > JUMP_HU / 2
    ]
    found += [f for f, g in zip(there, back, strict=True) if f is not None and g is None]
    found += [-g for f, g in zip(there, back, strict=True) if f is None and g is not None]
    return max(found, key=abs, default=0.0)


def _moves(x: Plane, y: Plane) -> list[float | None]:
    """Median change of what is air, or soft tissue, in the first; None where it has too little.

    Where either is at the bottom of the scale nothing may have been measured: the edge of what a
    resampled image shows runs through the body, and is no change of the grey values.
    """
    moves: list[float | None] = []
    measured = (x > AIR_HU) & (y > AIR_HU)
    for low, high in BANDS:
        inside = measured & (x >= low) & (x <= high)
        enough = np.count_nonzero(inside) >= max(LEAST_PIXELS, 0.01 * x.size)
        moves.append(float(np.median(y[inside] - x[inside])) if enough else None)
    return moves


def _bounds(count: int, rescales: Sequence[tuple[float, float]] | None) -> npt.NDArray[np.float64]:
    """Largest jump that each pair of neighbours may have, in HU."""
    bounds = np.full(count, JUMP_HU)
    for i in {*range(min(ENDS, count)), *range(max(0, count - ENDS), count)}:
        if rescales is None or rescales[i] == rescales[i + 1]:
            bounds[i] = JUMP_AT_ENDS_HU
    return bounds


def _why(odd: Sequence[int], rescales: Sequence[tuple[float, float]] | None) -> str:
    if rescales is None:
        return ""
    inside = {rescales[i] for i in odd}
    outside = {rescales[i] for i in range(len(rescales)) if i not in set(odd)}
    if len(inside) != 1 or len(outside) != 1 or inside == outside:
        return ""
    (slope, intercept), (usual_slope, usual_intercept) = inside.pop(), outside.pop()
    return (
        f" (rescale slope {slope:g} and intercept {intercept:g}, the others {usual_slope:g} and "
        f"{usual_intercept:g})"
    )
