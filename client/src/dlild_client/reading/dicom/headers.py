"""Reads the headers of all DICOM files of a path, without pixels.

Identifiers are kept as digests, to group by. Only the UIDs of series and slices are kept, so that a
user can select a series, and DICOM objects of the result can refer to the slices; only the survey
shows that of a series. What else identifies the patient is read on demand: `read_identity`.

An attribute of an Enhanced CT frame is in the frame's own functional group, in the shared one, or
(as in a single-frame object) at the top level of the data set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO, cast

from dlild_client.errors import InputError, UnreadableFileError
from dlild_client.reading.dicom import values
from dlild_client.reading.dicom.deflate import inflate, is_deflated
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.reading.dicom.protocol import judge_breath, judge_posture
from dlild_client.reading.dicom.slices import PixelFormat, SliceHeader
from dlild_client.reading.dicom.values import Numbers
from dlild_client.reading.sources import READ_ERRORS, Source

GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "ImageType": "CTImageFrameTypeSequence",
    "AcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIdentifier": "FrameContentSequence",
    "StackID": "FrameContentSequence",
}
"""Functional group of each attribute (DICOM PS3.3, A.38.1.4)."""

RENAMED = {
    "ImageType": "FrameType",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
}
"""Attributes with another keyword in a functional group."""


class FunctionalGroups:
    """Looks up attributes of frames, by functional group where there are any.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Enhanced or not.

    Attributes
    ----------
    there : bool
        Whether the object has functional groups.
    count : int
        Frames with per-frame groups.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._frames = values.many(dataset, "PerFrameFunctionalGroupsSequence")
        shared = values.many(dataset, "SharedFunctionalGroupsSequence")
        self._shared = shared[0] if shared else {}
        self.there = bool(self._frames)
        self.count = len(self._frames)

    def name_of(self, name: str) -> str:
        """Keyword of an attribute in the data set that `holder` returns."""
        return RENAMED.get(name, name) if self.there else name

    def holder(self, name: str, frame: int) -> Any:
        """Find the data set that holds an attribute of a frame.

        The frame type of the functional groups overrides the image type of the object.
        """
        if not self.there:
            return self.dataset
        group, inner = GROUP_OF[name], self.name_of(name)
        for groups in (self._frames[frame], self._shared):
            items = values.many(groups, group)
            if items and values.is_there(items[0], inner):
                return items[0]
        return self.dataset if inner == name else {}


TAGS = [
    "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "Manufacturer", "PatientID",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "AcquisitionNumber",
    "TemporalPositionIdentifier", "FrameOfReferenceUID", "BodyPartExamined", "ContrastBolusAgent",
    "ConvolutionKernel", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "LossyImageCompression", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "ContrastBolusAgentSequence", "PatientPosition",
    "SeriesDescription", "ImageComments", "ProtocolName", "FileSetID", "FileSetConsistencyFlag",
]  # fmt: skip
"""Elements read of each file."""

IDENTITY = [
    "SpecificCharacterSet", "StudyDate", "SeriesDate", "AcquisitionDate", "StudyTime", "SeriesTime",
    "AcquisitionTime", "AccessionNumber", "Modality", "Manufacturer", "InstitutionName",
    "ReferringPhysicianName", "StudyDescription", "SeriesDescription", "ManufacturerModelName",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "PatientSize", "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod",
    "BodyPartExamined", "StudyInstanceUID", "SeriesInstanceUID", "StudyID", "SeriesNumber",
    "FrameOfReferenceUID", "PositionReferenceIndicator",
]  # fmt: skip
"""Elements of patient, study, series and equipment that DICOM objects of a result repeat."""

