"""What all objects of a result share: equipment, algorithm, data set of the source."""

from __future__ import annotations

from typing import Any

from dlild_client import __version__
from dlild_client.reading.dicom.dicomlib import load_pydicom
from dlild_client.results.dicom.codes import coded
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import derive_uid
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

MANUFACTURER = "DL-ILD"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
NOTICE = "For research use only. Not a medical device."


def software_version() -> str:
    """Version of this client, as DICOM has it."""
    return f"dlild-client {__version__}"


def algorithm(result: Result) -> Any:
    """Algorithm identification: model, version, weights."""
    highdicom = load_highdicom()
    return highdicom.AlgorithmIdentificationSequence(
        name=result.contract.score.name,
        family=coded("123110", "DCM", "Artificial Intelligence"),
        version=f"{result.model.name} {result.model.version}",
        parameters={"weights": result.model.weights_digest},
    )


def light_dataset(source: SourceSeries) -> Any:
    """Make a data set of the first slice, as a single-frame CT image without pixels."""
    pydicom = load_pydicom()
    dataset = pydicom.Dataset()
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
    dataset.ImageOrientationPatient = [round(v, 10) for v in source.orientation]
    dataset.ImagePositionPatient = list(first.position_mm)
    dataset.PixelSpacing = list(source.pixel_spacing_mm)
    dataset.SliceThickness = first.thickness_mm
    return dataset
