"""Geometry of a stack of slices: whether their positions make one regular volume.

Pure functions on positions and orientations, in DICOM patient coordinates (x, y, z; LPS; mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_client.errors import (
    GeometryError,
    IrregularSpacing,
    MissingGeometry,
    MissingSlices,
    MixedOrientation,
    RepeatedPosition,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tolerances:
    """How far real headers may stray from a perfect stack.

    Attributes
    ----------
    angle_deg : float
        Between the orientations of two slices.
    same_position_mm : float
        Slices closer than this are at one position.
    step_mm, step_fraction : float
        A step may differ from the usual one by the larger of these two: scanners round positions to
        0.1 mm.
    drift_fraction : float
        No slice may lie further from its place in an even stack than this share of a step.
    sideways_mm : float
        No slice may lie further beside the line through all slices.
    tilt_deg : float
        A stack that leans by more than this counts as tilted.
    """

    angle_deg: float = 0.25
    same_position_mm: float = 0.01
    step_mm: float = 0.11
    step_fraction: float = 0.05
    drift_fraction: float = 0.5
    sideways_mm: float = 1.0
    tilt_deg: float = 0.2


@dataclass(frozen=True)
class Stack:
    """A regular stack of slices, from its first slice to its last along the slice normal.

    Attributes
    ----------
    order : tuple of int
        Indices of the slices in stack order.
    origin_mm : ndarray, shape (3,)
        Centre of the first voxel of the first slice.
    row, column : ndarray, shape (3,)
        Unit vectors in which the column index and the row index grow.
    step : ndarray, shape (3,)
        From one slice to the next, in mm. Not along the normal where the gantry is tilted.
    tilt_deg : float
        Angle between the step and the slice normal.
    """

    order: tuple[int, ...]
    origin_mm: Array
    row: Array
    column: Array
    step: Array
    tilt_deg: float

    @property
    def coverage_mm(self) -> float:
        """Length of the stack along the slice normal, slices included."""
        normal = np.cross(self.row, self.column)
        return float(abs(self.step @ normal) * len(self.order))


def common_orientation(orientations: Array, tolerances: Tolerances) -> tuple[Array, Array]:
    """Row and column direction that all slices share.

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
    MissingGeometry
        The vectors are no directions, or not orthogonal.
    MixedOrientation
        Two slices look in different directions.
    """
    rows, columns = orientations[:, :3], orientations[:, 3:]
    lengths = np.linalg.norm(np.stack([rows, columns]), axis=2)
    if not np.all(np.isfinite(lengths)) or np.any(np.abs(lengths - 1) > 0.02):
        raise MissingGeometry(
            "an image orientation is not made of unit vectors; export the series again"
        )
    rows, columns = rows / lengths[0, :, None], columns / lengths[1, :, None]
    skew = float(np.max(np.abs(np.sum(rows * columns, axis=1))))
    if skew > 0.01:
        raise MissingGeometry(
            f"an image orientation has axes that are not square (cosine {skew:.3f})"
        )
    angle = max(_largest_angle_deg(rows), _largest_angle_deg(columns))
    if angle > tolerances.angle_deg:
        count = _count_directions(rows, columns, tolerances.angle_deg)
        raise MixedOrientation(
            f"one series holds slices in {count} orientations, {angle:.1f}° apart; "
            "give a series of parallel slices"
        )
    row = rows.mean(axis=0)
    row /= np.linalg.norm(row)
    column = columns.mean(axis=0)
    column -= (column @ row) * row
    return row, column / np.linalg.norm(column)


def _largest_angle_deg(vectors: Array) -> float:
    # The chord is exact for small angles, where the arc cosine is not.
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
    """Group slices that lie at one position along the normal; groups have two members or more."""
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    breaks = np.flatnonzero(np.diff(distances[order]) > tolerances.same_position_mm) + 1
    groups = np.split(order, breaks)
    return [tuple(int(i) for i in group) for group in groups if len(group) > 1]


def regular_stack(
    positions: Array,
    row: Array,
    column: Array,
    numbers: list[int | None],
    tolerances: Tolerances,
) -> Stack:
    """Order slices by position and make sure that they are evenly spaced.

    Parameters
    ----------
    positions : ndarray, shape (n, 3)
        ImagePositionPatient of each slice, n >= 2, no position twice.
    row, column : ndarray, shape (3,)
        Common orientation.
    numbers : list of int or None
        Instance numbers: they tell a missing slice from a scan that was planned unevenly.
    tolerances : Tolerances

    Returns
    -------
    Stack

    Raises
    ------
    RepeatedPosition
        Two slices at one position.
    MissingSlices, IrregularSpacing
        Steps that differ, with the numbers in mm.
    GeometryError
        Slices that lie beside the line through all of them.
    """
    normal = np.cross(row, column)
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    sorted_mm = distances[order]
    steps = np.diff(sorted_mm)
    if np.any(steps <= tolerances.same_position_mm):
        raise RepeatedPosition(
            f"two slices lie at one position ({sorted_mm[np.argmin(steps)]:.2f} mm); give one "
            "series"
        )
    _check_steps(steps, sorted_mm, [numbers[i] for i in order], tolerances)
    ordered = positions[order]
    step = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
    _check_line(ordered, step, normal, tolerances)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    if tilt <= tolerances.tilt_deg:
        step, tilt = (step @ normal) * normal, 0.0
    return Stack(tuple(int(i) for i in order), ordered[0], row, column, step, tilt)


def _check_steps(
    steps: Array, sorted_mm: Array, numbers: list[int | None], tolerances: Tolerances
) -> None:
    usual = float(np.median(steps))
    allowed = max(tolerances.step_mm, tolerances.step_fraction * usual)
    # Half a step at most: a tolerance in mm must not hide a missing slice of a very thin scan.
    odd = np.flatnonzero(np.abs(steps - usual) > min(allowed, usual / 2))
    if len(odd) == 0:
        return
    multiples = np.round(steps[odd] / usual)
    whole = np.abs(steps[odd] - multiples * usual) <= np.maximum(allowed, 0.1 * usual)
    first = int(odd[0])
    where = f"between {sorted_mm[first]:.2f} and {sorted_mm[first + 1]:.2f} mm"
    if np.all(multiples >= 2) and np.all(whole) and _numbers_jump(numbers, odd):
        count = int(np.sum(multiples - 1))
        raise MissingSlices(
            f"{count} slice{'s are' if count > 1 else ' is'} missing: the step is {usual:.2f} mm, "
            "but "
            f"{steps[first]:.2f} mm {where}; export the whole series"
        )
    raise IrregularSpacing(
        f"slices are not evenly spaced: steps from {steps.min():.2f} to {steps.max():.2f} mm, "
        "usually "
        f"{usual:.2f} mm, {steps[first]:.2f} mm {where}; give a series with even steps"
    )


def _numbers_jump(numbers: list[int | None], gaps: npt.NDArray[np.intp]) -> bool:
    """Tell whether instance numbers jump at the gaps; where there are none, they are taken to."""
    for gap in gaps:
        before, after = numbers[gap], numbers[gap + 1]
        if before is not None and after is not None and abs(after - before) == 1:
            return False
    return True


def _check_line(ordered: Array, step: Array, normal: Array, tolerances: Tolerances) -> None:
    ideal = ordered[0] + np.arange(len(ordered))[:, None] * step
    error = ordered - ideal
    along = error @ normal
    drift = float(np.max(np.abs(along)))
    if drift > tolerances.drift_fraction * float(step @ normal):
        raise IrregularSpacing(
            f"slices are not evenly spaced: one lies {drift:.2f} mm from its place in a stack of "
            f"{float(step @ normal):.2f} mm steps; give a series with even steps"
        )
    aside = float(np.max(np.linalg.norm(error - along[:, None] * normal, axis=1)))
    if aside > tolerances.sideways_mm:
        raise GeometryError(
            f"slices are shifted sideways by up to {aside:.1f} mm against each other; "
            "give a series with one field of view"
        )
