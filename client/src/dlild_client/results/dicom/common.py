"""What all objects of a result share: equipment, algorithm, data sets of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlild_client import __version__
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.dicom.codes import AI, coded
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import derive_uid
from dlild_client.results.result import ModelUsed, Result
from dlild_client.source import SourceSeries

MANUFACTURER = "DL-ILD"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
NOTICE = "For research use only. Not a medical device."


def software_version() -> str:
    """Version of this client, as DICOM has it."""
    return f"dlild-client {__version__}"


def serial_number(model: ModelUsed) -> str:
    """Return the serial number of the device: the start of the digest of the weights."""
    return model.weights_digest.removeprefix("sha256:")[:16]


def algorithm_parameters(document: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of the algorithm: the digests that tie an object to weights and result."""
    found = {"weights": document["model"]["weights_digest"]}
    if document["provenance"] is not None:
        found["result"] = document["provenance"]["result"]
    return found


def algorithm(result: Result) -> Any:
    """Algorithm identification: model, version, digests."""
    return load_highdicom().AlgorithmIdentificationSequence(
        name=result.contract.score.name,
        family=coded(*AI),
        version=f"{result.model.name} {result.model.version}",
        parameters=algorithm_parameters(result.to_dict()),
    )


def light_dataset(source: SourceSeries) -> Any:
    """Make a data set of the first slice, as a single-frame CT image without pixels."""
    dataset = load_pydicom().Dataset()
    dataset.update(source.header)
    first = source.slices[0]
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE, first.sop_instance
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate",
                 "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName"):  # fmt: skip
        if name not in dataset:
            setattr(dataset, name, "")
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = derive_uid("frame of reference", first.series)
    dataset.Rows, dataset.Columns = source.shape
    for name, values in (
        ("ImageOrientationPatient", source.orientation),
        ("ImagePositionPatient", first.position_mm),
        ("PixelSpacing", source.pixel_spacing_mm),
    ):
        setattr(dataset, name, [decimal_string(value) for value in values])
    step = float(np.linalg.norm(np.diff(source.origins_mm, axis=0), axis=1).mean())
    dataset.SliceThickness = decimal_string(first.thickness_mm or step)
    return dataset


def decimal_string(value: float) -> str:
    """Write a number as DS: at most 16 characters, as exact as they allow."""
    shown = repr(float(value)).removesuffix(".0")
    digits = 16
    while len(shown) > 16:
        digits -= 1
        shown = f"{value:.{digits}g}"
    return shown


def reference_datasets(source: SourceSeries) -> list[Any]:
    """Make a data set of each object of the series, with what a reference needs."""
    first = light_dataset(source)
    found: dict[str, Any] = {}
    for s in source.slices:
        if s.sop_instance not in found:
            dataset = first.__class__() if found else first
            if found:
                dataset.StudyInstanceUID = first.StudyInstanceUID
                dataset.PatientID = first.PatientID
            dataset.SOPClassUID, dataset.SOPInstanceUID = s.sop_class, s.sop_instance
            dataset.SeriesInstanceUID = s.series
            found[s.sop_instance] = dataset
    return list(found.values())


def finish(dataset: Any, source: SourceSeries, description: str) -> Any:
    """Add what highdicom does not copy: age, size and weight of the patient, descriptions."""
    with quiet():
        dataset.SeriesDescription = description
        for name in ("PatientAge", "PatientSize", "PatientWeight", "StudyDescription",
                     "IssuerOfPatientID", "PatientIdentityRemoved",
                     "DeidentificationMethod"):  # fmt: skip
            if name in source.header and name not in dataset:
                dataset[name] = source.header[name]
    return dataset
