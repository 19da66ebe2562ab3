"""Content items that the reports of a result and of a comparison share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlild_client.results.dicom import codes
from dlild_client.results.dicom.codes import Code, coded, private
from dlild_client.results.dicom.common import MANUFACTURER, serial_number, software_version
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import derive_uid
from dlild_client.results.result import ModelUsed

SCORE = codes.PRIVATE["DLILD"]


def number(name: Any, value: float, unit: str, derivation: Code | None = None) -> Any:
    """Make a measurement; `unit` is a key of `codes.UNITS`."""
    return load_highdicom().sr.Measurement(
        name=name,
        value=value,
        unit=coded(*codes.UNITS[unit]),
        derivation=None if derivation is None else coded(*derivation),
    )


REPEATABILITY = {"same_protocol": "RC-SAME", "all_changes": "RC-ALL"}
"""Code of the coefficient of each condition."""


def repeatability(condition: str, figures: Mapping[str, float]) -> list[Any]:
    """Make the measurements of a coefficient and its interval, as `result.json` has them."""
    name = REPEATABILITY[condition]
    return [
        number(private(name), figures["coefficient"], "%"),
        number(private(f"{name}-LOW"), figures["low"], "%"),
        number(private(f"{name}-HIGH"), figures["high"], "%"),
    ]


def evaluation(name: Any, value: Any) -> Any:
    """Make a qualitative evaluation."""
    return load_highdicom().sr.QualitativeEvaluation(name=name, value=value)


def text(name: Any, value: str) -> Any:
    """Make a text of the report."""
    sr = load_highdicom().sr
    return sr.TextContentItem(
        name=name, value=value, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )


def lung_site() -> list[Any]:
    """Make the finding site of the lungs."""
    return [load_highdicom().sr.FindingSite(anatomic_location=coded(*codes.LUNG))]


def zone_site(zone: str) -> list[Any]:
    """Make the finding site of a zone of `score.ZONES`."""
    side, third = zone.split("_")
    return [
        load_highdicom().sr.FindingSite(
            anatomic_location=coded(*codes.THIRDS[third]), laterality=coded(*codes.SIDES[side])
        )
    ]


def algorithm_id(model: ModelUsed, parameters: Mapping[str, str]) -> Any:
    """Make the algorithm identification of a group of measurements."""
    return load_highdicom().sr.AlgorithmIdentification(
        name=SCORE,
        version=f"{model.name} {model.version}",
        parameters=[f"{name}={value}" for name, value in parameters.items()],
    )


def observer(model: ModelUsed) -> Any:
    """Make the observation context: the device is the network, by the digest of its weights."""
    sr = load_highdicom().sr
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", model.weights_digest),
        name=SCORE,
        manufacturer_name=MANUFACTURER,
        model_name=f"{model.name} {model.version}",
    )
    context = sr.ObserverContext(
        observer_type=coded("121007", "DCM", "Device"), observer_identifying_attributes=device
    )
    return sr.ObservationContext(observer_device_context=context)


def make_content(model: ModelUsed, measurements: Sequence[Any], notes: Sequence[Any]) -> Any:
    """Make the content tree of a report, TID 1500.

    Parameters
    ----------
    model : ModelUsed
    measurements : sequence
        Groups of measurements.
    notes : sequence
        Texts of the report.

    Returns
    -------
    pydicom.Dataset
        The root container.
    """
    sr = load_highdicom().sr
    (root,) = sr.MeasurementReport(
        observation_context=observer(model),
        procedure_reported=coded(*codes.CT_OF_CHEST),
        imaging_measurements=measurements,
        title=sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    root.ContentSequence.extend(notes)
    return root


def make_document(
    model: ModelUsed,
    content: Any,
    evidence: Sequence[Any],
    uids: tuple[str, str],
    series_number: int,
) -> Any:
    """Make a Comprehensive SR of its content.

    Parameters
    ----------
    model : ModelUsed
    content : pydicom.Dataset
        From `make_content`.
    evidence : sequence of pydicom.Dataset
        Objects that it refers to; patient and study are those of the first.
    uids : tuple of str
        Of the series and of the object.
    series_number : int
    """
    return load_highdicom().sr.ComprehensiveSR(
        evidence=evidence,
        content=content,
        series_instance_uid=uids[0],
        series_number=series_number,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=model.name,
        software_versions=software_version(),
        device_serial_number=serial_number(model),
        is_complete=True,
    )


def reference(image: Any, sop_class: str, uids: tuple[str, str]) -> Any:
    """Make a data set that stands for an object in the study of an image, as evidence."""
    found = type(image)()
    for name in ("StudyInstanceUID", "PatientID"):
        found[name] = image[name]
    found.SOPClassUID, found.SeriesInstanceUID, found.SOPInstanceUID = sop_class, *uids
    return found
