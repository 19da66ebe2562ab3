"""Doubts that headers and grey values raise when a scan is read.

What is seen of the lungs themselves, on the model grid, is in
`dlild_client.preparation.inspection`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import NotHU
from dlild_client.flags import Flag
from dlild_client.reading.dicom.hu import from_the_edges
from dlild_client.reading.dicom.protocol import EXPIRATION, LATERAL, PRONE
from dlild_client.reading.dicom.rescale import air_level
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
    """Raise `NotHU` unless there is something like lung or air, and something like tissue."""
    check_range(hu)
    air, tissue = (float(np.mean(part)) for part in (hu < -500, hu > -200))
    if air < 0.01 or tissue < 0.01:
        raise NotHU(
            f"values from {hu.min():g} to {hu.max():g} are not the HU of a chest "
            "(air near -1000, tissue above 0); give the CT in HU"
        )


def check_range(hu: npt.NDArray[Any]) -> None:
    """Raise `NotHU` where many values are far above those of any body: a wrong sign or byte order.

    Bone ends near 2000 HU. Metal reaches further, but fills no scan.
    """
    share = float(np.mean(hu > HIGHEST_HU))
    if share > MOST_ABOVE:
        raise NotHU(
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
