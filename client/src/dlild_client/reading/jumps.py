"""HU that jump between slices: a rescale that is lost, or another one, in some slices only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dlild_client.errors import NotHU
from dlild_client.volume import AIR_HU

JUMP_HU = 100.0
"""Neighbouring slices of real scans differ by less, seen over all soft tissue and all air."""

ENDS, JUMP_AT_ENDS_HU = 3, 450.0
"""The first and last slices of a helical scan may be dark: they were seen by part of a turn."""

LEAST_LIKENESS = 0.7
"""Correlation of two slices that show nearly the same; it does not depend on the rescale."""

LEAST_PIXELS = 50
BANDS = ((-1100.0, -850.0), (-200.0, 200.0))
"""Air, and soft tissue, in HU."""

Plane = npt.NDArray[np.floating]


def check_jumps(
    array: npt.NDArray[np.int16],
    names: Sequence[str] | None = None,
    rescales: Sequence[tuple[float, float]] | None = None,
) -> None:
    """Raise `NotHU` where HU jump between slices that show nearly the same.

    What is air, or soft tissue, in one slice is so in the next, but for its edges. A median that
    moves, up from one slice to the next and down the other way, is a change of the grey values.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        HU; every fourth row and column is enough.
    names : sequence of str, optional
        Of the slices, for messages; else they are numbered.
    rescales : sequence of (slope, intercept), optional
        Of the slices, for messages.
    """
    jumps = np.array([jump_hu(a, b) for a, b in pairwise(array)])
    found = np.abs(jumps) > _bounds(len(jumps), rescales)
    if not np.any(found):
        return
    steps = np.where(found, jumps, 0.0)
    levels = np.concatenate([[0.0], np.cumsum(steps)])
    runs = np.concatenate([[0], np.cumsum(steps != 0)])
    # What a wrong slope does depends on the tissue, so levels do not come back to the last HU.
    near = max(JUMP_HU / 2, 0.3 * float(np.abs(jumps).max()))
    odd = np.flatnonzero(np.abs(levels - np.median(levels)) > near).tolist()
    if not odd:
        odd = np.flatnonzero(runs == runs.max()).tolist()
    shown = [names[i] if names else f"slice {i + 1}" for i in odd]
    count = f"{len(odd)} slice{'s' if len(odd) > 1 else ''}"
    listed = ", ".join(shown if len(shown) <= 4 else [*shown[:3], "...", shown[-1]])
    largest = float(jumps[np.argmax(np.abs(jumps))])
    raise NotHU(
        f"HU jump by {abs(largest):.0f} between slices: {count} ({listed}) differ from the others"
        f"{_why(odd, rescales)}; export the original CT"
    )


def jump_hu(a: npt.NDArray[np.int16], b: npt.NDArray[np.int16]) -> float:
    """Change of the grey values from one slice to the next; 0 where none can be told.

    Parameters
    ----------
    a, b : ndarray, shape (rows, columns)
        HU of neighbouring slices.
    """
    x, y = a.ravel().astype(np.float32), b.ravel().astype(np.float32)
    if x.std() < 1 or y.std() < 1 or np.corrcoef(x, y)[0, 1] < LEAST_LIKENESS:
        return 0.0
    there = _moves(x, y)
    back = _moves(y, x)
    # Anatomy that grows or shrinks moves one way only; grey values move both ways.
    found = [
        (f - g) / 2
        for f, g in zip(there, back, strict=True)
        if f is not None and g is not None and f * g < 0 and min(abs(f), abs(g)) > JUMP_HU / 2
    ]
    found += [f for f, g in zip(there, back, strict=True) if f is not None and g is None]
    found += [-g for f, g in zip(there, back, strict=True) if f is None and g is not None]
    return max(found, key=abs, default=0.0)


def _moves(x: Plane, y: Plane) -> list[float | None]:
    """Median change of what is air, or soft tissue, in the first; None where it has too little.

    Where either is at the bottom of the scale nothing may have been measured: the edge of what a
    resampled image shows runs through the body, and is no change of the grey values.
    """
    moves: list[float | None] = []
    measured = (x > AIR_HU) & (y > AIR_HU)
    for low, high in BANDS:
        inside = measured & (x >= low) & (x <= high)
        enough = np.count_nonzero(inside) >= max(LEAST_PIXELS, 0.01 * x.size)
        moves.append(float(np.median(y[inside] - x[inside])) if enough else None)
    return moves


def _bounds(count: int, rescales: Sequence[tuple[float, float]] | None) -> npt.NDArray[np.float64]:
    """Largest jump that each pair of neighbours may have, in HU."""
    bounds = np.full(count, JUMP_HU)
    for i in {*range(min(ENDS, count)), *range(max(0, count - ENDS), count)}:
        if rescales is None or rescales[i] == rescales[i + 1]:
            bounds[i] = JUMP_AT_ENDS_HU
    return bounds


def _why(odd: Sequence[int], rescales: Sequence[tuple[float, float]] | None) -> str:
    if rescales is None:
        return ""
    inside = {rescales[i] for i in odd}
    outside = {rescales[i] for i in range(len(rescales)) if i not in set(odd)}
    if len(inside) != 1 or len(outside) != 1 or inside == outside:
        return ""
    (slope, intercept), (usual_slope, usual_intercept) = inside.pop(), outside.pop()
    return (
        f" (rescale slope {slope:g} and intercept {intercept:g}, the others {usual_slope:g} and "
        f"{usual_intercept:g})"
    )
