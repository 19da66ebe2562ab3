"""Separable resampling with a triangle kernel, also across uneven slices and gaps.

A loop of small sums: on a busy machine many times faster than a matrix product, whose threads wait
for each other, and bitwise identical for any number of threads. Pieces fit into the cache, and each
thread reuses its buffers: the kernel zeroes fresh memory, which costs as much as the computation.

Between slices that touch, values are interpolated at the true positions. In a gap nothing was
measured, and interpolation would fade vessels over a centimetre, which the network takes for
fibrosis: so each slice is extended to the middle of the gap, smoothed in its plane about as much as
touching slices smooth each other, because its noise is extended, too. `docs/inputs.md` has the
measured effect of gaps on the index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import HuRange
from dlild_client.slabs import Slabs, pieces
from dlild_client.volume import Volume

Float = npt.NDArray[np.float32]

_THREADS = 2
_SLAB = 16  # slices of the input worked on at once
_TURNED = 64  # rows turned at once: four cache lines of what is written
GAP_SMOOTHING_MM = 0.75
"""Standard deviation of the smoothing of slices that are repeated across a gap.

A voxel of 1.5 mm is a weighted mean of touching slices of 1 mm, with 0.66 of their noise; in a gap
it is one slice. The smoothing leaves 0.64 of white noise.
"""

_APART = 16  # floats between rows: avoids cache conflicts of rows a power of two long


@dataclass(frozen=True)
class Band:
    """Resampling along one axis: output `i` is ``taps[i] @ input[first[i] : first[i] + k]``.

    Attributes
    ----------
    first : ndarray, shape (n_out,)
        First input voxel with weight.
    taps : ndarray, shape (n_out, k)
        float32; rows sum to one.
    in_gap : ndarray of bool, shape (n_out,), optional
        Output slices in a gap, which repeat one input slice: they are smoothed in their plane
        (`smoothing_taps`). Used along the first axis only.
    """

    first: npt.NDArray[np.intp]
    taps: Float
    in_gap: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Return the number of output voxels."""
        return len(self.first)


def triangle_band(n_in: int, spacing_in: float, n_out: int, spacing_out: float) -> Band:
    """Weights of a triangle kernel between two evenly spaced axes with a common centre.

    The half-width of the kernel is the larger spacing: linear interpolation where the output is
    finer, a weighted mean where it is coarser. Beyond the outermost centres the edge is repeated.

    Parameters
    ----------
    n_in, n_out : int
        Voxels of the input and the output.
    spacing_in, spacing_out : float
        In mm.
    """
    width = max(spacing_in, spacing_out) / spacing_in
    centres = (np.arange(n_out) - (n_out - 1) / 2) * (spacing_out / spacing_in) + (n_in - 1) / 2
    centres = np.clip(centres, 0, n_in - 1)
    k = min(n_in, int(np.ceil(2 * width)) + 1)
    first = np.clip(np.floor(centres - width).astype(np.intp) + 1, 0, n_in - k)
    distance = np.abs(centres[:, None] - (first[:, None] + np.arange(k)))
    taps = np.maximum(0.0, 1 - distance / width)
    return Band(first, (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32))


def resample(
    array: npt.NDArray[Any] | Slabs,
    spacing: Sequence[float],
    shape: tuple[int, int, int],
    target: Sequence[float],
    hu: HuRange,
    other_bands: Mapping[int, Band] | None = None,
) -> npt.NDArray[np.int16]:
    """Resample a volume along its own axes, about its own centre.

    Parameters
    ----------
    array : ndarray or Slabs, shape (z, y, x)
        HU.
    spacing, target : sequence of float
        Of the input and the output, in mm.
    shape : tuple of int
        Voxels of the output.
    hu : HuRange
        Range that HU are clipped to before averaging.
    other_bands : mapping of int to Band, optional
        Weights for some axes, instead of those of the triangle kernel.

    Returns
    -------
    ndarray of int16, shape `shape`
        HU within the range.
    """
    others = other_bands or {}
    bands = [
        others[i] if i in others
        else triangle_band(array.shape[i], spacing[i], shape[i], target[i])
        for i in range(3)
    ]  # fmt: skip
    out = np.empty(shape, dtype=np.int16)
    smoothing = (smoothing_taps(target[1]), smoothing_taps(target[2]))

    def work(part: int) -> None:
        slices = range(shape[0] * part // _THREADS, shape[0] * (part + 1) // _THREADS)
        _fill(out, slices, array, bands, hu, smoothing)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(_THREADS)))
    return out


