"""Separable resampling: along one axis after the other, by a triangle kernel.

A loop of small sums: on a busy machine it is many times faster than a matrix product, whose threads
wait for each other, and it gives the same bits whatever the number of threads. The pieces are as
large as the cache, and each thread works in the same memory from piece to piece: memory that is
fresh from the kernel is cleared first, which costs as much as the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import HuRange

Float = npt.NDArray[np.float32]

_THREADS = 2
_SLAB = 16  # slices worked on at once
_TURNED = 64  # rows turned at once: four cache lines of what is written
_APART = 16  # floats between rows: else rows a power of two long push each other out of the cache
_PART = 16384  # voxels of a plane that are resampled in depth at once


@dataclass(frozen=True)
class Band:
    """Resampling along one axis: output `i` is ``taps[i] @ input[first[i] : first[i] + k]``.

    Attributes
    ----------
    first : ndarray, shape (n_out,)
        First input voxel that counts.
    taps : ndarray, shape (n_out, k)
        float32; rows sum to one.
    """

    first: npt.NDArray[np.intp]
    taps: Float

    def __len__(self) -> int:
        """Return the voxels of the output."""
        return len(self.first)

    def sum_up(self, i: int, array: Float, out: Float) -> None:
        """Write output `i` of an input of shape (n_in, m) along its first axis: m values."""
        first, taps = int(self.first[i]), self.taps[i]
        np.einsum("k,km->m", taps, array[first : first + len(taps)], out=out)


def triangle_band(n_in: int, spacing_in: float, n_out: int, spacing_out: float) -> Band:
    """Weights of a triangle kernel between two evenly spaced axes with a common centre.

    The kernel's half-width is the larger spacing: linear interpolation where the output is finer, a
    weighted mean where it is coarser. Beyond the outermost centres the edge voxel goes on.

    Parameters
    ----------
    n_in, n_out : int
        Voxels of the input and the output.
    spacing_in, spacing_out : float
        In mm.
    """
    width = max(spacing_in, spacing_out) / spacing_in
    places = (np.arange(n_out) - (n_out - 1) / 2) * (spacing_out / spacing_in) + (n_in - 1) / 2
    places = np.clip(places, 0, n_in - 1)
    k = min(n_in, int(np.ceil(2 * width)) + 1)
    first = np.clip(np.floor(places - width).astype(np.intp) + 1, 0, n_in - k)
    distance = np.abs(places[:, None] - (first[:, None] + np.arange(k)))
    taps = np.maximum(0.0, 1 - distance / width)
    return Band(first, (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32))


def resample(
    array: npt.NDArray[Any],
    spacing: Sequence[float],
    shape: tuple[int, int, int],
    target: Sequence[float],
    hu: HuRange,
) -> npt.NDArray[np.int16]:
    """Resample a volume along its own axes, about its own centre.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        HU.
    spacing, target : sequence of float
        Of the input and the output, in mm.
    shape : tuple of int
        Voxels of the output.
    hu : HuRange
        What HU are clipped to, before they are averaged.

    Returns
    -------
    ndarray of int16, shape `shape`
        HU within the range.
    """
    depth, rows, columns = (
        triangle_band(array.shape[i], spacing[i], shape[i], target[i]) for i in range(3)
    )
    return _resample_depth(_resample_planes(array, rows, columns, hu), depth)


class _Room:
    """Memory of one thread, by name, used again for every piece."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """Array whose values nobody needs any more; the first one of a name is the largest."""
        kept = self._kept.setdefault(name, np.empty(0, dtype))
        size = math.prod(shape)
        if kept.size < size:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)

    def rows(self, name: str, count: int, length: int) -> Float:
        """Array of rows that lie apart."""
        apart: Float = self.array(name, (count, length + _APART))[:, :length]
        return apart


def _resample_planes(array: npt.NDArray[Any], rows: Band, columns: Band, hu: HuRange) -> Float:
    """Resample every slice in its plane, slab by slab: (n, ny, nx) float32."""
    depth, n_rows, n_columns = array.shape
    out = np.empty((depth, len(rows), len(columns)), dtype=np.float32)

    def work(first: int) -> None:
        room = _Room()
        for low in range(first * _SLAB, depth, _THREADS * _SLAB):
            slab = array[low : low + _SLAB]
            # Padding of -2000 or -3024 must not bleed into the body: values are clipped first.
            clipped = room.array("clipped", slab.shape, array.dtype)
            np.clip(slab, hu.minimum, hu.maximum, out=clipped)
            values = room.array("values", (n_rows, len(slab), n_columns))
            np.copyto(values, clipped.transpose(1, 0, 2))
            by_row = _apply(rows, values, room.rows("by row", len(rows), len(slab) * n_columns))
            turned = room.array("turned", (n_columns, len(slab), len(rows)))
            _put_columns_first(by_row, turned)
            by_column = room.rows("by column", len(columns), len(slab) * len(rows))
            out[low : low + _SLAB] = _apply(columns, turned, by_column).transpose(1, 2, 0)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(_THREADS)))
    return out


def _apply(band: Band, array: Float, out: Float) -> Float:
    """Resample (n_in, a, b) along the first axis; `out` has shape (n_out, a * b)."""
    flat = array.reshape(len(array), -1)
    for i in range(len(band)):
        band.sum_up(i, flat, out[i])
    return out.reshape(len(band), *array.shape[1:])


def _put_columns_first(rows: Float, out: Float) -> None:
    """Copy (row, slice, column) to (column, slice, row).

    A few rows at a time: their cache lines are used up before they are dropped, which makes it many
    times as fast as numpy's own copy.
    """
    for z in range(rows.shape[1]):
        for low in range(0, len(rows), _TURNED):
            out[:, z, low : low + _TURNED] = rows[low : low + _TURNED, z].T


def _resample_depth(planes: Float, band: Band) -> npt.NDArray[np.int16]:
    """Resample along the first axis and round, a part of all planes at a time."""
    flat = planes.reshape(len(planes), -1)
    out = np.empty((len(band), flat.shape[1]), dtype=np.int16)

    def work(low: int) -> None:
        part = flat[:, low : low + _PART]
        values = np.empty(part.shape[1], dtype=np.float32)
        for i in range(len(band)):
            band.sum_up(i, part, values)
            # Means of values within the HU range: rounded, they are within it, too.
            out[i, low : low + _PART] = np.rint(values, out=values)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(0, flat.shape[1], _PART)))
    return out.reshape(-1, *planes.shape[1:])
