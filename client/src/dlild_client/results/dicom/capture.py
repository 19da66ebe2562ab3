"""Secondary Capture and Encapsulated PDF of the summary page: what every PACS shows."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import numpy as np
from PIL import Image

from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.dicom.common import (
    MANUFACTURER,
    NOTICE,
    finish,
    light_dataset,
    software_version,
)
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import pixels_digest, result_uid
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

CAPTURE_SERIES_NUMBER, PDF_SERIES_NUMBER = 9303, 9304
PDF_CLASS = "1.2.840.10008.5.1.4.1.1.104.1"
PDF_DPI = 150.0


def make_capture(result: Result, source: SourceSeries, picture: Image.Image) -> Any:
    """Make the Secondary Capture of a result.

    Parameters
    ----------
    result : Result
    source : SourceSeries
        The series that was scored.
    picture : Image

    Returns
    -------
    pydicom.Dataset
        Secondary Capture Image Storage, RGB, uncompressed.
    """
    highdicom = load_highdicom()
    with quiet():
        dataset = highdicom.sc.SCImage.from_ref_dataset(
            light_dataset(source),
            pixel_array=np.asarray(picture.convert("RGB")),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            series_instance_uid=result_uid(result, source, "capture series"),
            series_number=CAPTURE_SERIES_NUMBER,
            sop_instance_uid=result_uid(result, source, "capture"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=result.contract.model.name,
            software_versions=software_version(),
        )
        # A page, not a plane of the patient.
        dataset.PatientOrientation = ""
        dataset.Modality = "OT"
        dataset.Laterality = ""
        dataset.BurnedInAnnotation = "NO"
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.ImageComments = _comment(result, dataset.PixelData)
    return finish(dataset, source, "DL-ILD summary (research use only)")


def make_pdf(result: Result, source: SourceSeries, picture: Image.Image) -> Any:
    """Make the Encapsulated PDF of a result.

    Parameters
    ----------
    result : Result
    source : SourceSeries
        The series that was scored.
    picture : Image
        The page.

    Returns
    -------
    pydicom.Dataset
        Encapsulated PDF Storage.
    """
    highdicom = load_highdicom()
    page = io.BytesIO()
    picture.convert("RGB").save(page, "PDF", resolution=PDF_DPI, title="DL-ILD summary")
    document = page.getvalue()
    reference = light_dataset(source)
    with quiet():
        dataset = highdicom.base.SOPClass(
            study_instance_uid=reference.StudyInstanceUID,
            series_instance_uid=result_uid(result, source, "PDF series"),
            series_number=PDF_SERIES_NUMBER,
            sop_instance_uid=result_uid(result, source, "PDF"),
            instance_number=1,
            sop_class_uid=PDF_CLASS,
            modality="DOC",
            manufacturer=MANUFACTURER,
            manufacturer_model_name=result.contract.model.name,
            software_versions=software_version(),
        )
        dataset.SpecificCharacterSet = reference.SpecificCharacterSet
        dataset.copy_patient_and_study_information(reference)
        now = dt.datetime.now()
        dataset.ContentDate, dataset.ContentTime = now.date(), now.time()
        dataset.AcquisitionDateTime = ""
        dataset.ConversionType = "SYN"
        dataset.BurnedInAnnotation = "NO"
        dataset.DocumentTitle = "DL-ILD summary (research use only)"
        dataset.ConceptNameCodeSequence = []
        dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
        dataset.EncapsulatedDocumentLength = len(document)
        dataset.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
        dataset.SourceInstanceSequence = []
        for scanned in source.slices[:1]:
            item = load_pydicom().Dataset()
            item.ReferencedSOPClassUID = scanned.sop_class
            item.ReferencedSOPInstanceUID = scanned.sop_instance
            dataset.SourceInstanceSequence.append(item)
    return finish(dataset, source, "DL-ILD summary, PDF (research use only)")


def _comment(result: Result, pixels: bytes) -> str:
    """Notice, and the digests that `dlild verify` computes again."""
    digest = result.to_dict()["provenance"]
    if digest is None:
        return NOTICE
    return f"{NOTICE} Result {digest['result']}, pixels {pixels_digest(pixels)}"