_FORMS = {
    name: re.compile(form, re.ASCII)
    for name, form in {
        "DA": r"[12]\d{3}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
        "TM": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
        "AS": r"\d{3}[DWMY]",
        "CS": r"[A-Z0-9_ ]{1,16}",
        "DS": r"(?=.{1,16}$)[+-]?(\d+\.?\d*|\.\d+)([Ee][+-]?\d+)?",
        "IS": r"[+-]?\d{1,9}",
        "UI": r"[0-9.]{1,64}",
        "PatientSex": "[MFO]",
        "PatientIdentityRemoved": "YES|NO",
    }.items()
}
"""What conforming values look like, by keyword or VR; any text for the others."""

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
}  # fmt: skip
"""CT, Enhanced CT, Legacy Converted Enhanced CT."""

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
DIRECTORY_TAGS = ("FileSetID", "FileSetConsistencyFlag")

DESCRIPTIONS = ("SeriesDescription", "ImageComments", "ProtocolName")
"""Elements that may name breath and posture, by precedence."""

LOSSY = {
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81",
}  # fmt: skip
"""Transfer syntaxes that are always lossy, whatever the header says."""

MAXIMUM_FRAMES = 20_000
LARGE_HEADER = 1 << 26  # 64 MB; longest element of a header
MAXIMUM_READS = 1_000_000
"""Most reads of one header: an element takes one or two, 2,000 frames some 200,000. A file of
zeros would be parsed as empty elements without end."""


@dataclass(frozen=True)
class HeaderScan:
    """Headers of all slices, and names of files that look like DICOM but cannot be read."""

    headers: tuple[SliceHeader, ...]
    unreadable: tuple[str, ...]


def read_headers(sources: Iterable[Source], threads: int = 2) -> HeaderScan:
    """Read the headers of the DICOM files; skip others.

    Parameters
    ----------
    sources : iterable of Source
    threads : int
        Threads that read files.

    Returns
    -------
    HeaderScan
        In the order of `sources`.
    """
    load_pydicom()
    listed = list(sources)
    with quiet(), ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(read_header, listed))
    headers = tuple(header for slices in found if slices for header in slices)
    lost = [s.name for s, slices in zip(listed, found, strict=True) if slices == []]
    return HeaderScan(headers, tuple(lost))


def read_identity(source: Source) -> Any:
    """Read the elements of patient, study, series and equipment of one file.

    Returns
    -------
    pydicom.Dataset
        `IDENTITY`, as far as they are there and conform to DICOM; text is decoded.

    Raises
    ------
    UnreadableFileError
        The file was read before, and cannot be any more.
    """
    pydicom = load_pydicom()
    try:
        with quiet(), source.open() as opened:
            deflated = is_deflated(opened)
            file = BytesIO(inflate(opened, source.name)) if deflated else opened
            dataset = pydicom.dcmread(
                file, stop_before_pixels=True, specific_tags=IDENTITY, force=True
            )
            return _conforming(dataset)
    except READ_ERRORS:
        raise UnreadableFileError(
            f"{source.name}: cannot be read a second time; copy the series to a local disk"
        ) from None


def _conforming(dataset: Any) -> Any:
    """Copy the elements of `IDENTITY`, as UTF-8, without values that DICOM forbids.

    Text that is too long is kept: an archive matches by it.
    """
    pydicom = load_pydicom()
    out = pydicom.Dataset()
    for name in IDENTITY:
        vr = pydicom.datadict.dictionary_VR(name)
        # pydicom iterates over the characters of a person's name.
        found = [dataset.get(name, "")] if vr == "PN" else values.many(dataset, name)
        shown = [str(value).strip(values.BLANKS) for value in found]
        form = _FORMS.get(name, _FORMS.get(vr))
        if any(shown) and (form is None or all(form.fullmatch(text) for text in shown)):
            setattr(out, name, shown if len(shown) > 1 else shown[0])
    out.SpecificCharacterSet = "ISO_IR 192"
    return out


def read_header(source: Source) -> list[SliceHeader] | None:
    """Read the slice headers of one file.

    Returns
    -------
    list of SliceHeader or None
        None where the file is not DICOM, empty where it looks like DICOM but cannot be read.
    """
    try:
        with source.open() as file:
            kind = _dicom_kind(file, source.name)
            if not kind:
                return None if kind is None else []
            file.seek(0)
            return _read(source, file, force=kind == "bare")
    except (*READ_ERRORS, InputError):
        return []


