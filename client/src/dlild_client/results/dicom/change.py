"""DICOM SR of a comparison: TID 1500, with references to all its scans and their SEG and SR.

The report lies in the study of the last scan. For the lungs, each class and each zone there is one
group of measurements a scan, with its time point, and one of the change from the first scan to the
last; they share a tracking identifier. The groups of a class name its segment in the SEG of their
scan.

References
----------
.. [1] DICOM PS3.16, TID 1500, 1411, 1501 and 1502.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dlild_client.errors import NotComparableError, UnreadableFileError
from dlild_client.reading.dicom.dicomlib import quiet
from dlild_client.results.compare import Comparison, Difference, Pair, Slope, zone_percent
from dlild_client.results.dicom import codes
from dlild_client.results.dicom.codes import coded, private
from dlild_client.results.dicom.common import NOTICE, finish, reference_datasets
from dlild_client.results.dicom.content import (
    algorithm_id,
    evaluation,
    lung_site,
    make_content,
    make_document,
    number,
    reference,
    repeatability,
    text,
    zone_site,
)
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.identity import strip_identity
from dlild_client.results.dicom.objects import check_references
from dlild_client.results.dicom.report import OBJECT, SERIES
from dlild_client.results.dicom.segmentation import BINARY, SEG_CLASS, SEG_OBJECT, SEG_SERIES
from dlild_client.results.dicom.uids import derive_uid, object_uid, slice_names
from dlild_client.results.result import ModelUsed
from dlild_client.source import SourceSeries

SERIES_NUMBER = 9305
DESCRIPTION = "DL-ILD change (research use only)"
LAYOUT = "DL-ILD comparison layout 2"
"""Version of the contents of the report: another layout is another object, with other UIDs."""
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"
"""Comprehensive SR Storage."""


@dataclass(frozen=True)
class References:
    """UIDs that the report names of one scan: those of the objects of its result.

    Attributes
    ----------
    series : str
        UID of the series that was scored.
    seg, report : tuple of str
        Series and object, of SEG and SR.
    """

    series: str
    seg: tuple[str, str]
    report: tuple[str, str]


@dataclass(frozen=True)
class _Scan:
    """One scan of a comparison: its figures, and what is referred to."""

    document: Mapping[str, Any]
    references: References
    order: int
    days: float | None


def make_change_report(
    comparison: Comparison, sources: Sequence[SourceSeries], *, anonymous: bool = False
) -> Any:
    """Make the DICOM SR of a comparison.

    Parameters
    ----------
    comparison : Comparison
    sources : sequence of SourceSeries
        The series that were scored, in the order of the results.
    anonymous : bool
        Strip patient identity, and refer to the objects of results that were made so.

    Returns
    -------
    pydicom.Dataset
        Comprehensive SR Storage, in the study of the last scan. It refers to all slices of all
        series, and to SEG and SR of each, whose UIDs are derived, whether those were made or not.

    Raises
    ------
    BadSettingsError
        The extra is not installed.
    InputError
        The headers lack UIDs to refer to.
    NotComparableError
        The headers name different patients.
    UnreadableFileError
        A field of a result is missing or of a wrong type.
    """
    load_highdicom()
    for source in sources:
        check_references(source)
    _check_patient(sources)
    try:
        with quiet():
            return _report(comparison, _named(comparison, sources, anonymous=anonymous))
    except (KeyError, TypeError) as error:
        raise UnreadableFileError(
            f"a result lacks a field, or has one of a wrong type: {error}; score the scan again "
            "with this version"
        ) from None


def _check_patient(sources: Sequence[SourceSeries]) -> None:
    """Raise `NotComparableError` where two series name different patients."""
    named = {str(source.header.get("PatientID") or "").strip() for source in sources} - {""}
    if len(named) > 1:
        raise NotComparableError(
            "the scans name different patients (PatientID), so that an SR of them would be filed "
            "with one of two patients; give scans of one patient, or leave --sr out"
        )


def change_content(comparison: Comparison, references: Sequence[References]) -> Any:
    """Make the content of the report.

    Parameters
    ----------
    comparison : Comparison
    references : sequence of References
        In the order of the results.

    Returns
    -------
    pydicom.Dataset
        The root container.
    """
    scans = [
        _Scan(
            result.document,
            named,
            order=i + 1,
            days=None if comparison.days is None else comparison.days[i],
        )
        for i, (result, named) in enumerate(zip(comparison.results, references, strict=True))
    ]
    model = ModelUsed(**scans[-1].document["model"])
    total = comparison.total
    groups = [
        *_lungs(comparison, scans, model),
        *(group for name in total.classes for group in _class(comparison, scans, name)),
        *(group for name in total.zones for group in _zone(comparison, scans, name)),
    ]
    return make_content(model, groups, list(_notes(comparison, scans)))


def _named(
    comparison: Comparison, sources: Sequence[SourceSeries], *, anonymous: bool
) -> list[tuple[SourceSeries, References]]:
    """Return the headers that are shown of each scan, and the UIDs of its objects."""
    found = []
    for result, given in zip(comparison.results, sources, strict=True):
        document = result.document
        scan = document["series"].get("digest") or ""
        source = strip_identity(given, scan) if anonymous else given
        whole = (scan, document["model"]["weights_digest"], source)
        references = References(
            series=source.slices[0].series,
            seg=(object_uid(*whole, SEG_SERIES, BINARY), object_uid(*whole, SEG_OBJECT, BINARY)),
            report=(object_uid(*whole, SERIES), object_uid(*whole, OBJECT)),
        )
        found.append((source, references))
    return found


def _report(comparison: Comparison, named: Sequence[tuple[SourceSeries, References]]) -> Any:
    content = json.dumps(comparison.to_dict(), sort_keys=True)
    slices = [name for source, _ in named for name in slice_names(source)]
    uids = (
        derive_uid(LAYOUT, content, *slices, SERIES),
        derive_uid(LAYOUT, content, *slices, OBJECT),
    )
    last = comparison.results[-1].document
    dataset = make_document(
        ModelUsed(**last["model"]),
        change_content(comparison, [references for _, references in named]),
        # Patient and study are those of the first item of evidence.
        [item for source, references in reversed(named) for item in _evidence(source, references)],
        uids,
        SERIES_NUMBER,
    )
    return finish(dataset, named[-1][0], DESCRIPTION)


def _evidence(source: SourceSeries, references: References) -> Iterator[Any]:
    images = reference_datasets(source)
    yield from images
    yield reference(images[0], SEG_CLASS, references.seg)
    yield reference(images[0], SR_CLASS, references.report)


def _lungs(comparison: Comparison, scans: Sequence[_Scan], model: ModelUsed) -> Iterator[Any]:
    """Make the groups of the lungs: score of each scan, and its change."""
    sr = load_highdicom().sr
    shared = {"tracking_identifier": _tracking(scans, "lungs"), "finding_sites": lung_site()}
    for scan in scans:
        plain = scan.document
        yield sr.MeasurementsAndQualitativeEvaluations(
            **shared,
            time_point_context=_time_point(scan, len(scans)),
            algorithm_id=algorithm_id(model, {"weights": model.weights_digest}),
            measurements=[
                number(private("DLILD"), plain["dl_ild_percent"], "%"),
                number(coded(*codes.VOLUME), plain["lung_volume_ml"], "mL"),
                number(private("LESION-VOLUME"), plain["lesion_volume_ml"], "mL"),
                *([] if scan.days is None else [number(private("DAYS"), scan.days, "d")]),
            ],
        )
    total = comparison.total
    yield sr.MeasurementsAndQualitativeEvaluations(
        **shared,
        algorithm_id=algorithm_id(model, {"weights": model.weights_digest}),
        measurements=[
            *_difference("DLILD-CHANGE", total.score),
            *_noise(total),
            *_slope(comparison.slope),
        ],
        qualitative_evaluations=[
            *_verdicts(total.score),
            *([] if comparison.slope is None else [_verdict("SLOPE-NOISE", comparison.slope)]),
            *(evaluation(private("DIFFERS"), codes.differs_code(name)) for name in total.flags),
        ],
    )


def _class(comparison: Comparison, scans: Sequence[_Scan], name: str) -> Iterator[Any]:
    """Make the groups of a class: share and segment in each scan, and the change."""
    sr = load_highdicom().sr
    first = scans[0].document["classes"][name]
    shared = {
        "tracking_identifier": _tracking(scans, name),
        "finding_type": codes.code_in(first),
        "finding_category": codes.category_in(first),
        "finding_sites": lung_site(),
    }
    for scan in scans:
        figures = scan.document["classes"][name]
        measured = {
            "time_point_context": _time_point(scan, len(scans)),
            "measurements": [
                number(coded(*codes.VOLUME), figures["volume_ml"], "mL"),
                number(private("LUNG-PERCENT"), figures["percent_of_lung"], "%"),
            ],
        }
        if figures["volume_ml"] == 0:
            yield sr.MeasurementsAndQualitativeEvaluations(**shared, **measured)
            continue
        yield sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            **shared,
            **measured,
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=SEG_CLASS,
                sop_instance_uid=scan.references.seg[1],
                segment_number=figures["label"],
                source_series=sr.SourceSeriesForSegmentation(scan.references.series),
            ),
        )
    change = comparison.total.classes[name]
    yield sr.MeasurementsAndQualitativeEvaluations(
        **shared,
        measurements=_difference("LUNG-PCT-CHANGE", change),
        qualitative_evaluations=_verdicts(change),
    )


def _zone(comparison: Comparison, scans: Sequence[_Scan], zone: str) -> Iterator[Any]:
    """Make the groups of a zone: volumes and share of lesions in each scan, and the change."""
    sr = load_highdicom().sr
    shared = {"tracking_identifier": _tracking(scans, zone), "finding_sites": zone_site(zone)}
    for scan in scans:
        figures = scan.document["zones"][zone]
        yield sr.MeasurementsAndQualitativeEvaluations(
            **shared,
            time_point_context=_time_point(scan, len(scans)),
            measurements=[
                number(coded(*codes.VOLUME), figures["lung_ml"], "mL"),
                number(private("LESION-VOLUME"), figures["lesion_ml"], "mL"),
                *(
                    [number(private("ZONE-PERCENT"), round(zone_percent(figures), 6), "%")]
                    if figures["lung_ml"] > 0
                    else []
                ),
            ],
        )
    change = comparison.total.zones[zone]
    yield sr.MeasurementsAndQualitativeEvaluations(
        **shared,
        measurements=_difference("ZONE-PCT-CHANGE", change) or None,
        qualitative_evaluations=_verdicts(change),
    )


def _time_point(scan: _Scan, scans: int) -> Any:
    return load_highdicom().sr.TimePointContext(
        time_point=f"scan {scan.order} of {scans}", time_point_order=scan.order
    )


def _difference(name: str, change: Difference) -> list[Any]:
    if change.difference is None:
        return []
    return [number(private(name), round(change.difference, 6), "%")]


def _verdicts(change: Difference) -> list[Any]:
    sure = codes.YES if change.beyond_upper_bound else codes.NO
    return [_verdict("VERDICT", change), evaluation(private("BEYOND-UPPER"), coded(*sure))]


def _verdict(name: str, change: Difference | Slope) -> Any:
    return evaluation(private(name), private(codes.VERDICTS[change.verdict]))


def _noise(pair: Pair) -> list[Any]:
    """Make the measurements of the coefficient that the differences are held against."""
    if pair.noise is None:
        return []
    return repeatability(pair.noise.condition, asdict(pair.noise))


def _slope(slope: Slope | None) -> list[Any]:
    if slope is None:
        return []
    figures = [("SLOPE", slope.per_year), ("SLOPE-LOW", slope.low), ("SLOPE-HIGH", slope.high)]
    if slope.noise_per_year is not None:
        figures.append(("SLOPE-RC", slope.noise_per_year))
    return [number(private(name), round(value, 6), "%/a") for name, value in figures]


def _tracking(scans: Sequence[_Scan], what: str) -> Any:
    parts = [part for scan in scans for part in scan.references.report]
    uid = derive_uid("tracking", *parts, what)
    return load_highdicom().sr.TrackingIdentifier(uid=uid, identifier=f"DL-ILD {what}")


def _notes(comparison: Comparison, scans: Sequence[_Scan]) -> Iterable[Any]:
    """Texts of the report: notice, what differs, and each scan with its digests and SR."""
    sr = load_highdicom().sr
    yield text(private("NOTICE"), NOTICE)
    for name, values in comparison.total.flags.items():
        shown = ", ".join(f"{when} {_shown(value)}" for when, value in values.items())
        yield text(coded(*codes.COMMENT), f"{name}: {shown}")
    for scan in scans:
        provenance = scan.document.get("provenance") or {}
        if scan.document["series"].get("digest"):
            yield text(private("SCAN-DIGEST"), scan.document["series"]["digest"])
        if provenance.get("result"):
            yield text(private("RESULT-DIGEST"), provenance["result"])
        yield sr.CompositeContentItem(
            name=private("SCAN-REPORT"),
            referenced_sop_class_uid=SR_CLASS,
            referenced_sop_instance_uid=scan.references.report[1],
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
