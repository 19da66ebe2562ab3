"""Checks uneven steps between slices: planned, or caused by missing slices.

Sequential HRCT is scanned in pairs of slices, or with wider steps in some regions; helical scans
may be reconstructed in blocks of two steps. Such stacks are valid. Not valid are: a contiguous scan
with missing slices, a gap so wide that too much lung is unseen, and interleaved slices of two
acquisitions.

Pure functions on slices in the order of their positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dlild_client.errors import IrregularSpacingError, MissingSlicesError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CONTIGUOUS = 1.25
"""Slices are contiguous up to this many thicknesses apart."""

WIDE = 1.5
"""A step is wide from this many usual steps on: a slice could be missing."""

BLOCK = 5
"""Consecutive wide steps of a block reconstructed in wider steps, not of missing slices."""

RECURRING = 3
"""Equal, equally spaced wide steps with consecutive numbers that count as planned."""

WHOLE = 0.1
"""Tolerance of a gap from a multiple of the usual step, as a fraction of it."""


@dataclass(frozen=True)
class StepRules:
    """Bounds of uneven steps.

    Attributes
    ----------
    widest_mm : float
        Widest step.
    contiguous_share : float
        A scan counts as contiguous, with a few gaps, from this fraction of contiguous steps on.
    tolerance_mm : float
        Rounding of positions.
    """

    widest_mm: float
    contiguous_share: float
    tolerance_mm: float


def check_steps(
    sorted_mm: Array,
    numbers: Sequence[int | None],
    thicknesses_mm: Sequence[float | None],
    rules: StepRules,
) -> None:
    """Raise unless uneven steps were planned, without too wide a gap.

    Parameters
    ----------
    sorted_mm : ndarray, shape (n,)
        Positions along the slice normal, ascending.
    numbers : sequence of int or None
        Instance numbers of the slices.
    thicknesses_mm : sequence of float or None
        Slice thicknesses.
    rules : StepRules

    Raises
    ------
    IrregularSpacingError
        Slices of two acquisitions are interleaved; a step is too wide.
    MissingSlicesError
        Slices are missing from an otherwise contiguous scan.
    """
    if _are_interleaved(sorted_mm, numbers, thicknesses_mm):
        raise IrregularSpacingError(
            "slices are not evenly spaced, and those of two acquisitions lie between each other: "
            f"{_steps_text(np.diff(sorted_mm))}, and the instance numbers do not follow the "
            "positions; give one acquisition"
        )
    _check_gaps(sorted_mm, numbers, thicknesses_mm, rules)
    steps = np.diff(sorted_mm)
    widest = int(np.argmax(steps))
    if steps[widest] > rules.widest_mm:
        raise IrregularSpacingError(
            f"a gap of {steps[widest]:.2f} mm {_where(sorted_mm, widest)}, where at most "
            f"{rules.widest_mm:g} mm may be unseen ({_steps_text(steps)}); give a series with "
            "smaller steps"
        )


def describe_steps(steps_mm: Array) -> str:
    """Describe steps as ``1 mm x 30, 9 mm x 31``, or as a range where there are many."""
    kinds, counts = np.unique(np.round(steps_mm, 1), return_counts=True)
    if len(kinds) > 6:
        return f"{kinds[0]:g} to {kinds[-1]:g} mm"
    return ", ".join(f"{kind:g} mm x {count}" for kind, count in zip(kinds, counts, strict=True))


def _check_gaps(
    sorted_mm: Array,
    numbers: Sequence[int | None],
    thicknesses_mm: Sequence[float | None],
    rules: StepRules,
) -> None:
    """Raise where wide steps were not planned."""
    steps = np.diff(sorted_mm)
    usual = float(np.median(steps))
    wide = steps >= WIDE * usual
    covered = _covered(steps, thicknesses_mm, CONTIGUOUS * usual)
    if not wide.any():
        return
    multiples = np.round(steps / usual)
    tolerance = np.maximum(rules.tolerance_mm, WHOLE * usual)
    whole = np.abs(steps - multiples * usual) <= np.minimum(tolerance, usual / 2)
    jumps = _jumps(numbers)
    unknown, jumped = np.isnan(jumps), jumps > 1
    lost = (unknown & whole & ~covered) | (jumped & (whole | (jumps == multiples)))
    contiguous = bool(np.median(covered[~wide])) and (
        np.count_nonzero(wide) == 1 or np.mean(~wide) >= rules.contiguous_share
    )
    # Many consecutive wide steps are a block reconstructed in wider steps.
    odd = wide & ~_in_rows(wide, BLOCK) if contiguous else wide & (steps > rules.widest_mm)
    planned = not jumped[wide].any() and not unknown[wide].any() and _recur(steps, wide)
    missing = np.flatnonzero(odd & lost)
    if len(missing):
        count = int(np.sum(multiples[missing] - 1))
        first = int(missing[0])
        raise MissingSlicesError(
            f"{count} slice{'s are' if count > 1 else ' is'} missing: the step is {usual:.2f} mm, "
            f"but {steps[first]:.2f} mm {_where(sorted_mm, first)}; export the whole series"
        )
    double = steps >= 2 * usual - np.minimum(tolerance, usual / 2)
    broken = np.flatnonzero(odd & ~covered & (jumped | double))
    if contiguous and not planned and len(broken):
        first = int(broken[0])
        raise IrregularSpacingError(
            f"slices are not evenly spaced: {_steps_text(steps)}, usually {usual:.2f} mm, but "
            f"{steps[first]:.2f} mm {_where(sorted_mm, first)}, as if slices were missing; "
            "export the whole series"
        )


def _recur(steps: Array, wide: Mask) -> bool:
    """Whether wide steps are equal and periodic, which missing slices are not."""
    indices = np.flatnonzero(wide)
    if len(indices) < RECURRING:
        return False
    alike = np.ptp(steps[indices]) <= WHOLE * steps[indices].min()
    return bool(alike and np.ptp(np.diff(indices)) == 0)


def _in_rows(mask: Mask, least: int) -> Mask:
    """Mask the true values in runs of at least `least`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    out = np.zeros_like(mask)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        out[start:end] = end - start >= least
    return out


