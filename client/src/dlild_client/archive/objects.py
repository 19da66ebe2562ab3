"""The objects of a result that are sent to an archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlild_client.report import summary_page
from dlild_client.results.dicom.objects import make_objects
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

if TYPE_CHECKING:
    from pydicom import Dataset

SENT = ("seg", "sr", "capture")
"""Kinds that are sent by default."""


def objects_to_send(
    result: Result,
    source: SourceSeries,
    kinds: Sequence[str] = SENT,
    *,
    anonymous: bool = False,
) -> list[Dataset]:
    """Make the objects of a result, with the summary page as picture of capture and PDF.

    Raises
    ------
    DlildError
        As of `make_objects`.
    """
    pictured = bool({"capture", "pdf"} & set(kinds))
    return make_objects(
        result,
        source,
        kinds=kinds,
        summary=summary_page(result) if pictured else None,
        anonymous=anonymous,
    )
