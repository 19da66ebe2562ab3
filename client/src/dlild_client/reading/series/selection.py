"""Selects the series to score: candidates, the choice among them, and repeated slices.

Slices at one position may be copies of one image, or images that differ. Only the pixels show
which, so they are compared before a series is chosen; where they differ, the next candidate is
tried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from dlild_client.errors import (
    GeometryError,
    InputError,
    NoSeriesError,
    NotCTError,
    RepeatedPositionError,
    SeveralStudiesError,
    TooFewSlicesError,
    UnreadableFileError,
)
from dlild_client.flags import Flag
from dlild_client.reading.dicom.decode import check_size, read_stored
from dlild_client.reading.dicom.headers import HeaderScan
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.candidates import Candidate, SeriesRules, check_coverage
from dlild_client.reading.series.ranking import rank
from dlild_client.reading.series.splitting import assess


@dataclass(frozen=True)
class SetAside:
    """A series that is not scored, the reason, and its candidate where it can be selected."""

    slices: tuple[SliceHeader, ...]
    reason: InputError
    candidate: Candidate | None = None


@dataclass(frozen=True)
class Assessment:
    """Candidates, the best first, and the series set aside."""

    candidates: tuple[Candidate, ...]
    others: tuple[SetAside, ...]


def assess_series(headers: Sequence[SliceHeader], rules: SeriesRules) -> Assessment:
    """Sort the series into candidates, ranked, and those set aside, with the reason."""
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[header.series].append(header)
    found: list[Candidate] = []
    others: list[SetAside] = []
    for group in groups.values():
        try:
            found += assess(group, rules)
        except InputError as reason:
            others.append(SetAside(tuple(group), reason))
    joined, others = _join(others, rules)
    found += joined
    asked = [(c, c.only_if_asked) for c in found if c.only_if_asked is not None]
    others += [SetAside(c.slices, why, c) for c, why in asked]
    candidates = [c for c in found if c.only_if_asked is None]
    return Assessment(tuple(rank(candidates, rules)), tuple(others))


def _join(others: list[SetAside], rules: SeriesRules) -> tuple[list[Candidate], list[SetAside]]:
    """Join series that are too short by themselves.

    Some archives and converters assign every slice its own series UID.

    Returns
    -------
    candidates : list of Candidate
    others : list of SetAside
        Series still set aside.
    """
    studies: dict[str, list[SetAside]] = defaultdict(list)
    for other in others:
        if isinstance(other.reason, TooFewSlicesError) and len(other.slices) < rules.minimum_slices:
            studies[other.slices[0].study].append(other)
    joined: list[Candidate] = []
    for fragments in studies.values():
        slices = [s for fragment in fragments for s in fragment.slices]
        if len(fragments) < 2 or len(slices) < rules.minimum_slices:
            continue
        with suppress(InputError):
            joined += [_as_joined(c) for c in assess(slices, rules)]
    used = {s.series for c in joined for s in c.images}
    return joined, [o for o in others if o.slices[0].series not in used]


def _as_joined(candidate: Candidate) -> Candidate:
    series = len({s.series for s in candidate.slices})
    return replace(candidate, flags=(*candidate.flags, Flag("series_joined", series=series)))


def choose(
    assessment: Assessment, series: str | None, scan: HeaderScan, name: str = ""
) -> Candidate:
    """Select the series to score.

    Parameters
    ----------
    assessment : Assessment
    series : str or None
        UID or number of the series that the user selects.
    scan : HeaderScan
        Unreadable files, for messages.
    name : str
        Base name of the folder or archive, for messages.

    Raises
    ------
    NoSeriesError
        No DICOM image at all, or none with this UID.
    SeveralStudiesError
        Series of two studies or patients could be scored.
    InputError
        The reason of the series that came closest to a chest CT.
    """
    where = f"{name}: " if name else ""
    if not scan.headers and scan.unreadable:
        raise UnreadableFileError(
            f"{where}{len(scan.unreadable)} DICOM file(s), none of which can be read "
            f"({scan.unreadable[0]}); copy or export the series again"
        )
    if not scan.headers and name.lower().endswith(".zip"):
        raise NoSeriesError(
            f"{where}no DICOM image in this archive; unpack it where it holds image files or other "
            "archives, and give those"
        )
    if not scan.headers:
        raise NoSeriesError(
            f"{where}no DICOM image; give the folder of a chest CT series, or a NIfTI file"
        )
    if series is not None:
        return _asked_for(assessment, series, where)
    if not assessment.candidates:
        raise _why_none(assessment.others, scan.unreadable)
    studies = {c.slices[0].study for c in assessment.candidates}
    if len(studies) > 1:
        if len({c.slices[0].series_uid for c in assessment.candidates} - {""}) == 1:
            raise SeveralStudiesError(
                f"{where}slices of {len(studies)} patient IDs or studies under one series UID; "
                "give those of one, or export the series again"
            )
        raise SeveralStudiesError(
            f"{where}chest CT series of {len(studies)} different studies; give one study, or the "
            "UID of one series"
        )
    return assessment.candidates[0]


def _asked_for(assessment: Assessment, series: str, where: str) -> Candidate:
    """Find the series with a UID, or with a number if it is unique."""

    def matches(slices: Sequence[SliceHeader]) -> bool:
        return any(series in {s.series_uid, str(s.series_number)} for s in slices)

    fitting = [c for c in assessment.candidates if matches(c.slices)]
    asides = [o for o in assessment.others if matches(o.slices)]
    if not fitting and not asides:
        count = len({first.series for first in _firsts(assessment)})
        raise NoSeriesError(
            f"{where}none of {count} series has this UID or number; list them with `dlild series`"
        )
    found = [c.slices[0] for c in fitting] + [o.slices[0] for o in asides]
    if len({first.series for first in found}) > 1:
        raise NoSeriesError(f"{where}several series have the number {series}; give the UID of one")
    if fitting:
        return fitting[0]
    if asides[0].candidate is not None:
        return asides[0].candidate
    raise asides[0].reason


def _firsts(assessment: Assessment) -> list[SliceHeader]:
    """First slice of every series."""
    return [c.slices[0] for c in assessment.candidates] + [o.slices[0] for o in assessment.others]


def _why_none(others: Sequence[SetAside], unreadable: Sequence[str]) -> InputError:
    """Error of the series that came closest to a chest CT, with the number of the others."""

    def nearness(item: SetAside) -> tuple[int, int]:
        trivial = isinstance(item.reason, NotCTError | UnreadableFileError)
        return (1 if trivial else 0, -len(item.slices))

    alone = [o for o in others if len(o.slices) == 1 and isinstance(o.reason, TooFewSlicesError)]
    if len(alone) >= SeriesRules.minimum_slices and len(alone) > len(others) / 2:
        studies = len({o.slices[0].study for o in alone})
        return TooFewSlicesError(
            f"{len(alone)} CT images, each a series of its own, of {studies} patients or studies, "
            "that do not make one scan; export the scan as one series"
        )
    nearest = min(others, key=nearness)
    lost = ""
    if unreadable and isinstance(nearest.reason, GeometryError):
        lost = f" ({len(unreadable)} file(s) cannot be read, the first {unreadable[0]})"
    rest = len(others) - 1
    if not rest and not lost:
        return nearest.reason
    text = f"none of {len(others)} series can be scored; the nearest: " if rest else ""
    return type(nearest.reason)(f"{text}{nearest.reason}{lost}")


@dataclass(frozen=True)
class Settled:
    """The selected series, or the error that there is none.

    Attributes
    ----------
    chosen : Candidate or None
    assessment : Assessment
        Including the candidates set aside since.
    error : InputError or None
        As of `choose`; `RepeatedPositionError` where images at one position differ and nothing else
        can be scored.
    """

    chosen: Candidate | None
    assessment: Assessment
    error: InputError | None = None


def settle(
    assessment: Assessment,
    rules: SeriesRules,
    scan: HeaderScan,
    series: str | None = None,
    name: str = "",
) -> Settled:
    """Select the best series within the size bounds whose repeated slices are copies.

    Parameters
    ----------
    assessment, scan, series, name
        As of `choose`.
    rules : SeriesRules

    Returns
    -------
    Settled
    """
    while True:
        try:
            chosen = choose(assessment, series, scan, name)
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
    """Move a candidate to those set aside, with the reason."""
    others = tuple(o for o in assessment.others if o.candidate is not chosen)
    return replace(
        assessment,
        candidates=tuple(c for c in assessment.candidates if c is not chosen),
        others=(*others, SetAside(chosen.images, reason)),
    )


def _check_repeats(chosen: Candidate) -> None:
    """Raise `RepeatedPositionError` unless slices at one position are the same image."""
    for kept, repeat in chosen.repeats:
        if not _are_same(kept, repeat):
            count = len(chosen.repeats) + len(chosen.slices)
            assert kept.position is not None
            raise RepeatedPositionError(
                f"{count} images share {len(chosen.slices)} position(s): {kept.name} and "
                f"{repeat.name} differ at z = {kept.position[2]:.2f} mm; give one acquisition"
            )


def _are_same(a: SliceHeader, b: SliceHeader) -> bool:
    if (a.slope, a.intercept) != (b.slope, b.intercept):
        return False
    return bool(np.array_equal(read_stored(a), read_stored(b)))
