"""DICOM SEG of a label map, on the slices that were scanned.

One segment a class of lung, numbered as its label. highdicom makes the object for one slice; its
frames are then replaced by those of all slices, encoded here: a chest has a thousand frames, and as
data sets of pydicom their functional groups take five times as long.

References
----------
.. [1] DICOM PS3.3, A.51 Segmentation IOD, and C.8.20.
.. [2] DICOM PS3.5, 7.1.2 and 7.5: encoding of elements and sequences in explicit VR little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract.schema import LabelClass
from dlild_client.errors import BadSettingsError, InputError
from dlild_client.preparation.native import NativeLabels, Stack, sample
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.dicom.codes import category_of, code_of
from dlild_client.results.dicom.common import (
    MANUFACTURER,
    algorithm,
    decimal_string,
    finish,
    light_dataset,
    serial_number,
    software_version,
)
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import derive_uid, pixels_digest, result_uid
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries, SourceSlice

BINARY, LABELMAP = "BINARY", "LABELMAP"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
"""Segmentation Storage, of a BINARY SEG."""
LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage."""
SEG_SERIES, SEG_OBJECT = "SEG series", "SEG"
"""What the UIDs of a SEG are derived from, beside its kind."""
SERIES_NUMBER = 9301
DESCRIPTION = "DL-ILD segmentation (research use only)"
CONTENT_LABEL = "DL_ILD"
CONTENT_DESCRIPTION = "DL-ILD label map. For research use only"

Bytes = npt.NDArray[np.uint8]


def make_segmentation(result: Result, source: SourceSeries, *, kind: str = BINARY) -> Any:
    """Make the DICOM SEG of a result.

    Parameters
    ----------
    result : Result
        With its label map.
    source : SourceSeries
        The series that was scored.
    kind : str
        `BINARY`: a frame a class and slice, which viewers read; `LABELMAP`: one a slice, which few
        do yet.

    Returns
    -------
    pydicom.Dataset
        Segmentation Storage, or Label Map Segmentation Storage. Slices, and classes in them, that
        hold no voxel have no frame.

    Raises
    ------
    BadSettingsError
        The extra is not installed, or `kind` is another.
    InputError
        No voxel is labelled.
    """
    if kind not in {BINARY, LABELMAP}:
        raise BadSettingsError(f"a SEG is {BINARY} or {LABELMAP}, not {kind!r}")
    native = sample(result.labels, _stack(source))
    classes = [c for c in result.contract.classes if c.lung]
    frames = _frames(native, classes, kind)
    if not frames:
        raise InputError("no voxel is labelled as lung on the slices of the series; no SEG is made")
    dataset = _template(result, source, classes, kind)
    _set_frames(dataset, frames, source, kind)
    dataset.PixelData = (
        _pack(native, frames, source.shape)
        if kind == BINARY
        else _pack_labels(native, frames, source.shape)
    )
    dataset["PixelData"].VR = "OB"
    # Verified by `dlild verify`, together with the digest of the result.
    pixels = f"pixels={pixels_digest(dataset.PixelData)}"
    # highdicom lets the segments share one item.
    items = [
        item
        for segment in dataset.SegmentSequence
        for item in segment.get("SegmentationAlgorithmIdentificationSequence", ())
    ]
    for item in {id(item): item for item in items}.values():
        item.AlgorithmParameters = f"{item.AlgorithmParameters},{pixels}"
    return dataset


def segmentation_uids(result: Result, source: SourceSeries, kind: str = BINARY) -> tuple[str, str]:
    """Derive the UIDs of series and instance of a SEG."""
    return (
        result_uid(result, source, SEG_SERIES, kind),
        result_uid(result, source, SEG_OBJECT, kind),
    )


@dataclass(frozen=True)
class _Frame:
    """One frame: index of its slice in the series, and the class; 0 where it holds all."""

    slice: int
    label: int


def _stack(source: SourceSeries) -> Stack:
    between_rows, between_columns = source.pixel_spacing_mm
    return Stack(
        source.origins_mm,
        np.asarray(source.column) * between_rows,
        np.asarray(source.row) * between_columns,
        source.shape,
    )


def _frames(native: NativeLabels, classes: Sequence[LabelClass], kind: str) -> list[_Frame]:
    """Frames that hold anything: segment by segment, from the first slice to the last."""
    there = {c.label: (native.array == c.label).any(axis=(1, 2)) for c in classes}
    first = native.start[0]
    if kind == LABELMAP:
        labelled = np.any([*there.values()], axis=0)
        return [_Frame(first + int(k), 0) for k in np.flatnonzero(labelled)]
    return [
        _Frame(first + int(k), label) for label, in_ in there.items() for k in np.flatnonzero(in_)
    ]


def _template(
    result: Result, source: SourceSeries, classes: Sequence[LabelClass], kind: str
) -> Any:
    """Make the object for the first slice, with one frame of each class."""
    highdicom = load_highdicom()
    identification = algorithm(result)
    rows, columns = source.shape
    pixels = np.zeros((1, rows, columns), np.uint8)
    pixels.reshape(-1)[: len(classes)] = [c.label for c in classes]
    series, uid = segmentation_uids(result, source, kind)
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=c.label,
            segment_label=c.title,
            segmented_property_category=category_of(c),
            segmented_property_type=code_of(c),
            algorithm_type="AUTOMATIC",
            algorithm_identification=identification,
            tracking_uid=derive_uid(uid, "segment", c.name),
            tracking_id=c.name,
            display_color=highdicom.color.CIELabColor.from_rgb(*c.colour),
        )
        for c in classes
    ]
    with quiet():
        dataset = highdicom.seg.Segmentation(
            [light_dataset(source)],
            pixels,
            kind,
            descriptions,
            series_instance_uid=series,
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=result.contract.model.name,
            software_versions=software_version(),
            device_serial_number=serial_number(result.model),
            content_label=CONTENT_LABEL,
            content_description=CONTENT_DESCRIPTION,
        )
    finish(dataset, source, DESCRIPTION)
    organization = derive_uid(uid, "dimensions")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return dataset


