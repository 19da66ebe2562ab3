"""Survey of a path: every series, which one would be scored, and why not the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlild_client.errors import InputError, NoSeriesError
from dlild_client.reading.assemble import read_chosen
from dlild_client.reading.dicom.dicomlib import quiet
from dlild_client.reading.dicom.headers import HeaderScan, read_headers
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.files import check_path, list_sources
from dlild_client.reading.images.read import check_image, is_image_name
from dlild_client.reading.series.candidates import Candidate, SeriesRules
from dlild_client.reading.series.kernels import judge_kernel
from dlild_client.reading.series.selection import Settled, assess_series, settle, without


@dataclass(frozen=True)
class SeriesSummary:
    """One series of a path.

    Attributes
    ----------
    uid : str
        SeriesInstanceUID, to select it by.
    number : int or None
    study : str
        Digest of patient and study.
    modality, image_type, body_part, manufacturer, kernel : str
        As in the header; empty where missing.
    kernel_kind : str
        `lung`, `standard`, `unknown`, `soft` or `unusual`.
    contrast_agent : bool
        Whether the header names one.
    images : int
    thickness_mm, step_mm, coverage_mm : float or None
        None for a series that is not a volume.
    verdict : str
        `chosen`, `lower` (can be scored, ranks lower) or `aside`.
    reason : str
        One line: why.
    error : str
        `kind` of the error that keeps it from being scored, or empty.
    breath, posture : str
        From the header: `inspiration`, `expiration`; `supine`, `prone`, `lateral`; or empty.
    """

    uid: str
    number: int | None
    study: str
    modality: str
    image_type: str
    body_part: str
    manufacturer: str
    kernel: str
    kernel_kind: str
    contrast_agent: bool
    images: int
    thickness_mm: float | None
    step_mm: float | None
    coverage_mm: float | None
    verdict: str
    reason: str
    error: str = ""
    breath: str = ""
    posture: str = ""


@dataclass(frozen=True)
class SeriesSurvey:
    """All series of a path.

    Attributes
    ----------
    series : tuple of SeriesSummary
        The chosen one, then those that rank lower, then those set aside.
    error : InputError or None
        What `read_volume` would raise; None where a series is chosen.
    unreadable : int
        Files that look like DICOM and cannot be read.
    """

    series: tuple[SeriesSummary, ...]
    error: InputError | None
    unreadable: int = 0

    @property
    def chosen(self) -> SeriesSummary | None:
        """The series that would be scored."""
        return next((s for s in self.series if s.verdict == "chosen"), None)


def survey_series(
    path: str | os.PathLike[str], rules: SeriesRules | None = None, series: str | None = None
) -> SeriesSurvey:
    """List the series of a folder, an archive, a DICOMDIR or a DICOM file.

    Parameters
    ----------
    path : path
    rules : SeriesRules, optional
    series : str, optional
        As of `read_volume`.

    Returns
    -------
    SeriesSurvey

    Raises
    ------
    UnreadableFileError
        The path cannot be read.
    NoSeriesError
        The path is an image file with a valid header.
    InputError
        The header of an image file is invalid: as `read_volume`.
    """
    path = Path(path)
    check_path(path)
    if path.is_file() and is_image_name(path):
        check_image(path)
        raise NoSeriesError(
            f"{path.name}: an image file is one volume, without series to choose from; score it "
            "as it is"
        )
    rules = rules or SeriesRules()
    with list_sources(path) as listing, quiet():
        return summarise(read_headers(listing.sources), rules, series, path.name)


def summarise(
    scan: HeaderScan, rules: SeriesRules, series: str | None = None, name: str = ""
) -> SeriesSurvey:
    """Summarise every series and its verdict."""
    settled = settle(assess_series(scan.headers, rules), rules, scan, series, name)
    settled = _try_pixels(settled, scan)
    chosen, assessment = settled.chosen, settled.assessment
    summaries = [
        _summary(c.images, c, "chosen" if c is chosen else "lower", _why_lower(c, chosen))
        for c in sorted(assessment.candidates, key=lambda c: c is not chosen)
    ]
    for other in assessment.others:
        if other.candidate is not None and other.candidate is chosen:
            summaries.insert(0, _summary(other.slices, chosen, "chosen", "asked for"))
        else:
            kind = other.reason.kind
            summaries.append(
                _summary(other.slices, other.candidate, "aside", str(other.reason), kind)
            )
    return SeriesSurvey(tuple(summaries), settled.error, len(scan.unreadable))


def _try_pixels(settled: Settled, scan: HeaderScan) -> Settled:
    """Read the chosen series, so that the verdict agrees with `read_volume`."""
    if settled.chosen is None:
        return settled
    try:
        read_chosen(settled.chosen, [], scan)
    except InputError as error:
        return Settled(None, without(settled.assessment, settled.chosen, error), error)
    return settled


def _why_lower(candidate: Candidate, chosen: Candidate | None) -> str:
    """List the differences from the chosen series, in the order of the ranking."""
    if chosen is None:
        return "could be scored"
    if candidate is chosen:
        return "the best by the ranking"
    mine, best = candidate.slices[0], chosen.slices[0]
    differences = (
        ("coverage", f"{candidate.coverage_mm:.0f} mm", f"{chosen.coverage_mm:.0f} mm"),
        ("body part", mine.body_part or "none", best.body_part or "none"),
        ("breath", mine.breath or "unknown", best.breath or "unknown"),
        ("posture", mine.posture or "unknown", best.posture or "unknown"),
        ("axial", str(candidate.axial), str(chosen.axial)),
        ("thickness", f"{candidate.thickness_mm:.1f} mm", f"{chosen.thickness_mm:.1f} mm"),
        ("kernel", mine.kernel or "unknown", best.kernel or "unknown"),
        ("slices", str(len(candidate.slices)), str(len(chosen.slices))),
    )
    shown = [f"{what} {a}, chosen {b}" for what, a, b in differences if a != b]
    return f"ranks lower: {'; '.join(shown)}" if shown else "ranks lower by its number"


def _summary(
    slices: Sequence[SliceHeader],
    candidate: Candidate | None,
    verdict: str,
    reason: str,
    error: str = "",
) -> SeriesSummary:
    first = slices[0]
    return SeriesSummary(
        uid=first.series_uid,
        number=first.series_number,
        study=first.study,
        modality=first.modality,
        image_type="\\".join(first.image_type),
        body_part=first.body_part,
        manufacturer=first.manufacturer or "",
        kernel=first.kernel or "",
        kernel_kind=judge_kernel(first.kernel).name.lower(),
        contrast_agent=first.contrast_agent,
        images=len(slices),
        thickness_mm=first.slice_thickness_mm,
        step_mm=None if candidate is None else round(candidate.step_mm, 3),
        coverage_mm=None if candidate is None else round(candidate.coverage_mm, 1),
        verdict=verdict,
        reason=reason,
        error=error,
        breath=first.breath,
        posture=first.posture,
    )
