"""Several acquisitions in one series, distinguished by an attribute of their slices."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import IrregularSpacingError
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.geometry import Stack

SEPARATORS: tuple[Callable[[SliceHeader], Any], ...] = (
    lambda s: s.acquisition,
    lambda s: s.temporal_position,
    lambda s: s.stack_id,
    lambda s: s.kernel,
    lambda s: s.image_type,
    lambda s: s.series_number,
    lambda s: s.slice_thickness_mm,
    lambda s: s.posture,
    lambda s: s.breath,
    lambda s: s.frame_of_reference,
)
"""Attributes that distinguish acquisitions in one series, in the order of trial."""


def group_by(slices: Sequence[SliceHeader], values: Sequence[Hashable]) -> list[list[SliceHeader]]:
    """Group slices by a value of each, in the order of the values."""
    groups: dict[Hashable, list[SliceHeader]] = {}
    for s, value in zip(slices, values, strict=True):
        groups.setdefault(value, []).append(s)
    return [groups[value] for value in sorted(groups, key=lambda v: str(v).zfill(12))]


def overlap(parts: Sequence[Sequence[SliceHeader]]) -> bool:
    """Whether two of several acquisitions overlap along the slice normal."""
    first = parts[0][0].orientation
    assert first is not None
    normal = np.cross(first[:3], first[3:])
    ends = sorted(
        (min(positions), max(positions))
        for positions in (_positions_along(p, normal) for p in parts)
    )
    return any(after[0] < before[1] for before, after in pairwise(ends))


def check_one_acquisition(slices: Sequence[SliceHeader], stack: Stack) -> None:
    """Raise `IrregularSpacingError` where overlapping acquisitions make the steps uneven.

    The patient breathes and moves between acquisitions: their slices are not one volume.
    """
    for key in SEPARATORS:
        parts = group_by(slices, [key(s) for s in slices])
        if len(parts) > 1 and overlap(parts):
            steps = stack.steps_mm
            raise IrregularSpacingError(
                f"slices are not evenly spaced: steps from {steps.min():.2f} to "
                f"{steps.max():.2f} mm, for slices of {len(parts)} acquisitions lie between each "
                "other; give one acquisition"
            )


def _positions_along(part: Sequence[SliceHeader], normal: npt.NDArray[np.float64]) -> list[float]:
    return [float(np.dot(s.position, normal)) for s in part if s.position is not None]