class _Buffers:
    """Reusable arrays of one thread, by name."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """Return an uninitialised array; invalidates the previous one of this name."""
        kept = self._kept.setdefault(name, np.empty(0, dtype))
        size = math.prod(shape)
        if kept.size < size:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)

    def rows(self, name: str, count: int, length: int) -> Float:
        """Return an array of padded rows."""
        apart: Float = self.array(name, (count, length + _APART))[:, :length]
        return apart


def _fill(
    out: npt.NDArray[np.int16],
    slices: range,
    array: npt.NDArray[Any] | Slabs,
    bands: Sequence[Band],
    hu: HuRange,
    smoothing: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    """Resample some output slices; hold only the input planes that they need."""
    depth, rows, columns = bands
    buffers = _Buffers()
    taps = depth.taps.shape[1]
    planes = np.empty((max(_SLAB, taps) + taps, *out.shape[1:]), dtype=np.float32)
    begin = end = 0  # slices of the input whose planes are held
    for i in slices:
        first = int(depth.first[i])
        if first + taps > end:
            kept = max(0, end - first)
            planes[:kept] = planes[first - begin : first - begin + kept]
            begin, end = first, first + kept
            slab = array[end : end + max(_SLAB, taps)]
            for at, part in pieces(slab):
                target = planes[kept + at : kept + at + len(part)]
                _resample_planes(part, rows, columns, hu, buffers, target)
            end += len(slab)
        values = buffers.array("values of a plane", out.shape[1:])
        held = planes[first - begin : first - begin + taps]
        _sum_up(depth.taps[i], held.reshape(taps, -1), values.reshape(-1))
        if depth.in_gap is not None and depth.in_gap[i]:
            _smooth(values, smoothing)
        # Rounded means of values within the HU range stay within it.
        out[i] = np.rint(values, out=values)


def _resample_planes(
    slab: npt.NDArray[Any], rows: Band, columns: Band, hu: HuRange, buffers: _Buffers, out: Float
) -> None:
    """Resample slices in their plane: (n, n_rows, n_columns) to (n, ny, nx)."""
    n, n_rows, n_columns = slab.shape
    # Clip first: padding of -2000 or -3024 must not bleed into the body.
    clipped = buffers.array("clipped", slab.shape, slab.dtype)
    np.clip(slab, hu.minimum, hu.maximum, out=clipped)
    values = buffers.array("values", (n_rows, n, n_columns))
    np.copyto(values, clipped.transpose(1, 0, 2))
    by_row = _apply(rows, values, buffers.rows("by row", len(rows), n * n_columns))
    turned = buffers.array("turned", (n_columns, n, len(rows)))
    _put_columns_first(by_row, turned)
    by_column = _apply(columns, turned, buffers.rows("by column", len(columns), n * len(rows)))
    out[...] = by_column.transpose(1, 2, 0)


def smoothing_taps(spacing_mm: float) -> tuple[float, float]:
    """Weights (centre, neighbour) of a narrow, normalised Gaussian kernel."""
    beside = math.exp(-0.5 * (spacing_mm / GAP_SMOOTHING_MM) ** 2)
    return 1 / (1 + 2 * beside), beside / (1 + 2 * beside)


def _smooth(plane: Float, smoothing: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Smooth a plane (y, x) in place along both axes; edges are repeated."""
    for axis, (centre, beside) in enumerate(smoothing):
        lines = np.moveaxis(plane, axis, 0)
        padded = np.concatenate([lines[:1], lines, lines[-1:]])
        lines[...] = np.float32(centre) * lines + np.float32(beside) * (padded[:-2] + padded[2:])


def _sum_up(taps: Float, values: Float, out: Float) -> None:
    """Compute the weighted sum of k rows of m values."""
    np.einsum("k,km->m", taps, values, out=out)


def _apply(band: Band, array: Float, out: Float) -> Float:
    """Resample (n_in, a, b) along the first axis; `out` has shape (n_out, a * b)."""
    flat = array.reshape(len(array), -1)
    for i, first in enumerate(band.first.tolist()):
        taps = band.taps[i]
        _sum_up(taps, flat[first : first + len(taps)], out[i])
    return out.reshape(len(band), *array.shape[1:])


def _put_columns_first(rows: Float, out: Float) -> None:
    """Transpose (row, slice, column) to (column, slice, row).

    In blocks of rows, whose cache lines are used fully: many times as fast as the copy of numpy.
    """
    for z in range(rows.shape[1]):
        for low in range(0, len(rows), _TURNED):
            out[:, z, low : low + _TURNED] = rows[low : low + _TURNED, z].T


Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GAP_MM = 5.0
"""Narrower steps are not gaps: there interpolation changes the index less."""

