"""Secondary Capture and Encapsulated PDF of the summary page: what every PACS shows."""

from __future__ import annotations

import datetime as dt
import io
import re
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
CAPTURE_DESCRIPTION = "DL-ILD summary (research use only)"
PDF_DESCRIPTION = "DL-ILD summary, PDF (research use only)"
PDF_TITLE = "DL-ILD summary (research use only)"
_DIGESTS = "% DL-ILD result {result}, page {page}\n"
"""Comment after the end of a PDF, which its readers skip: digests of the result and of all before
it."""


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
    return finish(dataset, source, CAPTURE_DESCRIPTION)


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
    document = _with_digests(page.getvalue(), result)
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
        dataset.DocumentTitle = PDF_TITLE
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
    return finish(dataset, source, PDF_DESCRIPTION)


def comment(result: str, pixels: str) -> str:
    """Write the comment of a capture: notice, and the digests that `dlild verify` computes."""
    return f"{NOTICE} Result {result}, pixels {pixels}"


def split_pdf(document: bytes) -> tuple[bytes, str, str]:
    """Split a PDF into page, digest of the result and digest of the page; empty without them."""
    match = re.search(
        rb"% DL-ILD result (sha256:[0-9a-f]{64}), page (sha256:[0-9a-f]{64})\n$", document
    )
    if match is None:
        return document, "", ""
    return document[: match.start()], match[1].decode(), match[2].decode()


def _comment(result: Result, pixels: bytes) -> str:
    digest = result.to_dict()["provenance"]
    return NOTICE if digest is None else comment(digest["result"], pixels_digest(pixels))


def _with_digests(page: bytes, result: Result) -> bytes:
    provenance = result.to_dict()["provenance"]
    if provenance is None:
        return page
    digests = _DIGESTS.format(result=provenance["result"], page=pixels_digest(page))
    return page + digests.encode()
