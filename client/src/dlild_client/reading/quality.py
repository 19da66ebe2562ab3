"""Checks and flags of headers and voxels when a scan is read.

Flags: spacing, thickness, kernel, breath, padding, calibration. Errors: blank slices, HU that jump
between slices, values that are no HU. The lungs themselves are checked on the model grid, in
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
"""Thicker slices (or wider steps) are flagged: the network was trained on thin ones."""

FINEST_PIXEL_MM, COARSEST_PIXEL_MM = 0.3, 1.2
"""Usual pixel spacing of chest CT; coarser ones come near the model grid."""

WIDEST_STEP_MM = 5.0
GAPS_UNKNOWN = (
    "may lie between the slices, whose thickness is not known: the index is then up to 2 points "
    "too high; give the original DICOM series"
)
SHIFT_HU = 30.0
HIGHEST_HU, MOST_ABOVE = 4000, 0.02
"""Beyond the 12 bits of most scanners, and the share of voxels that metal may have."""


def geometry_flags(step_mm: float, pixel_mm: tuple[float, float]) -> list[Flag]:
    """Flag spacings far from those of the training.

    Parameters
    ----------
    step_mm : float
        Between slices.
    pixel_mm : tuple of float
        Within a slice.
    """
    fine, coarse = min(pixel_mm), max(pixel_mm)
    if step_mm > WIDEST_STEP_MM or fine < FINEST_PIXEL_MM or coarse > COARSEST_PIXEL_MM:
        return [Flag("spacing_far_from_training", step_mm=step_mm, pixel_mm=coarse)]
    return []


def thickness_flags(step_mm: float, thickness_mm: float | None) -> list[Flag]:
    """Flag thick slices, and gaps between slices.

    Without a thickness in the header, wide steps may be thick slices, or thin ones with gaps, whose
    index is too high: the flag says so.
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
    """Flag what the headers of a series reveal."""
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
    """Flag breath and posture of the header that differ from the training."""
    flags = []
    if first.breath == EXPIRATION:
        flags.append(Flag("expiration_likely", header="says expiration"))
    if first.posture in {PRONE, LATERAL}:
        flags.append(Flag("not_supine", header=f"says {first.posture}"))
    return flags


def number_flags(slices: Sequence[SliceHeader]) -> list[Flag]:
    """Flag numbers that do not conform to DICOM, with the first of them."""
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
    """Clear the padding of an array of HU, and flag unusual values.

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
    """Raise `NotHUError` unless there are values of lung or air, and values of tissue."""
    check_range(hu)
    air, tissue = (float(np.mean(part)) for part in (hu < -500, hu > -200))
    if air < 0.01 or tissue < 0.01:
        raise NotHUError(
            f"values from {hu.min():g} to {hu.max():g} are not the HU of a chest "
            "(air near -1000, tissue above 0); give the CT in HU"
        )


def check_range(hu: npt.NDArray[Any]) -> None:
    """Raise `NotHUError` where many values exceed those of any body: wrong sign or byte order.

    Bone ends near 2000 HU; metal is higher, but rare.
    """
    share = float(np.mean(hu > HIGHEST_HU))
    if share > MOST_ABOVE:
        raise NotHUError(
            f"{100 * share:.0f} % of the values are above {HIGHEST_HU} HU; sign, byte order or "
            "rescale must be wrong; export the original CT"
        )


def clear_padding(array: Hu | Slabs) -> int | None:
    """Set the padding outside the field of view to air, where it is a constant other than air.

    Converters fill the corners outside the round field of view with 0 or another value, which would
    look like tissue. Tissue has noise: a constant in all four corners of all slices is padding.

    Returns
    -------
    int or None
        The constant that was replaced, if any.
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
"""Least share of the usual area of tissue; even a neck has four times as much."""