GAP_THICKNESSES = 2.0
"""Steps up to this many slice thicknesses are not gaps."""

TIE_MM = 0.01
"""Voxels this close to the middle of a gap are the mean of both slices."""


def find_gaps(volume: Volume) -> Mask:
    """Mask the steps between slices that are gaps, shape (n - 1,).

    Where the slice thickness is unknown, slices are assumed to touch.
    """
    steps = np.diff(_positions_mm(volume))
    if volume.slice_thicknesses_mm is None:
        return np.zeros(len(steps), dtype=np.bool_)
    thickness = np.array(volume.slice_thicknesses_mm)
    mean = (thickness[1:] + thickness[:-1]) / 2
    return np.asarray((steps > GAP_MM) & (steps > GAP_THICKNESSES * mean), dtype=np.bool_)


def has_plain_slices(volume: Volume) -> bool:
    """Whether slices are evenly spaced without gaps, for the triangle kernel."""
    return volume.slice_positions_mm is None and not find_gaps(volume).any()


def slice_faces_mm(volume: Volume) -> tuple[float, float]:
    """Outer faces of the first and the last slice: half a step beyond their centres."""
    positions = _positions_mm(volume)
    low = positions[0] - (positions[1] - positions[0]) / 2
    return float(low), float(positions[-1] + (positions[-1] - positions[-2]) / 2)


def slice_band(volume: Volume, count: int, spacing_mm: float, *, backwards: bool = False) -> Band:
    """Weights of slices for evenly spaced voxels, centred between the faces of the stack.

    Parameters
    ----------
    volume : Volume
        With its slices along axis 0, two or more.
    count : int
        Voxels of the output.
    spacing_mm : float
        Of the output.
    backwards : bool
        Output and input array run from the last slice to the first.

    Returns
    -------
    Band
    """
    positions, gaps = _positions_mm(volume), find_gaps(volume)
    centre = sum(slice_faces_mm(volume)) / 2
    if backwards:
        positions, gaps, centre = -positions[::-1], gaps[::-1], -centre
    wanted = np.round(centre + (np.arange(count) - (count - 1) / 2) * spacing_mm, 6)
    return _as_band(
        _weights(positions, gaps, wanted, spacing_mm), gaps[_steps_of(positions, wanted)]
    )


def _steps_of(positions: Array, wanted: Array) -> npt.NDArray[np.intp]:
    """Index of the step that contains each position; beyond the ends, the outermost."""
    steps = np.searchsorted(positions, wanted, side="right") - 1
    return np.asarray(np.clip(steps, 0, len(positions) - 2), dtype=np.intp)


def _positions_mm(volume: Volume) -> Array:
    """Distances of the slices from the first, along axis 0."""
    if volume.slice_positions_mm is not None:
        return np.array(volume.slice_positions_mm)
    return np.arange(len(volume.array), dtype=np.float64) * np.float64(volume.spacing_mm[0])


def _weights(positions: Array, gaps: Mask, wanted: Array, spacing_mm: float) -> Array:
    """Weights, shape (voxels, slices), not normalised.

    Where slices are at least a voxel apart: linear interpolation, or the nearest slice in a gap.
    Where they are closer: a triangle as wide as a voxel, times the length that each slice
    represents.
    """
    at = np.clip(wanted, positions[0], positions[-1])
    before = _steps_of(positions, at)
    step = np.diff(positions)[before]
    share = (at - positions[before]) / step
    beyond_middle = (share - 0.5) * step
    nearest = np.where(np.abs(beyond_middle) < TIE_MM, 0.5, beyond_middle > 0)
    share = np.where(gaps[before], nearest, share)
    rows = np.arange(len(at))
    weights = np.zeros((len(at), len(positions)))
    weights[rows, before] = 1 - share
    weights[rows, before + 1] = share
    fine = step < spacing_mm
    halves = np.minimum(np.diff(positions), spacing_mm) / 2
    length = np.concatenate([halves[:1], halves[1:] + halves[:-1], halves[-1:]])
    distance = np.abs(at[fine, None] - positions)
    weights[fine] = np.maximum(0.0, 1 - distance / spacing_mm) * length
    return weights


def _as_band(weights: Array, in_gap: Mask) -> Band:
    """Convert a weight matrix to a band of its non-zero weights."""
    used = weights > 0
    first = used.argmax(axis=1)
    last = weights.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    k = int((last - first).max()) + 1
    first = np.minimum(first, weights.shape[1] - k)
    taps = np.take_along_axis(weights, first[:, None] + np.arange(k), axis=1)
    return Band(first, (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32), in_gap)
