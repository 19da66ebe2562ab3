"""DICOM SR of a result: TID 1500 "Measurement Report", Comprehensive SR.

One group of measurements for the lungs, one a class (with its segment), one a zone.

References
----------
.. [1] DICOM PS3.16, TID 1500, 1411 and 1501.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dlild_client.contract.schema import LabelClass, RepeatabilityCoefficient
from dlild_client.flags import Flag
from dlild_client.reading.dicom.dicomlib import quiet
from dlild_client.results.densitometry import PERCENTILES
from dlild_client.results.dicom import codes
from dlild_client.results.dicom.codes import coded, private
from dlild_client.results.dicom.common import (
    MANUFACTURER,
    NOTICE,
    algorithm_parameters,
    finish,
    reference_datasets,
    software_version,
)
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.segmentation import SEG_CLASS, segmentation_uids
from dlild_client.results.dicom.uids import derive_uid, result_uid
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

SERIES_NUMBER = 9302

Code = tuple[str, str, str]


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
    highdicom = load_highdicom()
    sr = highdicom.sr
    plain = result.to_dict()
    with quiet():
        measurements = [
            _lungs(result, plain),
            *(_class(result, plain, kind, source) for kind in result.contract.classes if kind.lung),
            *(_zone(result, plain, zone) for zone in plain["zones"]),
        ]
        content = sr.MeasurementReport(
            observation_context=_observer(result),
            procedure_reported=coded(*codes.CT_OF_CHEST),
            imaging_measurements=measurements,
            title=sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        )
        content[0].ContentSequence.extend(_notes(result, plain))
        images = reference_datasets(source)
        dataset = sr.ComprehensiveSR(
            evidence=[*images, _segmentation_reference(result, source, images[0])],
            content=content[0],
            series_instance_uid=result_uid(result, source, "SR series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=result_uid(result, source, "SR"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=result.contract.model.name,
            software_versions=software_version(),
            device_serial_number=result.model.weights_digest.removeprefix("sha256:")[:16],
            is_complete=True,
        )
    return finish(dataset, source, "DL-ILD measurements (research use only)")


def _observer(result: Result) -> Any:
    sr = load_highdicom().sr
    uid = derive_uid("device", result.model.weights_digest)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid,
        name=result.contract.score.name,
        manufacturer_name=MANUFACTURER,
        model_name=f"{result.model.name} {result.model.version}",
    )
    context = sr.ObserverContext(
        observer_type=coded("121007", "DCM", "Device"), observer_identifying_attributes=device
    )
    return sr.ObservationContext(observer_device_context=context)


def _lungs(result: Result, plain: dict[str, Any]) -> Any:
    """Group of the lungs: score, volumes, densitometry, repeatability, flags."""
    sr = load_highdicom().sr
    measurements = [
        _number(private("DLILD"), plain["dl_ild_percent"], "%"),
        _number(coded(*codes.VOLUME), plain["lung_volume_ml"], "mL"),
        _number(private("LESION-VOLUME"), plain["lesion_volume_ml"], "mL"),
    ]
    if result.densitometry is not None:
        measurements += _density(plain["densitometry"]["lung"])
    spec = result.contract.score.repeatability
    if spec is not None:
        measurements += _repeatability("RC-SAME", spec.same_protocol)
        measurements += _repeatability("RC-ALL", spec.all_changes)
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, "lungs"),
        algorithm_id=_algorithm(result),
        finding_sites=[sr.FindingSite(anatomic_location=coded(*codes.LUNG))],
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(name=private("FLAG"), value=codes.flag_code(flag))
            for flag in result.flags
        ]
        or None,
    )


def _class(result: Result, plain: dict[str, Any], kind: LabelClass, source: SourceSeries) -> Any:
    """Group of a class, with its segment."""
    sr = load_highdicom().sr
    figures = plain["classes"][kind.name]
    measurements = [
        _number(coded(*codes.VOLUME), figures["volume_ml"], "mL"),
        _number(private("LUNG-PERCENT"), figures["percent_of_lung"], "%"),
    ]
    if figures["certainty"] is not None:
        measurements.append(_number(private("CERTAINTY"), figures["certainty"], "1"))
    if not result.labels.array.any() or figures["volume_ml"] == 0:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(result, kind.name),
            finding_type=codes.code_of(kind),
            algorithm_id=_algorithm(result),
            finding_sites=[sr.FindingSite(anatomic_location=coded(*codes.LUNG))],
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
        finding_sites=[sr.FindingSite(anatomic_location=coded(*codes.LUNG))],
        measurements=measurements,
    )


def _zone(result: Result, plain: dict[str, Any], zone: str) -> Any:
    sr = load_highdicom().sr
    figures = plain["zones"][zone]
    side, third = zone.split("_")
    site = sr.FindingSite(
        anatomic_location=coded(*codes.THIRDS[third]), laterality=coded(*codes.SIDES[side])
    )
    measurements = [
        _number(coded(*codes.VOLUME), figures["lung_ml"], "mL"),
        _number(private("LESION-VOLUME"), figures["lesion_ml"], "mL"),
    ]
    if result.densitometry is not None:
        measurements += _density(plain["densitometry"]["zones"][zone])
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(result, zone),
        algorithm_id=_algorithm(result),
        finding_sites=[site],
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
        _number(name, value, unit, derivation)
        for name, value, unit, derivation in rows
        if value is not None
    ]


def _repeatability(name: str, figures: RepeatabilityCoefficient) -> list[Any]:
    return [
        _number(private(name), figures.coefficient, "%"),
        _number(private(f"{name}-LOW"), figures.low, "%"),
        _number(private(f"{name}-HIGH"), figures.high, "%"),
    ]


def _number(name: Any, value: float, unit: str, derivation: Code | None = None) -> Any:
    return load_highdicom().sr.Measurement(
        name=name,
        value=value,
        unit=coded(*codes.UNITS[unit]),
        derivation=None if derivation is None else coded(*derivation),
    )


def _tracking(result: Result, what: str) -> Any:
    uid = derive_uid("tracking", result.series.digest or "", result.model.weights_digest, what)
    return load_highdicom().sr.TrackingIdentifier(uid=uid, identifier=f"DL-ILD {what}")


def _algorithm(result: Result) -> Any:
    return load_highdicom().sr.AlgorithmIdentification(
        name=result.contract.score.name,
        version=f"{result.model.name} {result.model.version}",
        parameters=[f"{name}={value}" for name, value in algorithm_parameters(result).items()],
    )


def _notes(result: Result, plain: dict[str, Any]) -> Iterable[Any]:
    """Texts of the report: notice, flags with their values, digests."""
    sr = load_highdicom().sr

    def text(name: Any, value: str) -> Any:
        return sr.TextContentItem(
            name=name, value=value, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )

    yield text(private("NOTICE"), NOTICE)
    for flag in result.flags:
        shown = flag if isinstance(flag, Flag) else Flag(flag)
        yield text(coded(*codes.COMMENT), f"{shown}: {shown.text}")
    if result.series.digest:
        yield text(private("SCAN-DIGEST"), result.series.digest)
    if plain["provenance"] is not None:
        yield text(private("RESULT-DIGEST"), plain["provenance"]["result"])


def _segmentation_reference(result: Result, source: SourceSeries, image: Any) -> Any:
    """Make a data set that stands for the SEG as evidence."""
    reference = type(image)()
    for name in ("StudyInstanceUID", "PatientID"):
        reference[name] = image[name]
    series, instance = segmentation_uids(result, source)
    reference.SOPClassUID, reference.SOPInstanceUID = SEG_CLASS, instance
    reference.SeriesInstanceUID = series
    return reference
