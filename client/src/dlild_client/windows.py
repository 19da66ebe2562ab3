"""Windows: which pieces of the lung box go to the server. Pure functions on shapes and arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.errors import TooLarge

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A box of the grid, in voxels (z, y, x): `start` is inside, `stop` one past the end.

    `start` is never negative; `stop` lies beyond the grid where the grid is shorter than a window.
    """

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        """Voxels along (z, y, x)."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


@dataclass(frozen=True)
class WindowPlan:
    """Windows of one shape that cover a box.

    Attributes
    ----------
    shape : tuple of int
        Shape of every window (z, y, x).
    origins : tuple of tuple of int
        First voxel of each window in the box (z, y, x), in the order in which they are sent.
    """

    shape: Shape
    origins: tuple[Shape, ...]

    @property
    def voxels(self) -> int:
        """Voxels that are sent, overlaps counted as often as they are sent."""
        return len(self.origins) * math.prod(self.shape)


def axis_origins(length: int, window: int, minimum_overlap: float) -> tuple[int, ...]:
    """Evenly spread origins of windows along one axis, as few as the overlap allows.

    Parameters
    ----------
    length : int
        Voxels to cover, at least `window`.
    window : int
        Voxels of a window.
    minimum_overlap : float
        Least overlap of neighbours, as a share of the window, below 1.

    Returns
    -------
    tuple of int
        The first is 0, the last ``length - window``; no step is longer than
        ``window * (1 - minimum_overlap)``.
    """
    if length < window:
        raise ValueError(f"{length} voxels are shorter than a window of {window}")
    longest_step = max(1, math.floor(window * (1 - minimum_overlap) + 1e-9))
    steps = math.ceil((length - window) / longest_step)
    return tuple((length - window) * i // steps for i in range(steps + 1)) if steps else (0,)


def plan_windows(box_shape: Shape, contract: Contract) -> WindowPlan:
    """Choose the window shape and origins that cover a box with the fewest voxels.

    Parameters
    ----------
    box_shape : tuple of int
        Voxels (z, y, x), at least one of the contract's window shapes along every axis.
    contract : Contract
        Window shapes, least overlap, limits.

    Returns
    -------
    WindowPlan
        The same for the same box, always.

    Raises
    ------
    TooLarge
        More voxels or windows than the contract allows.
    ValueError
        The box is shorter than every window shape; see `fit_box`.
    """
    limits = contract.limits
    if math.prod(box_shape) > limits.box_voxels:
        raise TooLarge(
            f"the lung box has {box_shape} = {math.prod(box_shape)} voxels, more than the "
            f"{limits.box_voxels} that the server takes; check the spacing of the scan"
        )
    plans = [
        _tile(box_shape, shape, contract.windows.minimum_overlap)
        for shape in contract.windows.shapes
        if all(n >= p for n, p in zip(box_shape, shape, strict=True))
    ]
    if not plans:
        raise ValueError(
            f"a box of {box_shape} is shorter than every window {contract.windows.shapes}"
        )
    plan = min(plans, key=lambda p: p.voxels)
    if len(plan.origins) > limits.windows:
        raise TooLarge(
            f"the lung box of {box_shape} voxels takes {len(plan.origins)} windows, more than the "
            f"{limits.windows} that the server takes; check the spacing of the scan"
        )
    return plan


def _tile(box_shape: Shape, window: Shape, overlap: float) -> WindowPlan:
    axes = [axis_origins(n, p, overlap) for n, p in zip(box_shape, window, strict=True)]
    return WindowPlan(window, tuple((z, y, x) for z, y, x in product(*axes)))


def fit_box(start: Shape, stop: Shape, grid_shape: Shape, contract: Contract) -> Box:
    """Widen a box to at least a window, with real tissue where the grid has it.

    Of the contract's shapes the one that widens the box least is used. The box grows to both sides
    alike and is moved into the grid; only where the grid itself is shorter than a window does it
    reach past its end.

    Parameters
    ----------
    start, stop : tuple of int
        The box in the grid (z, y, x), within it and not empty.
    grid_shape : tuple of int
        Voxels of the grid.
    contract : Contract

    Returns
    -------
    Box
    """
    fitted = [_fit(start, stop, grid_shape, shape) for shape in contract.windows.shapes]
    return min(fitted, key=lambda box: math.prod(box.shape))


def _fit(start: Shape, stop: Shape, grid_shape: Shape, window: Shape) -> Box:
    starts, stops = [], []
    for a, b, n, p in zip(start, stop, grid_shape, window, strict=True):
        if not 0 <= a < b <= n:
            raise ValueError(f"the box {start} to {stop} is not within the grid {grid_shape}")
        length = max(b - a, p)
        first = a - (length - (b - a)) // 2
        first = max(0, min(first, n - length))
        starts.append(first)
        stops.append(first + length)
    return Box((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))


def extract_window(
    grid: npt.NDArray[Any], box: Box, origin: Shape, shape: Shape, padding: int
) -> npt.NDArray[np.float16]:
    """Cut one window out of the grid.

    Parameters
    ----------
    grid : ndarray, shape (z, y, x)
        HU.
    box : Box
        The lung box in the grid.
    origin, shape : tuple of int
        First voxel of the window in the box, and its shape.
    padding : int
        HU beyond the grid.

    Returns
    -------
    ndarray, shape `shape`
        float16, contiguous. Whole HU are exact between -2048 and 2048.
    """
    first = [a + o for a, o in zip(box.start, origin, strict=True)]
    piece = grid[tuple(slice(a, a + p) for a, p in zip(first, shape, strict=True))]
    if piece.shape == shape:
        return np.ascontiguousarray(piece, dtype=np.float16)
    window = np.full(shape, padding, dtype=np.float16)
    window[tuple(slice(0, n) for n in piece.shape)] = piece
    return window
