"""DICOM SR of a result: TID 1500 "Measurement Report", Comprehensive SR.

One group of measurements for the lungs, one a class (with its segment), one a zone. Its content
follows from `result.json` and the UIDs of the SEG, so that `dlild verify` makes it again.

References
----------
.. [1] DICOM PS3.16, TID 1500, 1411 and 1501.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
    REPEATABILITY,
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
from dlild_client.results.dicom.segmentation import SEG_CLASS, segmentation_uids
from dlild_client.results.dicom.uids import derive_uid, result_uid
from dlild_client.results.result import ModelUsed, Result
from dlild_client.source import SourceSeries

SERIES_NUMBER = 9302
SERIES, OBJECT = "SR series", "SR"
"""What the UIDs of the report are derived from."""
DESCRIPTION = "DL-ILD measurements (research use only)"


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
    seg = segmentation_uids(result, source)
    with quiet():
        images = reference_datasets(source)
        dataset = make_document(
            result.model,
            report_content(result.to_dict(), seg[1], source.slices[0].series),
            [*images, reference(images[0], SEG_CLASS, seg)],
            (result_uid(result, source, SERIES), result_uid(result, source, OBJECT)),
            SERIES_NUMBER,
        )
    return finish(dataset, source, DESCRIPTION)


def report_content(document: Mapping[str, Any], seg: str, series: str) -> Any:
    """Make the content of the report.

    Parameters
    ----------
    document : mapping
        Fields of `result.json`.
    seg : str
        UID of the SEG.
    series : str
        UID of the series that was scored.

    Returns
    -------
    pydicom.Dataset
        The root container.
    """
    return make_content(
        ModelUsed(**document["model"]),
        [
            _lungs(document),
            *(_class(document, name, seg, series) for name in document["classes"]),
            *(_zone(document, zone) for zone in document["zones"]),
        ],
        list(_notes(document)),
    )


def _lungs(document: Mapping[str, Any]) -> Any:
    """Group of the lungs: score, volumes, densitometry, repeatability, flags."""
    measurements = [
        number(private("DLILD"), document["dl_ild_percent"], "%"),
        number(coded(*codes.VOLUME), document["lung_volume_ml"], "mL"),
        number(private("LESION-VOLUME"), document["lesion_volume_ml"], "mL"),
    ]
    density = document.get("densitometry")
    if density is not None:
        measurements += _density(density["lung"])
    known = document.get("repeatability") or {}
    for condition in REPEATABILITY:
        if condition in known:
            measurements += repeatability(condition, known[condition])
    return load_highdicom().sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(document, "lungs"),
        algorithm_id=_algorithm(document),
        finding_sites=lung_site(),
        measurements=measurements,
        qualitative_evaluations=[
            evaluation(private("FLAG"), codes.flag_code(flag)) for flag in document["flags"]
        ]
        or None,
    )


def _class(document: Mapping[str, Any], name: str, seg: str, series: str) -> Any:
    """Group of a class, with its segment."""
    sr = load_highdicom().sr
    figures = document["classes"][name]
    measurements = [
        number(coded(*codes.VOLUME), figures["volume_ml"], "mL"),
        number(private("LUNG-PERCENT"), figures["percent_of_lung"], "%"),
    ]
    if figures.get("certainty") is not None:
        measurements.append(number(private("CERTAINTY"), figures["certainty"], "1"))
    shared = {
        "tracking_identifier": _tracking(document, name),
        "finding_type": codes.code_in(figures),
        "algorithm_id": _algorithm(document),
        "finding_sites": lung_site(),
        "measurements": measurements,
    }
    if figures["volume_ml"] == 0:
        return sr.MeasurementsAndQualitativeEvaluations(**shared)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **shared,
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=SEG_CLASS,
            sop_instance_uid=seg,
            segment_number=figures["label"],
            source_series=sr.SourceSeriesForSegmentation(series),
        ),
        finding_category=codes.category_in(figures),
    )


def _zone(document: Mapping[str, Any], zone: str) -> Any:
    figures = document["zones"][zone]
    measurements = [
        number(coded(*codes.VOLUME), figures["lung_ml"], "mL"),
        number(private("LESION-VOLUME"), figures["lesion_ml"], "mL"),
    ]
    density = document.get("densitometry")
    if density is not None:
        measurements += _density(density["zones"][zone])
    return load_highdicom().sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(document, zone),
        algorithm_id=_algorithm(document),
        finding_sites=zone_site(zone),
        measurements=measurements,
    )


def _density(figures: Mapping[str, Any]) -> list[Any]:
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


def _tracking(document: Mapping[str, Any], what: str) -> Any:
    scan, weights = document["series"].get("digest") or "", document["model"]["weights_digest"]
    uid = derive_uid("tracking", scan, weights, what)
    return load_highdicom().sr.TrackingIdentifier(uid=uid, identifier=f"DL-ILD {what}")


def _algorithm(document: Mapping[str, Any]) -> Any:
    return algorithm_id(ModelUsed(**document["model"]), algorithm_parameters(document))


def _notes(document: Mapping[str, Any]) -> Iterable[Any]:
    """Texts of the report: notice, flags with their values, digests."""
    yield text(private("NOTICE"), NOTICE)
    known = document.get("flag_details") or {}
    for flag in document["flags"]:
        shown = known[flag]["text"] if flag in known else Flag(flag).text
        yield text(coded(*codes.COMMENT), f"{flag}: {shown}")
    if document["series"].get("digest"):
        yield text(private("SCAN-DIGEST"), document["series"]["digest"])
    if document["provenance"] is not None:
        yield text(private("RESULT-DIGEST"), document["provenance"]["result"])
