"""Lazy array of HU for a scan that is too large for memory, read slab by slab.

A scan of 1024 x 1024 x 700 voxels is 1.5 GB as HU, and 28 MB on the model grid. So a scan larger
than `HELD_VOXELS` is represented by `Slabs`, from which the resampling reads what it needs. The
functions of this module accept arrays and `Slabs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt

HELD_VOXELS = 250_000_000
"""Largest scan held in memory (0.5 GB, 950 slices of 512 x 512)."""

PIECE_VOXELS = 1 << 23
"""Voxels of a piece, or one slice where that is more."""

Hu = npt.NDArray[np.int16]
Fill = Callable[[int, Hu], None]
"""Called with a first slice index and an array (n, rows, columns), which it fills with HU."""


class Slabs:
    """HU with axes (slice, row, column), read anew at each access.

    Parameters
    ----------
    shape : tuple of int
        Slices, rows, columns, in the order in which they are stored.
    fill : callable
        Fills an array with the HU of consecutive slices; called from several threads.

    Notes
    -----
    Implements the metadata of an array (`shape`, `ndim`, `size`, `dtype`, `len`), slicing of the
    first axis without reading, and conversion by ``np.asarray``.
    """

    dtype = np.dtype(np.int16)
    ndim = 3

    def __init__(self, shape: tuple[int, int, int], fill: Fill) -> None:
        self.shape = shape
        self._fill = fill
        self._sampled: dict[str, Hu] = {}

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: slice) -> Slabs:
        """Select consecutive slices, without reading them."""
        start, stop, step = key.indices(len(self))
        if step != 1:
            raise TypeError("slabs are read one slice after the other; use np.asarray first")
        fill = self._fill
        return Slabs(
            (max(0, stop - start), *self.shape[1:]), lambda first, out: fill(start + first, out)
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read all voxels."""
        out = np.empty(self.shape, np.int16)
        for first in range(0, len(self), count_of_piece(self.shape)):
            self._fill(first, out[first : first + count_of_piece(self.shape)])
        return out if dtype is None else out.astype(dtype, copy=False)

    def change(self, change: Callable[[Hu], None]) -> None:
        """Apply an in-place function to each slice (rows, columns) whenever it is read."""
        before = self._fill

        def fill(first: int, out: Hu) -> None:
            before(first, out)
            for plane in out:
                change(plane)

        self._fill = fill
        self.forget()

    def pieces(self) -> Iterator[tuple[int, Hu]]:
        """Read piece by piece: the index of the first slice, and HU."""
        count = count_of_piece(self.shape)
        for first in range(0, len(self), count):
            out = np.empty((min(count, len(self) - first), *self.shape[1:]), np.int16)
            self._fill(first, out)
            yield first, out

    def sample(self) -> tuple[Hu, Hu]:
        """Return every fourth row and column of all slices, and their corners; cached."""
        if not self._sampled:
            side = corner_side(self.shape)
            n, rows, columns = self.shape
            thin = np.empty((n, -(-rows // 4), -(-columns // 4)), np.int16)
            corners = np.empty((n, 2 * side, 2 * side), np.int16)
            for first, piece in self.pieces():
                here = slice(first, first + len(piece))
                thin[here] = piece[:, ::4, ::4]
                corners[here] = _corners(piece, side)
            self._sampled = {"thin": thin, "corners": corners}
        return self._sampled["thin"], self._sampled["corners"]

    def forget(self) -> None:
        """Drop the cache of `sample`."""
        self._sampled = {}


def is_slabs(array: object) -> bool:
    """Whether an array is `Slabs`: `Volume.array`, typed as ndarray, may be either."""
    return isinstance(array, Slabs)


def as_volume_array(array: Hu | Slabs) -> Hu:
    """Cast an array or `Slabs` to the declared type of `Volume.array`."""
    return cast("Hu", array)


def count_of_piece(shape: tuple[int, ...]) -> int:
    """Slices in a piece of `PIECE_VOXELS`."""
    return max(1, PIECE_VOXELS // max(1, shape[1] * shape[2]))


def pieces(array: npt.NDArray[Any] | Slabs) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Iterate over an array in pieces of slices: index of the first slice, and the piece."""
    if isinstance(array, Slabs):
        yield from array.pieces()
        return
    count = count_of_piece(array.shape)
    for first in range(0, len(array), count):
        yield first, array[first : first + count]


def thinned(array: npt.NDArray[Any] | Slabs, axis: int = 0) -> npt.NDArray[Any]:
    """Subsample an array: all slices along an axis, every fourth row and column.

    Parameters
    ----------
    array : ndarray or Slabs, shape (z, y, x)
    axis : int
        Of the slices; the first axis of the returned array.

    Returns
    -------
    ndarray
    """
    if not isinstance(array, Slabs):
        return np.asarray(np.moveaxis(array, axis, 0)[:, ::4, ::4])
    if axis == 0:
        return array.sample()[0]
    along = (slice(None, None, 4), slice(None), slice(None, None, 4))
    if axis == 2:
        along = (slice(None, None, 4), slice(None, None, 4), slice(None))
    # A piece may start anywhere: -first % 4 is its first slice with an index divisible by 4.
    parts = [piece[-first % 4 :][along] for first, piece in array.pieces()]
    return np.moveaxis(np.concatenate(parts), axis, 0)


def corner_side(shape: tuple[int, ...]) -> int:
    """Side of a corner: a 64th of the shorter side of a slice."""
    return max(1, min(shape[1:]) // 64)


def corner_voxels(array: npt.NDArray[Any] | Slabs) -> npt.NDArray[Any]:
    """Return the four corners of all slices, shape (slices, 2 * side, 2 * side)."""
    if isinstance(array, Slabs):
        return array.sample()[1]
    return _corners(array, corner_side(array.shape))


def _corners(array: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    ends = np.r_[:side, -side:0]
    return np.asarray(array[:, ends[:, None], ends])
