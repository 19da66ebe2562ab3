"""Several acquisitions in one series: told apart by an attribute of their slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import InputError, IrregularSpacing
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.geometry import (
    Stack,
    Tolerances,
    common_orientation,
    repeated_positions,
)

SEPARATORS: tuple[Callable[[SliceHeader], Any], ...] = (
    lambda s: s.acquisition,
    lambda s: s.temporal_position,
    lambda s: s.stack_id,
    lambda s: s.kernel,
    lambda s: s.image_type,
    lambda s: s.frame_of_reference,
)
"""What tells acquisitions in one series apart, in the order in which it is tried."""


def part_repeats(slices: list[SliceHeader], tolerances: Tolerances) -> list[list[SliceHeader]]:
    """Part a series that visits its positions more than once, where an attribute tells how.

    A copy of a file shares every attribute, so copies stay together.
    """
    if not _has_repeats(slices, tolerances):
        return [slices]
    for key in SEPARATORS:
        parts = parts_by(slices, key)
        if len(parts) > 1 and not any(_has_repeats(p, tolerances) for p in parts):
            return parts
    return [slices]


def parts_by(
    slices: Sequence[SliceHeader], key: Callable[[SliceHeader], Any]
) -> list[list[SliceHeader]]:
    """Part slices by an attribute, in its order."""
    parts: dict[object, list[SliceHeader]] = {}
    for s in slices:
        parts.setdefault(key(s), []).append(s)
    return sorted(parts.values(), key=lambda p: str(key(p[0])).zfill(12))


def _has_repeats(slices: Sequence[SliceHeader], tolerances: Tolerances) -> bool:
    """Tell whether two different images lie at one position; copies of one image do not count."""
    seen: dict[str, SliceHeader] = {}
    for s in slices:
        seen.setdefault(f"{s.instance or s.name}/{s.frame}", s)
    unique = list(seen.values())
    if any(s.position is None or s.orientation is None for s in unique):
        return False
    try:
        row, column = common_orientation(
            np.array([s.orientation for s in unique], dtype=np.float64), tolerances
        )
    except InputError:
        return False
    positions = np.array([s.position for s in unique], dtype=np.float64)
    return bool(repeated_positions(positions, np.cross(row, column), tolerances))


def overlap(parts: Sequence[Sequence[SliceHeader]]) -> bool:
    """Tell whether of several acquisitions one begins before another ends, or lies across it."""
    first = parts[0][0].orientation
    assert first is not None
    normal = np.cross(first[:3], first[3:])
    ends = sorted((min(places), max(places)) for places in (_places(p, normal) for p in parts))
    return any(after[0] < before[1] for before, after in pairwise(ends))


def check_one_acquisition(slices: Sequence[SliceHeader], stack: Stack) -> None:
    """Raise `IrregularSpacing` where acquisitions that overlap make the steps of a stack uneven.

    The patient breathes and moves between acquisitions: their slices are no one volume.
    """
    for key in SEPARATORS:
        parts = parts_by(slices, key)
        if len(parts) > 1 and overlap(parts):
            steps = stack.steps_mm
            raise IrregularSpacing(
                f"slices are not evenly spaced: steps from {steps.min():.2f} to "
                f"{steps.max():.2f} mm, for slices of {len(parts)} acquisitions lie between each "
                "other; give one acquisition"
            )


def _places(part: Sequence[SliceHeader], normal: npt.NDArray[np.float64]) -> list[float]:
    return [float(np.dot(s.position, normal)) for s in part if s.position is not None]
