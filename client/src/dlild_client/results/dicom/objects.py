"""All DICOM objects of a result."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from PIL import Image

from dlild_client.errors import BadSettingsError, InputError
from dlild_client.results.dicom.capture import make_capture, make_pdf
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.identity import strip_identity
from dlild_client.results.dicom.report import make_report
from dlild_client.results.dicom.segmentation import LABELMAP, make_segmentation
from dlild_client.results.overlay import draw_overlay
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

KINDS = ("seg", "labelmap", "sr", "capture", "pdf")
"""What can be made: SEG (BINARY), SEG (LABELMAP), SR, Secondary Capture, Encapsulated PDF."""


def make_objects(
    result: Result,
    source: SourceSeries,
    *,
    kinds: Sequence[str] = ("seg", "sr", "capture"),
    summary: Image.Image | None = None,
    anonymous: bool = False,
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
    if anonymous:
        source = strip_identity(source, result.series.digest or "")
    picture = summary
    if picture is None and {"capture", "pdf"} & set(kinds):
        picture = draw_overlay(result)
    makers: Mapping[str, Callable[[], Any]] = {
        "seg": lambda: make_segmentation(result, source),
        "labelmap": lambda: make_segmentation(result, source, kind=LABELMAP),
        "sr": lambda: make_report(result, source),
        "capture": lambda: make_capture(result, source, cast(Image.Image, picture)),
        "pdf": lambda: make_pdf(result, source, cast(Image.Image, picture)),
    }
    with _no_collections():
        return [makers[kind]() for kind in kinds]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Pause the collector of reference cycles, where it is on.

    highdicom reads tables of half a million objects at its first use. All of them stay, and the
    collector looks through them again and again: a third of the time that the objects take.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


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
