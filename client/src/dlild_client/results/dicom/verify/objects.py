"""Checks of the DICOM objects of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlild_client.errors import DlildError
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.checks import Check, refers
from dlild_client.results.compare import Comparison
from dlild_client.results.dicom import capture, change, report, segmentation
from dlild_client.results.dicom.common import MANUFACTURER
from dlild_client.results.dicom.uids import pixels_digest
from dlild_client.results.dicom.verify.attributes import (
    check_attributes,
    check_header,
    check_pixels,
)
from dlild_client.results.dicom.verify.report import check_change, check_report, scan_reports
from dlild_client.results.dicom.verify.segmentation import check_segmentation
from dlild_client.volume import Volume

Objects = Mapping[str, Any]
"""Data sets by the name of their file."""
CAPTURE = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
    "PhotometricInterpretation": "RGB",
    "SamplesPerPixel": 3,
    "BitsAllocated": 8,
    "PlanarConfiguration": 0,
    "BurnedInAnnotation": "NO",
}
PDF = {
    "SOPClassUID": capture.PDF_CLASS,
    "MIMETypeOfEncapsulatedDocument": "application/pdf",
    "BurnedInAnnotation": "NO",
}
"""Attributes that follow from what the object is."""
DESCRIPTIONS = {
    segmentation.DESCRIPTION,
    report.DESCRIPTION,
    change.DESCRIPTION,
    capture.CAPTURE_DESCRIPTION,
    capture.PDF_DESCRIPTION,
}
IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber",
)  # fmt: skip
"""What all objects of a result share; the document has no identity that it could follow from."""


def read_objects(folder: Path) -> tuple[Objects, list[Check]]:
    """Read the DICOM files of a folder that this software made; also what cannot be read."""
    pydicom = load_pydicom()
    found, faults = {}, []
    for path in sorted(folder.glob("*.dcm")):
        try:
            with quiet():
                dataset = pydicom.dcmread(path)
                ours = (
                    dataset.get("Manufacturer") == MANUFACTURER
                    or dataset.get("SeriesDescription") in DESCRIPTIONS
                )
        except Exception:
            faults.append(Check(path.name, False, "cannot be read"))
            continue
        if ours:
            found[path.name] = dataset
    return found, faults


def check_objects(
    objects: Objects, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    """Check the objects of a result against its document, its label map and each other.

    Parameters
    ----------
    objects : mapping
        From `read_objects`.
    document : mapping
        Fields of `result.json`.
    labels : Volume or None
        The label map, where it is there.

    Yields
    ------
    Check
    """
    segs = [d for d in objects.values() if d.get("SOPClassUID") == segmentation.SEG_CLASS]
    for name, dataset in objects.items():
        modality = dataset.get("Modality")
        checks: Iterator[Check]
        if modality == "SEG":
            checks = check_segmentation(name, dataset, document, labels)
        elif modality == "SR" and scan_reports(dataset):
            # Of a comparison.
            continue
        elif modality == "SR":
            checks = check_report(name, dataset, document, segs)
        elif modality == "OT":
            checks = _capture(name, dataset, document)
        elif modality == "DOC":
            checks = _pdf(name, dataset, document)
        else:
            checks = iter([Check(name, False, f"no object has the modality {modality!r}")])
        yield from _readable(name, checks)
    yield from _same_identity({name: d for name, d in objects.items() if not scan_reports(d)})


def check_comparison(objects: Objects, comparison: Comparison) -> Iterator[Check]:
    """Check the reports of a comparison against it.

    Parameters
    ----------
    objects : mapping
        From `read_objects`.
    comparison : Comparison

    Yields
    ------
    Check
    """
    for name, dataset in objects.items():
        if dataset.get("Modality") == "SR" and scan_reports(dataset):
            yield from _readable(name, check_change(name, dataset, comparison))


def _same_identity(objects: Objects) -> Iterator[Check]:
    """Compare patient and study of all objects with those of the first."""
    first, *others = objects or [""]
    for name in others:
        for attribute in IDENTITY:
            values = [str(objects[n].get(attribute, "")) for n in (first, name)]
            if values[0] != values[1]:
                # Not the values: they are identity.
                yield Check(
                    f"{name}, patient and study", False, f"{attribute} is not as in {first}"
                )
                return
    if others:
        yield Check("patient and study", True, f"{len(objects)} objects agree")


def _readable(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Pass checks on; one that fails where an object breaks the rules of DICOM is a difference."""
    try:
        with quiet():
            yield from checks
    except DlildError:
        raise
    except Exception:
        yield Check(name, False, "cannot be read")


def _capture(name: str, dataset: Any, document: Mapping[str, Any]) -> Iterator[Check]:
    comment = dataset.get("ImageComments", "")
    digest = document["provenance"]["result"]
    yield refers(f"{name}, result", digest in comment)
    yield check_pixels(name, dataset, comment)
    yield check_header(name, dataset, document, capture.CAPTURE_DESCRIPTION, CAPTURE)
    size = 3 * dataset.Rows * dataset.Columns
    whole = size <= len(dataset.PixelData) <= size + 1
    yield Check(f"{name}, size", whole, f"{dataset.Columns} x {dataset.Rows}")
    pixels = re.search(r"sha256:[0-9a-f]{64}$", comment)
    expected = capture.comment(digest, pixels[0] if pixels else "")
    yield check_attributes(f"{name}, texts", dataset, {"ImageComments": expected})


def _pdf(name: str, dataset: Any, document: Mapping[str, Any]) -> Iterator[Check]:
    content = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    page, result, digest = capture.split_pdf(content)
    if not digest:
        yield Check(name, None, "holds no digest")
    else:
        yield refers(f"{name}, result", result == document["provenance"]["result"])
        agrees = pixels_digest(page) == digest
        found = digest[:19] if agrees else "changed since it was made"
        yield Check(f"{name}, page", agrees, found)
    yield check_header(name, dataset, document, capture.PDF_DESCRIPTION, PDF)
    yield check_attributes(f"{name}, texts", dataset, {"DocumentTitle": capture.PDF_TITLE})