def check_blanks(
    array: npt.NDArray[np.int16] | Slabs, names: Sequence[str] | None = None, axis: int = 0
) -> list[Flag]:
    """Check for blank slices.

    Parameters
    ----------
    array : ndarray or Slabs
        HU.
    names : sequence of str, optional
        Of the slices, for messages; else they are numbered.
    axis : int
        Axis of the slices, along the body.

    Returns
    -------
    list of Flag
        `blank_slices` where the first or last slices are constant.

    Raises
    ------
    MissingSlicesError
        Slices between those of the body are constant, or hold hardly any tissue.
    """
    small = thinned(array, axis)
    small = small.reshape(len(small), -1)
    constant = small.max(axis=1) == small.min(axis=1)
    tissue = np.count_nonzero(small > TISSUE_HU, axis=1)
    if constant.all():
        return []  # no chest at all: other checks raise
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
"""Neighbouring slices of real scans differ by less, in the median of soft tissue or air."""

ENDS, JUMP_AT_ENDS_HU = 3, 450.0
"""The first and last slices of a helical scan may be dark: reconstructed from part of a turn."""

LEAST_LIKENESS = 0.7
"""Least correlation of slices that show the same anatomy; independent of the rescale."""

LEAST_PIXELS = 50
BANDS = ((-1100, -850), (-200, 200))
"""Air, and soft tissue, in HU."""


def check_jumps(
    array: npt.NDArray[np.int16],
    names: Sequence[str] | None = None,
    rescales: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Raise `NotHUError` where HU jump between similar slices: a rescale that changes or is lost.

    Air, or soft tissue, of one slice is so in the next, except at edges. A median that moves up in
    one direction and down in the other is a change of the grey values.

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
    # The effect of a wrong slope depends on the tissue: levels need not return exactly.
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
    """Estimate the change of the grey values between two slices; 0 up to `JUMP_HU` / 2.

    Parameters
    ----------
    a, b : ndarray, shape (rows, columns)
        HU of neighbouring slices.
    """
    there, back = _moves(a, b), _moves(b, a)
    # Growing or shrinking anatomy moves the median in one direction only.
    found = [
        (f - g) / 2
        for f, g in zip(there, back, strict=True)
        if f is not None and g is not None and f * g < 0 and min(abs(f), abs(g)) > JUMP_HU / 2
    ]
    found += [f for f, g in zip(there, back, strict=True) if f is not None and g is None]
    found += [-g for f, g in zip(there, back, strict=True) if f is None and g is not None]
    jump = max(found, key=abs, default=0.0)
    return jump if jump and _are_alike(a, b) else 0.0


def _are_alike(a: npt.NDArray[np.int16], b: npt.NDArray[np.int16]) -> bool:
    """Whether two slices show the same anatomy."""
    x, y = a.ravel().astype(np.float32), b.ravel().astype(np.float32)
    return bool(min(x.std(), y.std()) >= 1 and np.corrcoef(x, y)[0, 1] >= LEAST_LIKENESS)


def _moves(x: npt.NDArray[np.int16], y: npt.NDArray[np.int16]) -> list[float | None]:
    """Median change of the air, and of the soft tissue, of `x`; None where there is too little.

    0 where it is at most `JUMP_HU` / 2: less than half of the voxels change by more, and the
    median, which costs as much as all the rest, is not needed.

    Voxels at the bottom of the scale are left out: the edge of a resampled image may run through
    the body, and is no change of the grey values.
    """
    moves: list[float | None] = []
    measured = (x > AIR_HU) & (y > AIR_HU)
    change = np.subtract(y, x, dtype=np.result_type(x, np.int32))
    far = np.abs(change) > int(JUMP_HU / 2)  # whole numbers: no conversion to float64
    for low, high in BANDS:
        inside = measured & (x >= low) & (x <= high)
        count = np.count_nonzero(inside)
        if count < max(LEAST_PIXELS, 0.01 * x.size):
            moves.append(None)
        elif 2 * np.count_nonzero(inside & far) < count:
            moves.append(0.0)
        else:
            moves.append(float(np.median(change[inside])))
    return moves


def _bounds(count: int, rescales: Sequence[tuple[float, float]] | None) -> npt.NDArray[np.float64]:
    """Largest jump allowed for each pair of neighbours, in HU."""
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
