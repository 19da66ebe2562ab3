"""Windows: which pieces of the lung box go to the server, and what each must be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import TooLargeError
from .refusals import RefusedError
from .schema import Contract, HuRange, Shape, WindowSpec

_FP16_OF_INT16 = np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.float16)
"""Every int16 as FP16, by its bits: a look-up is twice as fast as numpy's own conversion."""

_FP16_SIGN = 0x8000
"""Bits of -0.0 in FP16."""


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


def choose_shape(box_shape: Shape, windows: WindowSpec, *, widen: bool = True) -> Shape:
    """Choose the window shape that covers a box with the fewest voxels.

    All shapes that the server takes are weighed, since any of them runs equally fast for its size.

    Parameters
    ----------
    box_shape : tuple of int
        Voxels (z, y, x).
    windows : WindowSpec
        Bounds of the windows, least overlap.
    widen : bool, optional
        Whether an edge may be longer than the box: one window, and `fit_box` widens the box to it.

    Returns
    -------
    tuple of int
        Of equals, the shape with the fewest windows, and of these the one with the shortest z edge.

    Raises
    ------
    ValueError
        The box must not be widened and is shorter than the shortest window.
    """
    edges = [_edges(axis, n, windows, widen=widen) for axis, n in enumerate(box_shape)]
    best: tuple[int, int, Shape] | None = None
    for (z, nz), (y, ny), (x, nx) in product(*edges):
        if z * y * x <= windows.maximum_voxels:
            count = nz * ny * nx
            rank = (count * z * y * x, count, (z, y, x))
            best = rank if best is None else min(best, rank)
    if best is None:
        raise ValueError(f"{box_shape} is smaller than the smallest window {windows.minimum}")
    return best[2]


def _edges(axis: int, length: int, windows: WindowSpec, *, widen: bool) -> list[tuple[int, int]]:
    """Edges worth trying along one axis: the shortest for each count of windows, and that count."""
    shortest: dict[int, int] = {}
    longest = windows.maximum[axis] if widen else min(windows.maximum[axis], length)
    for edge in range(windows.minimum[axis], longest + 1, windows.multiple):
        count = len(axis_origins(max(length, edge), edge, windows.minimum_overlap))
        shortest.setdefault(count, edge)
    return [(edge, count) for count, edge in shortest.items()]


def plan_windows(box_shape: Shape, contract: Contract) -> WindowPlan:
    """Cover a box with windows of the shape that takes the fewest voxels.

    Every voxel of the box lies in a window. None is left out for holding no lung: the box is tight,
    so that such windows hardly exist, and the server's check that every voxel has weight stays
    whole.

    Parameters
    ----------
    box_shape : tuple of int
        Voxels (z, y, x) of a box that `fit_box` made.
    contract : Contract
        Bounds of the windows, least overlap, limits.

    Returns
    -------
    WindowPlan
        The same for the same box, always. Origins never fall back in z: the server lets go of what
        no later window can touch.

    Raises
    ------
    TooLargeError
        More voxels or windows than the contract allows.
    ValueError
        The box is shorter than the shortest window; see `fit_box`.
    """
    limits, windows = contract.limits, contract.windows
    voxels = math.prod(box_shape)
    if voxels > limits.box_voxels:
        raise TooLargeError(
            f"the lung box has {box_shape} = {voxels} voxels, more than the "
            f"{limits.box_voxels} that the server takes; check the spacing of the scan",
            f"holds {voxels} voxels, the limit is {limits.box_voxels}",
        )
    shape = choose_shape(box_shape, windows, widen=False)
    axes = [
        axis_origins(n, p, windows.minimum_overlap) for n, p in zip(box_shape, shape, strict=True)
    ]
    # Counted before they are listed: the limit holds before memory is taken.
    count = math.prod(map(len, axes))
    if count > limits.windows:
        raise TooLargeError(
            f"the lung box of {box_shape} voxels takes {count} windows, more than the "
            f"{limits.windows} that the server takes; check the spacing of the scan",
            f"takes {count} windows, the limit is {limits.windows}",
        )
    return WindowPlan(shape, tuple((z, y, x) for z, y, x in product(*axes)))


def fit_box(start: Shape, stop: Shape, grid_shape: Shape, contract: Contract) -> Box:
    """Widen a box to at least the window that will cover it, with real tissue where there is some.

    The box grows to both sides alike and is moved into the grid; only where the grid itself is
    shorter than a window does it reach past its end.

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
    z, y, x = (b - a for a, b in zip(start, stop, strict=True))
    return _fit(start, stop, grid_shape, choose_shape((z, y, x), contract.windows))


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
    if piece.shape != shape:
        window = np.full(shape, padding, dtype=np.float16)
        window[tuple(slice(0, n) for n in piece.shape)] = piece
        return window
    if piece.dtype != np.int16:
        return np.ascontiguousarray(piece, dtype=np.float16)
    window = np.empty(shape, dtype=np.float16)
    for values, out in zip(piece.view(np.uint16), window, strict=True):
        np.take(_FP16_OF_INT16, values, out=out, mode="clip")
    return window


def check_window(window: npt.NDArray[Any], windows: WindowSpec, hu: HuRange) -> Shape:
    """Refuse what is not one window of HU.

    Parameters
    ----------
    window : ndarray
        Must be float16 of shape (1, 1, z, y, x).
    windows : WindowSpec
        Accepted shapes.
    hu : HuRange
        Accepted values, `minimum … maximum`.

    Returns
    -------
    tuple of int
        Shape of the window (z, y, x).

    Raises
    ------
    RefusedError
        Names the value.
    """
    if window.dtype != np.float16:
        raise RefusedError(f"window is {window.dtype}, must be float16")
    if window.ndim != 5 or window.shape[:2] != (1, 1):
        raise RefusedError(f"window has shape {window.shape}, must be (1, 1, z, y, x)")
    depth, height, width = window.shape[2:]
    if not windows.takes((depth, height, width)):
        raise RefusedError(f"window has shape {window.shape[2:]}, must have {windows}")
    if not holds_only(window, hu.minimum, hu.maximum):
        inside = (window >= hu.minimum) & (window <= hu.maximum)
        value = window[~inside][0]
        raise RefusedError(f"window holds {value}, must hold HU of {hu.minimum} to {hu.maximum}")
    return depth, height, width


def holds_only(values: npt.NDArray[np.float16], minimum: int, maximum: int) -> bool:
    """Return whether FP16 values lie between two bounds; NaN and infinity do not.

    Looks at the bits, since numpy's own comparisons of FP16 are many times slower. Those of a
    positive value grow with it, read as int16; those of a negative one grow with its size, read as
    uint16. NaN and infinity have the largest of either sign.

    Parameters
    ----------
    values : ndarray of float16
    minimum, maximum : int
        At most 0, and at least 0.
    """
    bits = np.ascontiguousarray(values).view(np.int16)
    highest = np.float16(maximum).view(np.int16)
    lowest = np.float16(minimum).view(np.uint16) if minimum else np.uint16(_FP16_SIGN)
    return bool(bits.max(initial=0) <= highest) and bool(
        bits.view(np.uint16).max(initial=0) <= lowest
    )
