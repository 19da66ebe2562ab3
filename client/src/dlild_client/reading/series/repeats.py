"""Slices at one position: copies of one image, or images that differ.

Only the pixels can tell, so they are looked at before a series is settled on. A series whose images
differ is set aside, and the next best is tried; so is one that is larger than any scan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dlild_client.errors import InputError, RepeatedPosition
from dlild_client.reading.dicom.decode import check_size, read_stored
from dlild_client.reading.dicom.headers import HeaderScan
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.candidates import Candidate, SeriesRules, check_coverage
from dlild_client.reading.series.selection import Assessment, SetAside, choose


@dataclass(frozen=True)
class Settled:
    """What is settled on: the chosen series, or the error that there is none.

    Attributes
    ----------
    chosen : Candidate or None
    assessment : Assessment
        With what had to be set aside on the way.
    error : InputError or None
        As of `dlild_client.reading.series.selection.choose`; `RepeatedPosition` where images at one
        position differ and nothing else can be scored.
    """

    chosen: Candidate | None
    assessment: Assessment
    error: InputError | None = None


def settle(
    assessment: Assessment,
    rules: SeriesRules,
    scan: HeaderScan,
    series: str | None = None,
    place: str = "",
) -> Settled:
    """Choose a series of bearable size, whose slices at one position are copies of one image.

    Parameters
    ----------
    assessment, scan, series, place
        As of `dlild_client.reading.series.selection.choose`.
    rules : SeriesRules

    Returns
    -------
    Settled
    """
    while True:
        try:
            chosen = choose(assessment, series, scan, place)
        except InputError as error:
            return Settled(None, assessment, error)
        try:
            check_size(chosen.slices)
            if chosen.repeats:
                _check_repeats(chosen)
                check_coverage(chosen, rules)
        except InputError as reason:
            assessment = without(assessment, chosen, reason)
        else:
            return Settled(chosen, assessment)


def without(assessment: Assessment, chosen: Candidate, reason: InputError) -> Assessment:
    """Set a candidate aside, with the reason."""
    others = tuple(o for o in assessment.others if o.candidate is not chosen)
    return replace(
        assessment,
        candidates=tuple(c for c in assessment.candidates if c is not chosen),
        others=(*others, SetAside(chosen.images, reason)),
    )


def _check_repeats(chosen: Candidate) -> None:
    """Raise `RepeatedPosition` unless slices at one position are the same image."""
    for kept, repeat in chosen.repeats:
        if not _are_same(kept, repeat):
            count = len(chosen.repeats) + len(chosen.slices)
            assert kept.position is not None
            raise RepeatedPosition(
                f"{count} images share {len(chosen.slices)} position(s): {kept.name} and "
                f"{repeat.name} differ at z = {kept.position[2]:.2f} mm; give one acquisition"
            )


def _are_same(a: SliceHeader, b: SliceHeader) -> bool:
    if (a.slope, a.intercept) != (b.slope, b.intercept):
        return False
    return bool(np.array_equal(read_stored(a), read_stored(b)))
