"""All DICOM objects of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from dlild_client.errors import BadSettingsError, InputError
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.segmentation import LABELMAP, make_segmentation
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

KINDS = ("seg", "labelmap", "sr", "capture", "pdf")
"""What can be made: SEG (BINARY), SEG (LABELMAP), SR, Secondary Capture, Encapsulated PDF."""


def make_objects(
    result: Result,
    source: SourceSeries,
    *,
    kinds: Sequence[str] = ("seg", "sr", "capture"),
    summary: Image.Image | None = None,  # noqa: ARG001
    anonymous: bool = False,  # noqa: ARG001
) -> list[Any]:
    """Make the DICOM objects of a result.

    Parameters
    ----------
    result : Result
    source : SourceSeries
        Headers of the series that was scored.
    kinds : sequence of str
        Of `KINDS`.
    summary : Image, optional
        Picture of capture and PDF; default: `draw_overlay`.
    anonymous : bool
        Strip patient identity; UIDs of the source are replaced by derived ones.

    Returns
    -------
    list of pydicom.Dataset
        In the order of `kinds`, each with its file meta information. The SR refers to the SEG,
        whether that is among them or not.

    Raises
    ------
    BadSettingsError
        An unknown kind, or the extra is not installed.
    InputError
        The headers lack UIDs to refer to.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise BadSettingsError(f"no DICOM object {unknown[0]!r}; there are {', '.join(KINDS)}")
    load_highdicom()
    check_references(source)
    makers: Mapping[str, Callable[[], Any]] = {
        "seg": lambda: make_segmentation(result, source),
        "labelmap": lambda: make_segmentation(result, source, kind=LABELMAP),
    }
    return [makers[kind]() for kind in kinds]


def check_references(source: SourceSeries) -> None:
    """Raise `InputError` where the series lacks UIDs that its objects must refer to."""
    missing = [name for name in ("StudyInstanceUID",) if not source.header.get(name)]
    if any(not s.sop_instance or not s.sop_class for s in source.slices):
        missing.append("SOPInstanceUID")
    if any(not s.series for s in source.slices):
        missing.append("SeriesInstanceUID")
    if missing:
        raise InputError(
            f"the series lacks {', '.join(missing)}, to which SEG, SR, capture or PDF would refer; "
            "export it again, or leave these out"
        )
