"""Checks of a SEG: its segments against the classes, its voxels against the label map."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.preparation.native import Stack, sample
from dlild_client.results.checks import Check, refers
from dlild_client.results.dicom import segmentation
from dlild_client.results.dicom.codes import AI, PRIVATE, category_in, code_in
from dlild_client.results.dicom.common import algorithm_parameters
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import derive_uid
from dlild_client.results.dicom.verify.attributes import (
    check_attributes,
    check_header,
    check_pixels,
    has_extra,
    triple,
)
from dlild_client.volume import Volume

SEG_AGREEMENT = 0.999
"""Least share of labelled voxels of a SEG that must have the label of the map: positions in DICOM
are rounded."""
FEW_VOXELS = 8
"""Frames with fewer voxels may differ in most of them by that rounding."""


def check_segmentation(
    name: str, dataset: Any, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    """Check a SEG; its voxels only where the label map is there."""
    segment = dataset.SegmentSequence[-1].SegmentationAlgorithmIdentificationSequence[0]
    parameters = segment.AlgorithmParameters
    yield refers(f"{name}, result", document["provenance"]["result"] in parameters)
    yield check_pixels(name, dataset, parameters)
    yield check_header(name, dataset, document, segmentation.DESCRIPTION, _constant(dataset))
    content = {
        "ContentLabel": segmentation.CONTENT_LABEL,
        "ContentDescription": segmentation.CONTENT_DESCRIPTION,
    }
    yield check_attributes(f"{name}, texts", dataset, content)
    yield _segments(name, dataset, document)
    yield _references(name, dataset)
    if labels is None:
        return
    share, strange = _agreement(dataset, labels)
    found = f"{100 * share:.2f} % of its voxels agree"
    if strange:
        found = f"frame {strange[0]} is of another segment or place"
    yield Check(f"{name}, label map", share >= SEG_AGREEMENT and not strange, found)


def _constant(dataset: Any) -> dict[str, Any]:
    """Attributes that follow from the type of a SEG."""
    kind = str(dataset.get("SegmentationType", ""))
    known = {
        segmentation.BINARY: (segmentation.SEG_CLASS, 1),
        segmentation.LABELMAP: (segmentation.LABELMAP_CLASS, 8),
    }
    sop_class, bits = known.get(kind, ("", 0))
    return {
        "SegmentationType": kind if kind in known else " or ".join(known),
        "SOPClassUID": sop_class,
        "BitsAllocated": bits,
        "SamplesPerPixel": 1,
    }


def _references(name: str, dataset: Any) -> Check:
    """Compare the slices that frames are of with those that the SEG names as its series.

    Each frame of a BINARY SEG names its segment twice: so also the smallest is compared.
    """
    what = f"{name}, references"
    named = {
        str(one.ReferencedSOPInstanceUID)
        for series in dataset.ReferencedSeriesSequence
        for one in series.ReferencedInstanceSequence
    }
    sources = {str(one.ReferencedSOPInstanceUID) for one in dataset.SourceImageSequence}
    if sources != named:
        return Check(what, False, "its source images are not those of its series")
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        images = [
            str(image.ReferencedSOPInstanceUID)
            for derivation in group.get("DerivationImageSequence", ())
            for image in derivation.SourceImageSequence
        ]
        if not images or not named.issuperset(images):
            return Check(what, False, f"frame {number} is of no slice of its series")
        if dataset.SegmentationType == segmentation.BINARY:
            (segment,) = group.SegmentIdentificationSequence
            index = group.FrameContentSequence[0].DimensionIndexValues
            if segment.ReferencedSegmentNumber != index[0]:
                return Check(what, False, f"frame {number} names two segments")
    return Check(what, True, f"{len(named)} slices")


def _segments(name: str, dataset: Any, document: Mapping[str, Any]) -> Check:
    """Compare number, label, codes, colour and algorithm of each segment with the class."""
    what = f"{name}, segments"
    # A LABELMAP has its background as segment 0.
    items = {int(i.SegmentNumber): i for i in dataset.SegmentSequence if i.SegmentNumber}
    classes = {int(c["label"]): (key, c) for key, c in document["classes"].items()}
    for number in items.keys() ^ classes.keys():
        there = "no class" if number in items else "missing"
        return Check(what, False, f"segment {number} is {there}")
    digests = ",".join(f"{k}={v}" for k, v in algorithm_parameters(document).items())
    last = dataset.SegmentSequence[-1].SegmentationAlgorithmIdentificationSequence[0]
    whole = re.fullmatch(
        rf"{re.escape(digests)},pixels=sha256:[0-9a-f]{{64}}", last.AlgorithmParameters
    )
    model = document["model"]
    for number, item in items.items():
        key, figures = classes[number]
        (algorithm,) = item.SegmentationAlgorithmIdentificationSequence
        found: dict[str, Any] = {
            "label": str(item.SegmentLabel),
            "category": triple(item.SegmentedPropertyCategoryCodeSequence[0]),
            "code": triple(item.SegmentedPropertyTypeCodeSequence[0]),
            "tracking": (str(item.TrackingID), str(item.TrackingUID)),
            "algorithm": (
                str(item.SegmentAlgorithmType),
                str(item.SegmentAlgorithmName),
                str(algorithm.AlgorithmName),
                str(algorithm.AlgorithmVersion),
                triple(algorithm.AlgorithmFamilyCodeSequence[0]),
            ),
        }
        expected: dict[str, Any] = {
            "label": figures["title"],
            "category": triple(category_in(figures)),
            "code": triple(code_in(figures)),
            "tracking": (key, derive_uid(str(dataset.SOPInstanceUID), "segment", key)),
            "algorithm": (
                "AUTOMATIC",
                PRIVATE["DLILD"],
                PRIVATE["DLILD"],
                f"{model['name']} {model['version']}",
                AI,
            ),
        }
        # Changed pixels have a check of their own.
        if not whole or algorithm.AlgorithmParameters != last.AlgorithmParameters:
            return Check(what, False, f"segment {number}: its digests differ")
        if "colour" in figures and has_extra():
            colour = load_highdicom().color.CIELabColor.from_rgb(*figures["colour"])
            expected["colour"] = tuple(map(int, colour.value))
            found["colour"] = tuple(map(int, item.RecommendedDisplayCIELabValue))
        for field, value in expected.items():
            if found[field] != value:
                return Check(what, False, f"segment {number}: {field} {found[field]}, not {value}")
    return Check(what, True, f"{len(items)} classes")


def _agreement(dataset: Any, labels: Volume) -> tuple[float, list[int]]:
    """Compare a SEG with the label map, on the slices of the SEG.

    Returns the share of the voxels labelled in either that have one label, and the numbers of the
    frames of which most do not.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = np.array(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64
    )
    rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    positions: dict[tuple[float, ...], int] = {}
    frames = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0].ImagePositionPatient
        k = positions.setdefault(tuple(map(float, place)), len(positions))
        segment = group.get("SegmentIdentificationSequence")
        frames.append((k, int(segment[0].ReferencedSegmentNumber) if segment else 0))
    normal = np.cross(orientation[:3], orientation[3:])
    origins = np.array(list(positions))
    order = np.argsort(origins @ normal, kind="stable")
    shape = (int(dataset.Rows), int(dataset.Columns))
    down, right = orientation[3:] * rows_mm, orientation[:3] * columns_mm
    native = sample(labels, Stack(origins[order], down, right, shape))
    found = np.zeros((len(origins), *shape), np.uint8)
    rank = np.argsort(order)
    expected = np.zeros_like(found)
    expected[native.box] = native.array
    strange = []
    for number, ((k, label), plane) in enumerate(
        zip(frames, _planes(dataset, shape), strict=True), start=1
    ):
        inside = plane > 0
        found[rank[k]][inside] = label or plane[inside]
        there = expected[rank[k]][inside] == found[rank[k]][inside]
        if there.size >= FEW_VOXELS and 2 * np.count_nonzero(there) < there.size:
            strange.append(number)
    labelled = (found > 0) | (expected > 0)
    share = float(np.mean(found[labelled] == expected[labelled])) if labelled.any() else 0.0
    return share, strange


def _planes(dataset: Any, shape: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    raw = np.frombuffer(dataset.PixelData, np.uint8)
    size = shape[0] * shape[1]
    for n in range(int(dataset.NumberOfFrames)):
        if dataset.BitsAllocated == 8:
            yield raw[n * size : (n + 1) * size].reshape(shape)
            continue
        first, last = n * size // 8, -(-(n + 1) * size // 8)
        bits = np.unpackbits(raw[first:last], bitorder="little")
        yield bits[n * size - 8 * first :][:size].reshape(shape)