def _covered(steps: Array, thicknesses_mm: Sequence[float | None], otherwise_mm: float) -> Mask:
    """Mask the steps whose slices touch; with unknown thickness, the usual steps."""
    thickness = np.array([np.nan if t is None or t <= 0 else t for t in thicknesses_mm])
    mean = (thickness[1:] + thickness[:-1]) / 2
    limit = np.where(np.isnan(mean), otherwise_mm, CONTIGUOUS * mean)
    return np.asarray(steps <= limit, dtype=np.bool_)


def _jumps(numbers: Sequence[int | None]) -> Array:
    """Increments of the instance numbers, relative to the usual one; NaN where unknown."""
    known = np.array([np.nan if n is None else n for n in numbers], dtype=np.float64)
    jumps = np.abs(np.diff(known))
    jumps[jumps == 0] = np.nan
    if np.isnan(jumps).all():
        return jumps
    return np.asarray(jumps / np.nanmedian(jumps), dtype=np.float64)


def _are_interleaved(
    sorted_mm: Array, numbers: Sequence[int | None], thicknesses_mm: Sequence[float | None]
) -> bool:
    """Whether slices of two acquisitions are interleaved.

    In the order of their numbers, such slices run through the same positions twice. Without usable
    numbers, they are detected by steps that alternate within a slice thickness.
    """
    known = [n for n in numbers if n is not None]
    if len(known) < len(numbers) or len(set(known)) == 1:
        return _alternate(np.diff(sorted_mm), thicknesses_mm)
    if 2 * len(set(known)) <= len(known) + 1:
        return True  # every number twice
    runs = _runs(sorted_mm[np.argsort(known, kind="stable")])
    long = [run for run in runs if len(run) >= max(5, len(known) // 8)]
    spans = sorted((float(run.min()), float(run.max())) for run in long)
    return any(b[0] < a[1] - 1e-6 for a, b in pairwise(spans))


def _runs(values: Array) -> list[Array]:
    """Split a sequence into monotonic runs."""
    cuts: list[int] = []
    rising: bool | None = None
    for i in range(1, len(values)):
        up = bool(values[i] > values[i - 1])
        if rising is None or up == rising:
            rising = up
        else:
            cuts.append(i)
            rising = None
    return np.split(values, cuts)


def _alternate(steps: Array, thicknesses_mm: Sequence[float | None]) -> bool:
    """Whether steps alternate, and two together are within a slice thickness."""
    known = [t for t in thicknesses_mm if t]
    if not known or len(steps) < 4:
        return False
    alike = np.abs(steps[2:] - steps[:-2]) < 0.02
    differ = np.abs(steps[1:] - steps[:-1]) > 0.02
    within = steps[1:] + steps[:-1] <= CONTIGUOUS * float(np.median(known))
    return bool(np.mean(alike) > 0.9 and np.mean(differ) > 0.9 and np.mean(within) > 0.9)


def _where(sorted_mm: Array, gap: int) -> str:
    return f"between {sorted_mm[gap]:.2f} and {sorted_mm[gap + 1]:.2f} mm"


def _steps_text(steps: Array) -> str:
    return f"steps from {steps.min():.2f} to {steps.max():.2f} mm"
