"""What the images of a series are, by their headers: CT slices, or something to be set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlild_client.errors import MissingGeometry, NotCT, UnreadableFile
from dlild_client.flags import Flag
from dlild_client.reading.dicom.slices import SliceHeader

LOCALIZERS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"}
PROJECTIONS = {"MIP", "MINIP", "MIN_IP", "MPR_MIP", "MAX_IP", "MIN IP", "VRT", "3D", "SSD"}
CAPTURES = {"SCREEN SAVE", "SCREENSHOT", "SCREEN SHOT", "DOSE_INFO", "DOSE INFO", "PROTOCOL"}
MAPS = {
    "PERFUSION", "RCBF", "RCBV", "RMTT", "MTT", "TTP", "CBF", "CBV", "IODINE", "Z_EFF", "ZEFF",
    "EFFECTIVE_AN", "ELECTRON_DENSITY", "RHO_Z", "MATERIAL_SPECIFIC", "UNCERTAINTY",
}  # fmt: skip
REFORMATS = {"MPR", "REFORMATTED", "CURVED", "CSA MPR", "CPR", "RADIAL", "MPVR"}
CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"


def ct_images(group: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Flag]]:
    """Leave localizers and captures out of a series.

    Returns
    -------
    slices : list of SliceHeader
        CT images with pixels, at least one.
    flags : list of Flag
        What was left out.

    Raises
    ------
    NotCT
        Another modality; nothing but localizers or captures; projections or maps.
    UnreadableFile, MissingGeometry
        An image without pixels, or several frames without positions.
    """
    others = Counter(s.modality or "no modality" for s in group if s.modality != "CT")
    if others:
        kinds = "/".join(sorted(others))
        raise NotCT(f"{kinds}, not CT ({_describe(group)}); give a chest CT series")
    captures = [s for s in group if _is_capture(s)]
    localizers = [s for s in group if LOCALIZERS & set(s.image_type)]
    left_out = {id(s) for s in (*captures, *localizers)}
    slices = [s for s in group if id(s) not in left_out]
    if not slices and captures:
        raise NotCT(
            f"a secondary capture ({_count(group, 'image')}), not the CT itself; give the axial "
            "series"
        )
    if not slices:
        raise NotCT(
            f"a localizer ({_count(group, 'image')}), not a chest CT; give the axial series"
        )
    _check_kind(slices)
    flags = []
    if localizers:
        flags.append(Flag("localizer_images_dropped", images=len(localizers)))
    if captures:
        flags.append(Flag("captures_dropped", images=len(captures)))
    return slices, flags


def _is_capture(s: SliceHeader) -> bool:
    return s.sop_class.startswith(CAPTURE_CLASS) or bool(CAPTURES & set(s.image_type))


def _check_kind(slices: Sequence[SliceHeader]) -> None:
    for words, what in ((PROJECTIONS, "a projection"), (MAPS, "a map")):
        found = sorted({w for s in slices for w in words & set(s.image_type)})
        if found:
            raise NotCT(
                f"{what} ({'/'.join(found)}, {_count(slices, 'image')}), not HU of slices; give "
                "the axial series"
            )
    for s in slices:
        if not s.has_pixels:
            raise UnreadableFile(f"{s.name}: no pixel data; export the series again")
        if s.pixels.frames > 1 and s.position is None:
            raise MissingGeometry(
                f"{s.source.name}: {s.pixels.frames} frames in one file without positions; export "
                "it as Enhanced CT or as single slices"
            )


def why_reformat(
    slices: Sequence[SliceHeader], normal: npt.NDArray[np.float64], *, axial: bool
) -> NotCT | None:
    """Say why a reformat is not scored of its own accord; None for an original stack.

    Parameters
    ----------
    slices : sequence of SliceHeader
    normal : ndarray, shape (3,)
        Of the slices, in patient coordinates.
    axial : bool
        Whether the normal runs along the body.
    """
    words = sorted({w for s in slices for w in REFORMATS & set(s.image_type)})
    derived = any(s.image_type[:1] == ("DERIVED",) for s in slices)
    if not words and (axial or not derived):
        return None
    view = "axial" if axial else "coronal" if abs(normal[1]) > abs(normal[0]) else "sagittal"
    kind = f", {'/'.join(words)}" if words else ""
    article = "an" if axial else "a"
    return NotCT(
        f"{article} {view} reformat ({_count(slices, 'slice')}{kind}); give the original axial "
        "series, or ask for this one by its UID"
    )


def _describe(group: Sequence[SliceHeader]) -> str:
    """Count images and orientations, for a message."""
    known = {tuple(round(v, 2) for v in s.orientation) for s in group if s.orientation is not None}
    text = _count(group, "image")
    return f"{text} in {len(known)} orientations" if len(known) > 1 else text


def _count(group: Sequence[SliceHeader], noun: str) -> str:
    return f"{len(group)} {noun}{'' if len(group) == 1 else 's'}"
