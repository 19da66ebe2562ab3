"""Functional groups of Enhanced CT: where each frame of a multi-frame object says what it is.

An attribute of a frame is in the frame's own group, or in the group that all frames share, or (in a
single-frame object, and in some enhanced ones) at the top level of the data set.
"""

from __future__ import annotations

from typing import Any

from dlild_client.reading.dicom import values

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
"""The functional group that holds each attribute (DICOM PS3.3, A.38.1.4)."""

RENAMED = {
    "ImageType": "FrameType",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "TemporalPositionIdentifier": "TemporalPositionIndex",
}
"""Attributes that have another name in a functional group."""


class FunctionalGroups:
    """Looks attributes of frames up.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Enhanced or not.

    Attributes
    ----------
    there : bool
        Whether the object has functional groups at all.
    count : int
        Frames that have groups of their own.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._frames = values.many(dataset, "PerFrameFunctionalGroupsSequence")
        shared = values.many(dataset, "SharedFunctionalGroupsSequence")
        self._shared = shared[0] if shared else {}
        self.there = bool(self._frames)
        self.count = len(self._frames)

    def name_of(self, name: str) -> str:
        """Name that an attribute has where `holder` finds it."""
        return RENAMED.get(name, name) if self.there else name

    def holder(self, name: str, frame: int) -> Any:
        """Find the data set that holds an attribute of a frame.

        A frame type of the functional groups counts, not the image type of the whole object.
        """
        if not self.there:
            return self.dataset
        group, inner = GROUP_OF[name], self.name_of(name)
        for place in (self._frames[frame], self._shared):
            items = values.many(place, group)
            if items and values.is_there(items[0], inner):
                return items[0]
        return self.dataset if inner == name else {}
