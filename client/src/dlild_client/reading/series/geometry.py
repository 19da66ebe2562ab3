"""Geometry of a stack of slices: order, direction and steps, even or not.

Pure functions on positions and orientations, in DICOM patient coordinates (x, y, z; LPS; mm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_client.errors import (
    GeometryError,
    MissingGeometryError,
    MixedOrientationError,
    RepeatedPositionError,
)
from dlild_client.reading.series.spacing import StepRules, check_steps

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tolerances:
    """Tolerances for deviations of real headers from a perfect stack.

    Attributes
    ----------
    angle_deg : float
        Between the orientations of two slices.
    same_position_mm : float
        Slices closer than this are at one position.
    step_mm, step_fraction : float
        In an even stack a step may differ from the usual one by the larger of these two: scanners
        round positions to 0.1 mm.
    drift_fraction : float
        In an even stack no slice may deviate from its position by more than this fraction of a
        step.
    gap_mm : float
        Widest step of an uneven stack: beyond, too much lung is unseen.
    contiguous_share : float
        A scan counts as contiguous, with a few gaps, from this fraction of contiguous steps on.
    sideways_mm : float
        Largest distance of a slice from the line through all slices.
    tilt_deg : float
        Larger angles between step and normal are a gantry tilt.
    """

    angle_deg: float = 0.25
    same_position_mm: float = 0.01
    step_mm: float = 0.11
    step_fraction: float = 0.05
    drift_fraction: float = 0.5
    gap_mm: float = 15.0
    contiguous_share: float = 0.8
    sideways_mm: float = 1.0
    tilt_deg: float = 0.2


@dataclass(frozen=True)
class Stack:
    """A stack of parallel slices, from its first slice to its last along the slice normal.

    Attributes
    ----------
    order : tuple of int
        Indices of the slices in stack order.
    origin_mm : ndarray, shape (3,)
        Centre of the first voxel of the first slice.
    row, column : ndarray, shape (3,)
        Unit vectors along which the column index and the row index increase.
    step : ndarray, shape (3,)
        From one slice to the next, in mm; the mean where steps differ. Oblique to the normal for
        a tilted gantry.
    tilt_deg : float
        Angle between the step and the slice normal.
    positions_mm : tuple of float or None
        Distance of each slice from the first, along `step`; None for an even stack.
    """

    order: tuple[int, ...]
    origin_mm: Array
    row: Array
    column: Array
    step: Array
    tilt_deg: float
    positions_mm: tuple[float, ...] | None = None

    @property
    def coverage_mm(self) -> float:
        """Length of the stack along the slice normal, slices included."""
        normal = np.cross(self.row, self.column)
        return float(abs(self.step @ normal) * len(self.order))

    @property
    def steps_mm(self) -> Array:
        """Distances between neighbouring slices, shape (n - 1,)."""
        if self.positions_mm is None:
            return np.full(len(self.order) - 1, np.linalg.norm(self.step))
        return np.diff(np.array(self.positions_mm))

    @property
    def widest_step_mm(self) -> float:
        """Largest distance between neighbouring slices; the step itself for a single slice."""
        if self.positions_mm is None:
            return float(np.linalg.norm(self.step))
        return float(self.steps_mm.max())


def common_orientation(orientations: Array, tolerances: Tolerances) -> tuple[Array, Array]:
    """Find the row and column direction that all slices share.

    Parameters
    ----------
    orientations : ndarray, shape (n, 6)
        ImageOrientationPatient: direction of a row, then of a column.
    tolerances : Tolerances

    Returns
    -------
    row, column : ndarray, shape (3,)
        Orthogonal unit vectors.

    Raises
    ------
    MissingGeometryError
        The vectors are not of unit length, or not orthogonal.
    MixedOrientationError
        Two slices differ in orientation.
    """
    rows, columns = orientations[:, :3], orientations[:, 3:]
    lengths = np.linalg.norm(np.stack([rows, columns]), axis=2)
    if not np.all(np.isfinite(lengths)) or np.any(np.abs(lengths - 1) > 0.02):
        raise MissingGeometryError(
            "an image orientation is not made of unit vectors; export the series again"
        )
    rows, columns = rows / lengths[0, :, None], columns / lengths[1, :, None]
    skew = float(np.max(np.abs(np.sum(rows * columns, axis=1))))
    if skew > 0.01:
        raise MissingGeometryError(
            f"an image orientation has axes that are not square (cosine {skew:.3f})"
        )
    angle = max(_largest_angle_deg(rows), _largest_angle_deg(columns))
    if angle > tolerances.angle_deg:
        count = _count_directions(rows, columns, tolerances.angle_deg)
        raise MixedOrientationError(
            f"one series holds slices in {count} orientations, {angle:.1f}° apart; "
            "give a series of parallel slices"
        )
    row = rows.mean(axis=0)
    row /= np.linalg.norm(row)
    column = columns.mean(axis=0)
    column -= (column @ row) * row
    return row, column / np.linalg.norm(column)


def _largest_angle_deg(vectors: Array) -> float:
    # By the chord: the arc cosine is inaccurate for small angles.
    chords = np.linalg.norm(vectors - vectors[0], axis=1)
    return float(np.degrees(2 * np.arcsin(np.clip(chords.max() / 2, 0, 1))))


def _count_directions(rows: Array, columns: Array, angle_deg: float) -> int:
    limit = np.radians(angle_deg)
    kinds: list[Array] = []
    for vector in np.hstack([rows, columns]):
        if all(np.linalg.norm(vector - kind) > limit for kind in kinds):
            kinds.append(vector)
    return len(kinds)


def repeated_positions(
    positions: Array, normal: Array, tolerances: Tolerances
) -> list[tuple[int, ...]]:
    """Group slices at one position along the normal; only groups of two or more."""
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    breaks = np.flatnonzero(np.diff(distances[order]) > tolerances.same_position_mm) + 1
    groups = np.split(order, breaks)
    return [tuple(int(i) for i in group) for group in groups if len(group) > 1]


def regular_stack(
    positions: Array,
    row: Array,
    column: Array,
    numbers: Sequence[int | None],
    tolerances: Tolerances,
    thicknesses_mm: Sequence[float | None] | None = None,
) -> Stack:
    """Order slices by position, and determine whether their steps are even.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        ImagePositionPatient of each slice, n >= 2, no duplicates.
    row, column : ndarray, shape (3,)
        Common orientation.
    numbers : sequence of int or None
        Instance numbers: distinguish a missing slice from a scan planned with uneven steps.
    tolerances : Tolerances
    thicknesses_mm : sequence of float or None, optional
        Slice thickness of each slice: distinguishes a contiguous scan from one with gaps.

    Returns
    -------
    Stack
        With `positions_mm` where the steps differ by more than the tolerances.

    Raises
    ------
    RepeatedPositionError
        Two slices at one position.
    MissingSlicesError
        Gaps in an otherwise contiguous scan.
    IrregularSpacingError
        A step wider than `Tolerances.gap_mm`, or interleaved slices of two acquisitions.
    GeometryError
        Slices off the line through all of them.
    """
    normal = np.cross(row, column)
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    sorted_mm = distances[order]
    steps = np.diff(sorted_mm)
    if np.any(steps <= tolerances.same_position_mm):
        raise RepeatedPositionError(
            f"two slices lie at one position ({sorted_mm[np.argmin(steps)]:.2f} mm); give one "
            "series"
        )
    even = _are_even(sorted_mm, tolerances)
    if not even:
        thickness = thicknesses_mm or [None] * len(order)
        rules = StepRules(tolerances.gap_mm, tolerances.contiguous_share, tolerances.step_mm)
        check_steps(sorted_mm, [numbers[i] for i in order], [thickness[i] for i in order], rules)
    ordered = positions[order]
    step = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
    indices = np.arange(len(order)) if even else (sorted_mm - sorted_mm[0]) / (step @ normal)
    _check_line(ordered, indices[:, None] * step, normal, tolerances)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    if tilt <= tolerances.tilt_deg:
        step, tilt = (step @ normal) * normal, 0.0
    along = indices * np.linalg.norm(step)
    positions_mm = None if even else tuple(np.round(along, 6).tolist())
    return Stack(tuple(int(i) for i in order), ordered[0], row, column, step, tilt, positions_mm)


def _are_even(sorted_mm: Array, tolerances: Tolerances) -> bool:
    """Whether steps differ by no more than rounding, and do not drift."""
    steps = np.diff(sorted_mm)
    usual = float(np.median(steps))
    allowed = max(tolerances.step_mm, tolerances.step_fraction * usual)
    # At most half a step: a tolerance in mm must not hide a missing slice of a thin-slice scan.
    if np.any(np.abs(steps - usual) > min(allowed, usual / 2)):
        return False
    mean = (sorted_mm[-1] - sorted_mm[0]) / len(steps)
    drift = sorted_mm - sorted_mm[0] - np.arange(len(sorted_mm)) * mean
    return bool(np.abs(drift).max() <= tolerances.drift_fraction * mean)


def _check_line(ordered: Array, ideal: Array, normal: Array, tolerances: Tolerances) -> None:
    """Raise `GeometryError` where slices deviate sideways from their ideal positions (n, 3)."""
    error = ordered - ordered[0] - ideal
    along = error @ normal
    aside = float(np.max(np.linalg.norm(error - along[:, None] * normal, axis=1)))
    if aside > tolerances.sideways_mm:
        raise GeometryError(
            f"slices are shifted sideways by up to {aside:.1f} mm against each other; "
            "give a series with one field of view"
        )