def _dicom_kind(file: BinaryIO, name: str) -> str | None:
    """Classify a file: `marked` by DICM, `bare` data set, empty for DICOM by name only."""
    head = file.read(132)
    if head[128:] == b"DICM":
        # A disk that lost the contents leaves zeros.
        return "marked" if any(file.read(8)) else ""
    if head[:2] in {b"\x08\x00", b"\x02\x00"}:
        return "bare"
    return "" if name.lower().endswith((".dcm", ".ima")) else None


def _read(source: Source, file: BinaryIO, *, force: bool) -> list[SliceHeader] | None:
    pydicom = load_pydicom()
    if is_deflated(file):
        file = BytesIO(inflate(file, source.name))
    else:
        file = cast(BinaryIO, _BoundedReader(file))
    try:
        tags = [values.tag(name) for name in TAGS]
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags, force=force)
        return _slices(source, dataset, _pixel_offset(file))
    except Exception:
        return []


class _BoundedReader:
    """File wrapper that bounds the size and the number of reads to what a header needs.

    It tracks its offset itself: pydicom calls `tell` at every element, and on a real file each call
    is a system call that releases the GIL. With three scans read at once that took half the time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAXIMUM_READS
        self._offset = file.tell()
        self.close = file.close

    def tell(self) -> int:
        """Offset at which the next read begins."""
        return self._offset

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset, and return it."""
        self._offset = self._file.seek(offset, whence)
        return self._offset

    def read(self, count: int = -1) -> bytes:
        """Read within the bounds."""
        if not 0 <= count <= LARGE_HEADER:
            raise ValueError("an element too long for a header")
        self._left -= 1
        if self._left < 0:
            raise ValueError("more elements than a header has")
        held = self._file.read(count)
        self._offset += len(held)
        return held


def _pixel_offset(file: BinaryIO) -> int | None:
    """Offset of the pixel data, where reading the header stopped; None at the end of the file."""
    offset = file.tell()
    return offset if len(file.read(8)) == 8 else None


def _slices(source: Source, ds: Any, offset: int | None) -> list[SliceHeader] | None:
    meta = getattr(ds, "file_meta", {})
    sop_class = values.text(ds, "SOPClassUID") or values.text(meta, "MediaStorageSOPClassUID")
    if sop_class == DIRECTORY_CLASS or any(values.is_there(ds, tag) for tag in DIRECTORY_TAGS):
        return None  # a DICOMDIR under another name, such as DIRFILE of Philips
    modality = values.text(ds, "Modality").upper()
    if not modality and not sop_class:
        return []
    if not modality and sop_class in CT_CLASSES:
        modality = "CT"
    numbers = Numbers()
    pixels = _pixel_format(ds, offset, numbers)
    groups = FunctionalGroups(ds)
    count = pixels.frames if groups.there else 1
    if pixels.frames > MAXIMUM_FRAMES or (groups.there and groups.count != count):
        return []
    identity = _identity(ds)
    identity["lossy"] |= pixels.transfer_syntax in LOSSY
    return [
        SliceHeader(
            source=source,
            frame=frame,
            pixels=pixels,
            sop_class=sop_class,
            modality=modality,
            **identity,
            **_frame_fields(groups, frame, pixels.frames, numbers),
        )
        for frame in range(count)
    ]


