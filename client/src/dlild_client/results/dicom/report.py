"""DICOM SR of a result: TID 1500 "Measurement Report", Comprehensive SR.

One group of measurements for the lungs, one a class (with its segment), one a zone.

References
----------
.. [1] DICOM PS3.16, TID 1500, 1411 and 1501.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dlild_client.contract.schema import LabelClass
from dlild_client.flags import Flag
from dlild_client.reading.dicom.dicomlib import quiet
from dlild_client.results.densitometry import PERCENTILES
from dlild_client.results.dicom import codes
from dlild_client.results.dicom.codes import Code, coded, private
from dlild_client.results.dicom.common import (
    NOTICE,
    algorithm_parameters,
    finish,
    reference_datasets,
)
from dlild_client.results.dicom.content import (
    algorithm_id,
    evaluation,
    lung_site,
    make_document,
    number,
    reference,
    repeatability,
    text,
    zone_site,
)
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.segmentation import SEG_CLASS, segmentation_uids
from dlild_client.results.dicom.uids import derive_uid, result_uid
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

SERIES_NUMBER = 9302
SERIES, OBJECT = "SR series", "SR"
"""What the UIDs of the report are derived from."""


def make_report(result: Result, source: SourceSeries) -> Any:
    """Make the DICOM SR of a result.

    Parameters
    ----------
    result : Result
    source : SourceSeries
        The series that was scored.

    Returns
    -------
    pydicom.Dataset
        Comprehensive SR Storage. It refers to all slices of the series, and to the SEG, whose UIDs
        are derived, whether that was made or not.
    """
    plain = result.to_dict()
    with quiet():
        measurements = [
            _lungs(result, plain),
            *(_class(result, plain, kind, source) for kind in result.contract.classes if kind.lung),
            *(_zone(result, plain, zone) for zone in plain["zones"]),
        ]
        images = reference_datasets(source)
        dataset = make_document(
            result.model,
            measurements,
            list(_notes(result, plain)),
            [*images, reference(images[0], SEG_CLASS, segmentation_uids(result, source))],
            (result_uid(result, source, SERIES), result_uid(result, source, OBJECT)),
            SERIES_NUMBER,
        )
    return finish(dataset, source, "DL-ILD measurements (research use only)")


def _lungs(result: Result, plain: dict[str, Any]) -> Any:
    """Group of the lungs: score, volumes, densitometry, repeatability, flags."""
    measurements = [
        number(private("DLILD"), plain["dl_ild_percent"], "%"),
        number(coded(*codes.VOLUME), plain["lung_volume_ml"], "mL"),
        number(private("LESION-VOLUME"), plain["lesion_volume_ml"], "mL"),
    ]
    if result.densitometry is not None:
        measurements += _density(plain["densitometry"]["lung"])
    spec = result.contract.score.repeatability
    if spec is not None:
        measurements += repeatability("RC-SAME", spec.same_protocol)
        measurements += repeatability("RC-ALL", spec.all_changes)
    return load_highdicom().sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, "lungs"),
        algorithm_id=_algorithm(result),
        finding_sites=lung_site(),
        measurements=measurements,
        qualitative_evaluations=[
            evaluation(private("FLAG"), codes.flag_code(flag)) for flag in result.flags
        ]
        or None,
    )


def _class(result: Result, plain: dict[str, Any], kind: LabelClass, source: SourceSeries) -> Any:
    """Group of a class, with its segment."""
    sr = load_highdicom().sr
    figures = plain["classes"][kind.name]
    measurements = [
        number(coded(*codes.VOLUME), figures["volume_ml"], "mL"),
        number(private("LUNG-PERCENT"), figures["percent_of_lung"], "%"),
    ]
    if figures["certainty"] is not None:
        measurements.append(number(private("CERTAINTY"), figures["certainty"], "1"))
    if not result.labels.array.any() or figures["volume_ml"] == 0:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(result, kind.name),
            finding_type=codes.code_of(kind),
            algorithm_id=_algorithm(result),
            finding_sites=lung_site(),
            measurements=measurements,
        )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, kind.name),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=SEG_CLASS,
            sop_instance_uid=segmentation_uids(result, source)[1],
            segment_number=kind.label,
            source_series=sr.SourceSeriesForSegmentation(source.slices[0].series),
        ),
        finding_type=codes.code_of(kind),
        finding_category=codes.category_of(kind),
        algorithm_id=_algorithm(result),
        finding_sites=lung_site(),
        measurements=measurements,
    )


def _zone(result: Result, plain: dict[str, Any], zone: str) -> Any:
    figures = plain["zones"][zone]
    measurements = [
        number(coded(*codes.VOLUME), figures["lung_ml"], "mL"),
        number(private("LESION-VOLUME"), figures["lesion_ml"], "mL"),
    ]
    if result.densitometry is not None:
        measurements += _density(plain["densitometry"]["zones"][zone])
    return load_highdicom().sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, zone),
        algorithm_id=_algorithm(result),
        finding_sites=zone_site(zone),
        measurements=measurements,
    )


def _density(figures: dict[str, Any]) -> list[Any]:
    """Measurements of a `LungDensity`; none where it has no voxel."""
    percentiles = figures["percentiles_hu"]
    rows: list[tuple[Any, Any, str, Code | None]] = [
        (coded(*codes.MEAN_HU), figures["mean_hu"], "HU", None),
        (coded(*codes.SD_HU), figures["sd_hu"], "HU", None),
        (coded(*codes.MEDIAN_HU), percentiles["50"], "HU", None),
        (coded(*codes.ATTENUATION), figures["skewness"], "1", codes.SKEWNESS),
        (coded(*codes.ATTENUATION), figures["kurtosis"], "1", codes.KURTOSIS),
        *(
            (private(f"PERCENTILE-{q}"), percentiles[str(q)], "HU", None)
            for q in PERCENTILES
            if q != 50
        ),
        (private("HAA"), figures["high_attenuation_percent"], "%", None),
        (private("LAA-950"), figures["low_attenuation_percent"], "%", None),
        (coded(*codes.MASS), figures["mass_g"], "g", None),
    ]
    return [
        number(name, value, unit, derivation)
        for name, value, unit, derivation in rows
        if value is not None
    ]


def _tracking(result: Result, what: str) -> Any:
    uid = derive_uid("tracking", result.series.digest or "", result.model.weights_digest, what)
    return load_highdicom().sr.TrackingIdentifier(uid=uid, identifier=f"DL-ILD {what}")


def _algorithm(result: Result) -> Any:
    return algorithm_id(result.model, algorithm_parameters(result))


def _notes(result: Result, plain: dict[str, Any]) -> Iterable[Any]:
    """Texts of the report: notice, flags with their values, digests."""
    yield text(private("NOTICE"), NOTICE)
    for flag in result.flags:
        shown = flag if isinstance(flag, Flag) else Flag(flag)
        yield text(coded(*codes.COMMENT), f"{shown}: {shown.text}")
    if result.series.digest:
        yield text(private("SCAN-DIGEST"), result.series.digest)
    if plain["provenance"] is not None:
        yield text(private("RESULT-DIGEST"), plain["provenance"]["result"])
