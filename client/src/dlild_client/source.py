"""Headers of the DICOM series that a volume was read from: what its DICOM objects refer to.

They identify the patient. So a volume has them only where they were asked for (``with_source=True``
of `dlild_client.reading.read.read_volume`), no representation shows them, and nothing writes them
but the DICOM objects of a result (`dlild_client.results.dicom`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, repr=False)
class SourceSlice:
    """Reference to one slice.

    Attributes
    ----------
    sop_class, sop_instance, series : str
        Its UIDs, and that of its series; empty where the header lacks one.
    frame : int or None
        Number of the frame, from 1, in a multi-frame object.
    position_mm : tuple of float
        ImagePositionPatient, as in the header.
    thickness_mm : float or None
        SliceThickness.
    """

    sop_class: str
    sop_instance: str
    series: str
    frame: int | None
    position_mm: tuple[float, ...]
    thickness_mm: float | None


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The series that was scored, without its pixels.

    Attributes
    ----------
    header : pydicom.Dataset
        Elements of patient, study, series, equipment and frame of reference of the first slice,
        as far as they conform to DICOM.
    slices : tuple of SourceSlice
        In the order of the volume's slices.
    shape : tuple of int
        (rows, columns).
    pixel_spacing_mm : tuple of float
        (between rows, between columns).
    row, column : tuple of float
        Unit vectors (x, y, z; LPS) along which the column index and the row index increase.
    origins_mm : ndarray, shape (slices, 3)
        Patient coordinates of the centre of the first voxel of each slice, as the volume has them:
        those of the header, put straight on the line of the stack.
    """

    header: Any = field(repr=False)
    slices: tuple[SourceSlice, ...] = field(repr=False)
    shape: tuple[int, int]
    pixel_spacing_mm: tuple[float, float]
    row: tuple[float, float, float]
    column: tuple[float, float, float]
    origins_mm: npt.NDArray[np.float64] = field(repr=False)

    @property
    def orientation(self) -> tuple[float, ...]:
        """ImageOrientationPatient: `row`, then `column`."""
        return (*self.row, *self.column)
