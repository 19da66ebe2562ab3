"""The truth of a phantom as DICOM SEG, beside its series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from dlild_client.contract import Contract, LabelClass

_MAKER = "DL-ILD phantom"


def write_segmentation(
    slices: list[FileDataset],
    labels: npt.NDArray[np.uint8],
    path: Path,
    contract: Contract,
    *,
    kind: str = "labelmap",
) -> None:
    """Write labels as one multi-segment DICOM SEG that refers to its CT.

    Parameters
    ----------
    slices : list of FileDataset
        The CT.
    labels : ndarray of uint8, shape (slice, row, column)
        Classes of the contract, in the order of `slices`.
    path : pathlib.Path
        The file.
    contract : Contract
        Names and codes of the classes; classes that do not occur get no segment.
    kind : str
        `labelmap` (small, new in 2024) or `binary` (understood everywhere).

    Raises
    ------
    ValueError
        No class with a code occurs: DICOM knows no empty segmentation.
    """
    present = [c for c in contract.classes if c.code is not None and (labels == c.label).any()]
    if not present:
        raise ValueError("no class occurs in the labels; a DICOM SEG needs at least one")
    numbers = np.zeros(256, np.uint8)
    for number, found in enumerate(present, start=1):
        numbers[found.label] = number
    series = str(slices[0].SeriesInstanceUID)
    segmentation: Any = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=numbers[labels],
        segmentation_type=kind.upper(),
        segment_descriptions=[_describe(c, n) for n, c in enumerate(present, start=1)],
        series_instance_uid=generate_uid(entropy_srcs=[series, "seg", kind]),
        series_number=2,
        sop_instance_uid=generate_uid(entropy_srcs=[series, "seg", kind, "1"]),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions="1",
        device_serial_number="0",
        content_label="TRUTH",
        content_description="Truth of a phantom",
    )
    segmentation.save_as(path)


def _describe(kind: LabelClass, number: int) -> Any:
    assert kind.code is not None
    category = (
        codes.SCT.MorphologicallyAbnormalStructure if kind.lesion else codes.SCT.AnatomicalStructure
    )
    code = kind.code
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=kind.title,
        segmented_property_category=category,
        segmented_property_type=hd.sr.CodedConcept(code.value, code.scheme, code.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=_MAKER, family=codes.DCM.MorphologicalOperations, version="1"
        ),
    )
