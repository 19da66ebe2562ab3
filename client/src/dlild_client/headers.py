"""The header-only pass over a folder: what is here, read without any pixels.

Nothing that names a patient leaves this module: identifiers are kept as digests, only to group by
them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlild_client.errors import UnreadableFile

TAGS = [
    "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "Manufacturer", "PatientID",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "BodyPartExamined",
    "ConvolutionKernel", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
]  # fmt: skip
"""What is read of each file; pixels and everything else stay on disk."""


@dataclass(frozen=True)
class SliceHeader:
    """What one DICOM file says of itself; what is missing or malformed is None."""

    path: Path
    sop_class: str
    image_type: tuple[str, ...]
    modality: str
    manufacturer: str | None
    study: str
    series: str
    series_number: int | None
    instance_number: int | None
    body_part: str
    kernel: str | None
    slice_thickness_mm: float | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    rows: int
    columns: int
    frames: int
    samples_per_pixel: int
    photometric: str
    slope: float | None
    intercept: float | None
    rescale_type: str
    padding: int | None
    padding_limit: int | None
    transfer_syntax: str
    has_pixels: bool


def find_files(folder: Path) -> list[Path]:
    """All files below a folder, in a fixed order; hidden ones and DICOMDIR are left out."""
    try:
        found = [p for p in folder.rglob("*") if p.is_file()]
    except OSError as error:
        raise UnreadableFile(f"{folder.name}: cannot be listed: {error.strerror}") from None
    return sorted(p for p in found if not p.name.startswith(".") and p.name != "DICOMDIR")


def read_headers(files: Iterable[Path], threads: int = 2) -> list[SliceHeader]:
    """Read the headers of those files that are DICOM; others are skipped.

    Parameters
    ----------
    files : iterable of Path
    threads : int
        Files read at once.

    Returns
    -------
    list of SliceHeader
        In the order of `files`.
    """
    with ThreadPoolExecutor(threads) as pool:
        return [header for header in pool.map(read_header, files) if header is not None]


def read_header(path: Path) -> SliceHeader | None:
    """Read one header; None where the file is not DICOM or its header is beyond reading."""
    import pydicom  # noqa: PLC0415  (heavy: loaded when first used)

    force = _lacks_preamble(path)
    if force is None:
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS, force=force)
        return _header(path, dataset)
    except Exception:
        return None


def _lacks_preamble(path: Path) -> bool | None:
    """Tell a file with the DICM mark (False) from a bare data set (True) and the rest (None)."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return None
    if head[128:] == b"DICM":
        return False
    return True if head[:2] in {b"\x08\x00", b"\x02\x00"} else None


def _header(path: Path, ds: Any) -> SliceHeader | None:
    modality, sop_class = _text(ds, "Modality"), _text(ds, "SOPClassUID")
    if not modality and not sop_class:
        return None
    patient_and_study = _text(ds, "PatientID") + "\n" + _text(ds, "StudyInstanceUID")
    return SliceHeader(
        path=path,
        sop_class=sop_class,
        image_type=tuple(str(v).upper() for v in _values(ds, "ImageType")),
        modality=modality.upper(),
        manufacturer=_text(ds, "Manufacturer") or None,
        study=_digest(patient_and_study),
        series=_digest(patient_and_study + "\n" + _text(ds, "SeriesInstanceUID")),
        series_number=_whole(ds, "SeriesNumber"),
        instance_number=_whole(ds, "InstanceNumber"),
        body_part=_text(ds, "BodyPartExamined").upper(),
        kernel="/".join(str(v) for v in _values(ds, "ConvolutionKernel")) or None,
        slice_thickness_mm=_number(ds, "SliceThickness"),
        position=_numbers(ds, "ImagePositionPatient", 3),
        orientation=_numbers(ds, "ImageOrientationPatient", 6),
        pixel_spacing=_numbers(ds, "PixelSpacing", 2),
        rows=_whole(ds, "Rows") or 0,
        columns=_whole(ds, "Columns") or 0,
        frames=_whole(ds, "NumberOfFrames") or 1,
        samples_per_pixel=_whole(ds, "SamplesPerPixel") or 1,
        photometric=_text(ds, "PhotometricInterpretation").upper(),
        slope=_number(ds, "RescaleSlope"),
        intercept=_number(ds, "RescaleIntercept"),
        rescale_type=_text(ds, "RescaleType").upper(),
        padding=_whole(ds, "PixelPaddingValue"),
        padding_limit=_whole(ds, "PixelPaddingRangeLimit"),
        transfer_syntax=_transfer_syntax(ds),
        has_pixels=bool(_whole(ds, "Rows")) and bool(_whole(ds, "BitsAllocated")),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _transfer_syntax(ds: Any) -> str:
    uid = getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", None)
    return "" if uid is None else str(uid)


def _values(ds: Any, name: str) -> list[Any]:
    try:
        value = ds.get(name)
    except Exception:
        return []
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def _text(ds: Any, name: str) -> str:
    values = _values(ds, name)
    return str(values[0]).strip() if values else ""


def _numbers(ds: Any, name: str, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(v) for v in _values(ds, name))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _number(ds: Any, name: str) -> float | None:
    numbers = _numbers(ds, name, 1)
    return None if numbers is None else numbers[0]


def _whole(ds: Any, name: str) -> int | None:
    number = _number(ds, name)
    return None if number is None else int(number)