def _set_frames(dataset: Any, frames: Sequence[_Frame], source: SourceSeries, kind: str) -> None:
    """Replace the functional groups of the frames, and the references to the source slices."""
    pydicom = load_pydicom()
    used = sorted({frame.slice for frame in frames})
    rank = {k: n for n, k in enumerate(used, start=1)}
    derivation = {k: _derivation(source.slices[k]) for k in used}
    position = {k: _position(source.slices[k]) for k in used}
    groups = [
        _item(
            derivation[f.slice]
            + _frame_content([rank[f.slice]] if kind == LABELMAP else [f.label, rank[f.slice]])
            + position[f.slice]
            + (b"" if kind == LABELMAP else _segment_identification(f.label))
        )
        for f in frames
    ]
    tag = pydicom.tag.Tag("PerFrameFunctionalGroupsSequence")
    value = b"".join(groups)
    del dataset[tag]
    pydicom.filewriter.correct_ambiguous_vr(dataset, True)
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, "SQ", len(value), value, 0, False, True)
    # So that pydicom writes the raw element as it is, and decodes it for other transfer syntaxes.
    dataset.set_original_encoding(False, True, dataset._character_set)
    dataset.NumberOfFrames = len(frames)
    slices = [source.slices[k] for k in used]
    objects = {s.sop_instance: s for s in slices}
    dataset.SourceImageSequence = [_reference(s) for s in objects.values()]
    dataset.ReferencedSeriesSequence = []
    for uid in dict.fromkeys(s.series for s in slices):
        item = pydicom.Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = [
            _reference(s) for s in objects.values() if s.series == uid
        ]
        dataset.ReferencedSeriesSequence.append(item)


def _reference(s: SourceSlice) -> Any:
    item = load_pydicom().Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = s.sop_class, s.sop_instance
    return item


def _pack(native: NativeLabels, frames: Sequence[_Frame], shape: tuple[int, int]) -> bytes:
    """Bits of all frames, the first in the lowest bit of a byte; frames follow without padding."""
    rows, columns = shape
    bits = rows * columns
    # Eight frames of any size are whole bytes.
    group = 1 if bits % 8 == 0 else 8
    parts = []
    plane = np.zeros((group, rows, columns), np.uint8)
    _, i, j = native.box
    for at in range(0, len(frames), group):
        for n in range(group):
            plane[n, i, j] = (
                native.array[frames[at + n].slice - native.start[0]] == frames[at + n].label
                if at + n < len(frames)
                else 0
            )
        parts.append(np.packbits(plane, axis=None, bitorder="little").tobytes())
    packed = b"".join(parts)[: -(-bits * len(frames) // 8)]
    return packed + b"\0" * (len(packed) % 2)


def _pack_labels(native: NativeLabels, frames: Sequence[_Frame], shape: tuple[int, int]) -> bytes:
    out = np.zeros((len(frames), *shape), np.uint8)
    _, i, j = native.box
    for n, frame in enumerate(frames):
        out[n, i, j] = native.array[frame.slice - native.start[0]]
    packed = out.tobytes()
    return packed + b"\0" * (len(packed) % 2)


# Explicit VR little endian, by [2]_.

_LONG = {"SQ", "OB", "UT", "UN"}


def _element(tag: int, vr: str, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in _LONG:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def _item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def _sequence(tag: int, *items: bytes) -> bytes:
    return _element(tag, "SQ", b"".join(map(_item, items)))


def _text(tag: int, vr: str, value: str) -> bytes:
    raw = value.encode("utf-8")
    pad = b"\0" if vr == "UI" else b" "
    return _element(tag, vr, raw + pad * (len(raw) % 2))


def _coded(value: str, scheme: str, meaning: str) -> bytes:
    return (
        _text(0x00080100, "SH", value)
        + _text(0x00080102, "SH", scheme)
        + _text(0x00080104, "LO", meaning)
    )


def _derivation(s: SourceSlice) -> bytes:
    """Encode the Derivation Image Functional Group: the slice that a frame was derived from."""
    image = _text(0x00081150, "UI", s.sop_class) + _text(0x00081155, "UI", s.sop_instance)
    if s.frame is not None:
        image += _text(0x00081160, "IS", str(s.frame))
    image += _text(0x0028135A, "CS", "YES")
    purpose = _coded("121322", "DCM", "Source image for image processing operation")
    image += _sequence(0x0040A170, purpose)
    derivation = _coded("113076", "DCM", "Segmentation")
    return _sequence(0x00089124, _sequence(0x00082112, image) + _sequence(0x00089215, derivation))


def _frame_content(indices: Iterable[int]) -> bytes:
    value = b"".join(struct.pack("<I", index) for index in indices)
    return _sequence(0x00209111, _element(0x00209157, "UL", value))


def _position(s: SourceSlice) -> bytes:
    shown = "\\".join(map(decimal_string, s.position_mm))
    return _sequence(0x00209113, _text(0x00200032, "DS", shown))


def _segment_identification(label: int) -> bytes:
    return _sequence(0x0062000A, _element(0x0062000B, "US", struct.pack("<H", label)))
