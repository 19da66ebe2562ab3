"""Classifies the images of a series by their headers: CT slices, or objects to set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlild_client.errors import MissingGeometryError, NotCTError, UnreadableFileError
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
STORAGE = "1.2.840.10008.5.1.4.1.1."
NO_IMAGES = {
    f"{STORAGE}9.": "waveform", f"{STORAGE}11.": "presentation state", f"{STORAGE}66": "SEG",
    f"{STORAGE}88.": "SR", f"{STORAGE}104.": "document", f"{STORAGE}481.": "RT",
}  # fmt: skip
"""SOP classes of objects that are not CT images, whatever their modality."""

PIXEL_FORMAT = {
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation",
}  # fmt: skip

SLICE, CAPTURED_SLICE, CAPTURE, LOCALIZER = "slice", "captured slice", "capture", "localizer"
NO_MODALITY = "no modality"


def ct_images(group: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Flag]]:
    """Select the CT slices of a series: drop other objects, localizers, captures, projections.

    Returns
    -------
    slices : list of SliceHeader
        CT images with pixels, at least one.
    flags : list of Flag
        What was dropped.

    Raises
    ------
    NotCTError
        Another modality; nothing but localizers or captures; projections or maps.
    UnreadableFileError, MissingGeometryError
        An image without pixels, or several frames without positions.
    """
    kinds = [_kind(s) for s in group]
    flags = []
    if SLICE not in kinds and CAPTURED_SLICE in kinds:
        kinds = [SLICE if kind == CAPTURED_SLICE else kind for kind in kinds]
        flags.append(Flag("secondary_capture_scored", images=kinds.count(SLICE)))
    slices = [s for s, kind in zip(group, kinds, strict=True) if kind == SLICE]
    if not slices:
        raise _why_none(group, Counter(kinds))
    _check_pixels(slices)
    left = Counter(kind for kind in kinds if kind != SLICE)
    captures = left.pop(CAPTURE, 0) + left.pop(CAPTURED_SLICE, 0)
    if localizers := left.pop(LOCALIZER, 0):
        flags.append(Flag("localizer_images_dropped", images=localizers))
    if captures:
        flags.append(Flag("captures_dropped", images=captures))
    if left:
        flags.append(
            Flag("other_objects_dropped", objects=left.total(), kinds="/".join(sorted(left)))
        )
    return slices, flags


def _kind(s: SliceHeader) -> str:
    """Classify an object: `SLICE`, or another kind."""
    words = set(s.image_type)
    if s.modality != "CT":
        return s.modality or NO_MODALITY
    if s.sop_class.startswith(tuple(NO_IMAGES)):
        return next(kind for root, kind in NO_IMAGES.items() if s.sop_class.startswith(root))
    for marks, kind in ((CAPTURES, CAPTURE), (LOCALIZERS, LOCALIZER)):
        if marks & words:
            return kind
    if found := (PROJECTIONS | MAPS) & words:
        return sorted(found)[0]
    return _kind_of_slice(s)


def _kind_of_slice(s: SliceHeader) -> str:
    if not s.sop_class.startswith(CAPTURE_CLASS):
        return SLICE
    return CAPTURED_SLICE if _has_ct_geometry(s) else CAPTURE


def _has_ct_geometry(s: SliceHeader) -> bool:
    """Whether a secondary capture has all attributes needed of a CT slice."""
    known = (s.position, s.orientation, s.pixel_spacing, s.slope, s.intercept)
    return None not in known and s.pixels.bits_stored > 8 and s.pixels.samples == 1


def _why_none(group: Sequence[SliceHeader], kinds: Counter[str]) -> NotCTError:
    """Error of a series without CT slices."""
    others = sorted({s.modality or NO_MODALITY for s in group if s.modality != "CT"})
    if others:
        return NotCTError(
            f"{'/'.join(others)}, not CT ({_describe(group)}); give a chest CT series"
        )
    count = _count(group, "image")
    if kinds[CAPTURE]:
        return NotCTError(
            f"a secondary capture ({count}), not the CT itself; give the axial series"
        )
    if kinds[LOCALIZER]:
        return NotCTError(f"a localizer ({count}), not a chest CT; give the axial series")
    found = {w for s in group for w in (PROJECTIONS | MAPS) & set(s.image_type)}
    what = "a projection" if found & PROJECTIONS else "a map" if found else "no image"
    shown = "/".join(sorted(found & PROJECTIONS or found or kinds))
    return NotCTError(f"{what} ({shown}, {count}), not HU of slices; give the axial series")


def _check_pixels(slices: Sequence[SliceHeader]) -> None:
    for s in slices:
        for name in PIXEL_FORMAT & set(s.unreadable):
            raise UnreadableFileError(
                f"{s.name}: no {name} in numbers, but '{s.unreadable[name]}'; export the series "
                "again"
            )
        if not s.has_pixels:
            raise UnreadableFileError(f"{s.name}: no pixel data; export the series again")
        if s.pixels.frames > 1 and s.position is None:
            raise MissingGeometryError(
                f"{s.source.name}: {s.pixels.frames} frames in one file without positions; export "
                "it as Enhanced CT or as single slices"
            )


def why_reformat(
    slices: Sequence[SliceHeader], normal: npt.NDArray[np.float64], *, axial: bool
) -> NotCTError | None:
    """Error of a reformat that was not selected by its UID; None for an original stack.

    Parameters
    ----------
    slices : sequence of SliceHeader
    normal : ndarray, shape (3,)
        Normal of the slices, in patient coordinates.
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
    return NotCTError(
        f"{article} {view} reformat ({_count(slices, 'slice')}{kind}); give the original axial "
        "series, or ask for this one by its UID"
    )


def _describe(group: Sequence[SliceHeader]) -> str:
    """Describe the number of images and orientations."""
    known = {tuple(round(v, 2) for v in s.orientation) for s in group if s.orientation is not None}
    text = _count(group, "image")
    return f"{text} in {len(known)} orientations" if len(known) > 1 else text


def _count(group: Sequence[SliceHeader], noun: str) -> str:
    return f"{len(group)} {noun}{'' if len(group) == 1 else 's'}"