def _identity(ds: Any) -> dict[str, Any]:
    """Collect the attributes that all slices of a file share."""
    # Archives change the case of a patient ID and insert spaces: still the same patient.
    patient = "".join(values.text(ds, "PatientID").split()).casefold()
    patient_and_study = patient + "\n" + values.text(ds, "StudyInstanceUID")
    series = values.text(ds, "SeriesInstanceUID")
    agent = values.text(ds, "ContrastBolusAgent").upper()
    descriptions = tuple(values.description(ds, tag) for tag in DESCRIPTIONS)
    return {
        "instance": values.digest(values.text(ds, "SOPInstanceUID")),
        "instance_uid": values.text(ds, "SOPInstanceUID"),
        "manufacturer": values.text(ds, "Manufacturer") or None,
        "study": values.digest(patient_and_study),
        "series": values.digest(patient_and_study + "\n" + series),
        "series_uid": series,
        "series_number": Numbers().whole(ds, "SeriesNumber"),
        "frame_of_reference": values.digest(values.text(ds, "FrameOfReferenceUID")),
        "body_part": values.text(ds, "BodyPartExamined").upper(),
        "contrast_agent": agent not in {"", "NO", "NONE", "N", "NATIVE"}
        or bool(values.many(ds, "ContrastBolusAgentSequence")),
        "padding": Numbers().whole(ds, "PixelPaddingValue"),
        "padding_limit": Numbers().whole(ds, "PixelPaddingRangeLimit"),
        "lossy": values.text(ds, "LossyImageCompression") in {"01", "1"},
        "breath": _breath(descriptions),
        "posture": _posture(descriptions, values.text(ds, "PatientPosition")),
    }


_breath, _posture = lru_cache(256)(judge_breath), lru_cache(256)(judge_posture)


def _frame_fields(
    groups: FunctionalGroups, frame: int, frames: int, shared: Numbers
) -> dict[str, Any]:
    """Collect the attributes of one frame; `shared` are the numbers of the whole file."""
    find = groups.holder
    numbers = Numbers(dict(shared.repaired), dict(shared.unreadable))

    def several(name: str, count: int, unit: str = "") -> tuple[float, ...] | None:
        return numbers.several(find(name, frame), name, count, unit)

    def one(name: str, unit: str = "") -> float | None:
        return numbers.one(find(name, frame), name, unit)

    whole = Numbers().whole  # of numbers that only group slices
    # One position for several frames is ambiguous, so it is ignored.
    one_position = groups.there or frames == 1
    kernel = values.many(find("ConvolutionKernel", frame), "ConvolutionKernel")
    types = values.many(find("ImageType", frame), groups.name_of("ImageType"))
    return {
        "image_type": tuple(str(v).strip().upper() for v in types),
        # Frames have no gap in their numbers, even where slices are missing.
        "instance_number": None if groups.there else whole(groups.dataset, "InstanceNumber"),
        "acquisition": whole(find("AcquisitionNumber", frame), groups.name_of("AcquisitionNumber")),
        "temporal_position": whole(
            find("TemporalPositionIdentifier", frame), groups.name_of("TemporalPositionIdentifier")
        ),
        "stack_id": values.text(find("StackID", frame), "StackID"),
        "kernel": "/".join(str(v) for v in kernel) or None,
        "slice_thickness_mm": one("SliceThickness", values.MM),
        "position": several("ImagePositionPatient", 3, values.MM) if one_position else None,
        "orientation": several("ImageOrientationPatient", 6),
        "pixel_spacing": several("PixelSpacing", 2, values.MM),
        "slope": one("RescaleSlope", values.HU),
        "intercept": one("RescaleIntercept", values.HU),
        "rescale_type": values.text(find("RescaleType", frame), "RescaleType").upper(),
        "repaired": numbers.repaired,
        "unreadable": numbers.unreadable,
    }


def _pixel_format(ds: Any, offset: int | None, numbers: Numbers) -> PixelFormat:
    def count(name: str, default: int) -> int:
        number = numbers.whole(ds, name)
        return default if number is None else number

    allocated = count("BitsAllocated", 0)
    stored = count("BitsStored", allocated)
    uid = getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", None)
    return PixelFormat(
        rows=count("Rows", 0),
        columns=count("Columns", 0),
        frames=max(1, count("NumberOfFrames", 1)),
        samples=count("SamplesPerPixel", 1),
        photometric=values.text(ds, "PhotometricInterpretation").upper(),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=count("HighBit", stored - 1),
        signed=bool(count("PixelRepresentation", 0)),
        sign_known=numbers.whole(ds, "PixelRepresentation") is not None,
        transfer_syntax="" if uid is None else str(uid),
        offset=offset,
    )
