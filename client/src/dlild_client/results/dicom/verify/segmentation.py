"""Checks of a SEG: its segments against the classes, its voxels against the label map."""

from __future__ import annotations

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


def check_segmentation(
    name: str, dataset: Any, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    """Check a SEG; its voxels only where the label map is there."""
    segment = dataset.SegmentSequence[-1].SegmentationAlgorithmIdentificationSequence[0]
    parameters = segment.AlgorithmParameters
    yield refers(f"{name}, result", document["provenance"]["result"] in parameters)
    yield check_pixels(name, dataset, parameters)
    yield check_header(name, dataset, document, segmentation.DESCRIPTION)
    content = {
        "ContentLabel": segmentation.CONTENT_LABEL,
        "ContentDescription": segmentation.CONTENT_DESCRIPTION,
    }
    yield check_attributes(f"{name}, texts", dataset, content)
    yield _segments(name, dataset, document)
    if labels is None:
        return
    share = _agreement(dataset, labels)
    yield Check(
        f"{name}, label map", share >= SEG_AGREEMENT, f"{100 * share:.2f} % of its voxels agree"
    )


def _segments(name: str, dataset: Any, document: Mapping[str, Any]) -> Check:
    """Compare number, label, codes, colour and algorithm of each segment with the class."""
    what = f"{name}, segments"
    # A LABELMAP has its background as segment 0.
    items = {int(i.SegmentNumber): i for i in dataset.SegmentSequence if i.SegmentNumber}
    classes = {int(c["label"]): (key, c) for key, c in document["classes"].items()}
    for number in items.keys() ^ classes.keys():
        there = "no class" if number in items else "missing"
        return Check(what, False, f"segment {number} is {there}")
    digests = [f"{name}={value}" for name, value in algorithm_parameters(document).items()]
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
                f"{model['name']} {model['version']}",
                AI,
            ),
        }
        # Changed pixels have a check of their own.
        if str(algorithm.AlgorithmParameters).partition(",pixels=")[0] != ",".join(digests):
            return Check(what, False, f"segment {number}: its digests differ")
        if "colour" in figures and has_extra():
            colour = load_highdicom().color.CIELabColor.from_rgb(*figures["colour"])
            expected["colour"] = tuple(map(int, colour.value))
            found["colour"] = tuple(map(int, item.RecommendedDisplayCIELabValue))
        for field, value in expected.items():
            if found[field] != value:
                return Check(what, False, f"segment {number}: {field} {found[field]}, not {value}")
    return Check(what, True, f"{len(items)} classes")


def _agreement(dataset: Any, labels: Volume) -> float:
    """Share of the voxels labelled in SEG or map that have one label, on the slices of the SEG."""
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
    for (k, label), plane in zip(frames, _planes(dataset, shape), strict=True):
        if label:
            found[rank[k]][plane > 0] = label
        else:
            found[rank[k]] = plane
    expected = np.zeros_like(found)
    expected[native.box] = native.array
    labelled = (found > 0) | (expected > 0)
    return float(np.mean(found[labelled] == expected[labelled])) if labelled.any() else 0.0


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
