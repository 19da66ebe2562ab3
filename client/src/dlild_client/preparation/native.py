"""Samples a label map at the voxels of the scan, as it was scanned.

The label map lies on the model grid. What refers to the voxels of the scan (DICOM SEG,
densitometry) needs the label of each scanned voxel: that of the nearest voxel of the grid, whatever
the orientation, tilt and spacing of the slices. Only the cuboid of the scan that holds labels is
sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.slabs import Slabs, as_volume_array, is_slabs
from dlild_client.volume import Volume

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

SEPARABLE_VOXELS = 0.3
"""Largest error of an index, in voxels of the grid, for sampling axis by axis: a rotation within
the tolerance of `dlild_client.preparation.grid.ALIGNED_COSINE`, which resampling ignores, too."""


TIE_VOXELS = 1e-6
"""A point this close to halfway between two voxels counts as halfway."""


@dataclass(frozen=True)
class Stack:
    """Geometry of the slices of a scan.

    Attributes
    ----------
    origins_mm : ndarray, shape (slices, 3)
        Patient coordinates (x, y, z; LPS) of the centre of the first voxel of each slice; on a
        line, in their order along it.
    down_mm, right_mm : ndarray, shape (3,)
        From one row to the next, and from one column to the next.
    shape : tuple of int
        (rows, columns).
    """

    origins_mm: Array
    down_mm: Array
    right_mm: Array
    shape: tuple[int, int]


@dataclass(frozen=True)
class NativeLabels:
    """Labels of a cuboid of the scan; outside it there are none.

    Attributes
    ----------
    array : ndarray of uint8, shape (slices, rows, columns)
    start : tuple of int
        First slice, row and column.
    """

    array: Labels
    start: tuple[int, int, int]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The cuboid, to index the scan with."""
        k, i, j = (slice(a, a + n) for a, n in zip(self.start, self.array.shape, strict=True))
        return k, i, j


def stack_of(volume: Volume) -> Stack:
    """Geometry of the slices of a volume."""
    indices = np.zeros((len(volume.array), 3))
    indices[:, 0] = np.arange(len(indices))
    steps = np.asarray(volume.direction) * np.asarray(volume.spacing_mm)
    return Stack(volume.points_mm(indices), steps[:, 1], steps[:, 2], volume.shape[1:])


def crop(volume: Volume, grid: Volume, start: Sequence[int], stop: Sequence[int]) -> Volume:
    """Crop a scan to the cuboid that holds a box of the model grid.

    Parameters
    ----------
    volume : Volume
        As it was scanned.
    grid : Volume
        The same on the model grid.
    start, stop : sequence of int
        Of the box, in voxels of the grid (z, y, x).

    Returns
    -------
    Volume
        With a copy of the voxels, so that those of the scan can be freed; lazily, as `Slabs`, for a
        scan that is read so. Without the headers of the source.
    """
    stack = stack_of(volume)
    first, end = _native_box(grid, np.array(start), np.array(stop), stack)
    if end[0] - first[0] < 2:
        first, end = (0, *first[1:]), (len(volume.array), *end[1:])
    (k0, i0, j0), (k1, i1, j1) = first, end
    positions, thicknesses = volume.slice_positions_mm, volume.slice_thicknesses_mm
    return replace(
        volume,
        array=_cropped(volume.array, (slice(k0, k1), slice(i0, i1), slice(j0, j1))),
        origin_mm=tuple(volume.points_mm(first).tolist()),
        slice_positions_mm=positions and tuple(float(p - positions[k0]) for p in positions[k0:k1]),
        slice_thicknesses_mm=thicknesses and thicknesses[k0:k1],
        source=None,
    )


def _cropped(array: npt.NDArray[Any], box: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
    slices, rows, columns = box
    if not is_slabs(array):
        return array[box].copy()
    whole = array[slices]

    def fill(first: int, out: npt.NDArray[np.int16]) -> None:
        for k in range(len(out)):
            plane = np.asarray(whole[first + k : first + k + 1])
            out[k] = plane[0, rows, columns]

    count = len(whole)
    return as_volume_array(
        Slabs((count, rows.stop - rows.start, columns.stop - columns.start), fill)
    )


def sample(labels: Volume, stack: Stack) -> NativeLabels:
    """Sample a label map at the voxels of a scan, by nearest neighbour.

    Parameters
    ----------
    labels : Volume
        uint8, on an evenly spaced grid; 0 where there is none.
    stack : Stack
        Slices of the scan.

    Returns
    -------
    NativeLabels
        The cuboid of the scan that holds all labelled voxels; empty where there are none.
    """
    first, stop = labelled_box(labels.array)
    if (first >= stop).any():
        return NativeLabels(np.zeros((0, 0, 0), np.uint8), (0, 0, 0))
    start, end = _native_box(labels, first, stop, stack)
    # Index on the grid of native voxel (k, i, j): at[k] + i * down + j * right, by grid axis.
    to_index = np.linalg.inv(np.asarray(labels.direction) * np.asarray(labels.spacing_mm))
    at = (stack.origins_mm[start[0] : end[0]] - np.asarray(labels.origin_mm)) @ to_index.T
    down, right = to_index @ stack.down_mm, to_index @ stack.right_mm
    at = at + start[1] * down + start[2] * right
    shape = tuple(b - a for a, b in zip(start, end, strict=True))
    lookup = _separable(at, down, right, shape, labels.shape)
    array = (
        _sample_oblique(labels.array, at, down, right, shape)
        if lookup is None
        else _sample_aligned(labels.array, lookup, first, stop)
    )
    return NativeLabels(array, start)


def labelled_box(labels: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and one past the last labelled voxel along each axis; all 0 where there is none."""
    first, stop = np.zeros(3, np.intp), np.zeros(3, np.intp)
    across: npt.NDArray[np.bool_] = np.any(labels, axis=0)
    for axis, used in enumerate(
        (np.any(labels, axis=(1, 2)), np.any(across, axis=1), np.any(across, axis=0))
    ):
        if used.any():
            first[axis], stop[axis] = np.flatnonzero(used)[[0, -1]] + (0, 1)
    return first, stop


def _native_box(
    labels: Volume, first: npt.NDArray[np.intp], stop: npt.NDArray[np.intp], stack: Stack
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Cuboid of the scan that holds a box of the grid, with a voxel of margin."""
    ends = np.stack([first - 1.0, np.asarray(stop, dtype=float)])
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
    points = labels.points_mm(corners) - stack.origins_mm[0]
    along = stack.origins_mm[-1] - stack.origins_mm[0]
    axes = np.stack([along, stack.down_mm, stack.right_mm], axis=1)
    reached = points @ np.linalg.inv(axes).T
    low, high = reached.min(axis=0), reached.max(axis=0)
    length = along @ along
    shares = (stack.origins_mm - stack.origins_mm[0]) @ along / length
    slices = np.flatnonzero((shares >= low[0]) & (shares <= high[0]))
    k = (int(slices[0]), int(slices[-1]) + 1) if slices.size else (0, 0)
    bounds = [k]
    for low_index, high_index, count in zip(low[1:], high[1:], stack.shape, strict=True):
        bounds.append(
            (
                min(count, max(0, int(np.floor(low_index)))),
                max(0, min(count, int(np.ceil(high_index)) + 1)),
            )
        )
    (k0, k1), (i0, i1), (j0, j1) = bounds
    return (k0, i0, j0), (k1, max(i0, i1), max(j0, j1))


def _separable(
    at: Array,
    down: Array,
    right: Array,
    shape: tuple[int, ...],
    grid_shape: tuple[int, int, int],
) -> list[tuple[int, npt.NDArray[np.intp]]] | None:
    """Native axis along each grid axis, and the index on the grid of its voxels.

    None for an oblique scan.
    """
    middle = [(n - 1) / 2 for n in shape]
    centre = at.mean(axis=0) if len(at) else np.zeros(3)
    parts = [
        at - centre,
        *(np.outer(np.arange(n), step) for n, step in zip(shape[1:], (down, right), strict=True)),
    ]
    parts[1:] = [
        part - m * step for part, m, step in zip(parts[1:], middle[1:], (down, right), strict=True)
    ]
    centre = centre + middle[1] * down + middle[2] * right
    found = []
    for axis in range(3):
        reach = [np.abs(part[:, axis]).max(initial=0.0) for part in parts]
        main = int(np.argmax(reach))
        if sum(reach) - reach[main] > SEPARABLE_VOXELS:
            return None
        found.append((main, _nearest(centre[axis] + parts[main][:, axis], grid_shape[axis])))
    return found if sorted(main for main, _ in found) == [0, 1, 2] else None


def _nearest(at: Array, count: int) -> npt.NDArray[np.intp]:
    """Index of the nearest voxel of the grid; halfway between two, the one nearer its middle.

    Slices of 3 mm all lie halfway between voxels of 1.5 mm: so the rule must neither depend on
    rounding errors, nor on the side from which the scan is read.
    """
    to_middle = np.sign((count - 1) / 2 - at)
    return np.asarray(np.floor(at + TIE_VOXELS * to_middle + 0.5), dtype=np.intp)


def _sample_aligned(
    labels: Labels,
    lookup: list[tuple[int, npt.NDArray[np.intp]]],
    first: npt.NDArray[np.intp],
    stop: npt.NDArray[np.intp],
) -> Labels:
    """Axis by axis, of the labelled box alone: beyond it there are no labels.

    The last axis first, while there is least to take: along the others whole rows are copied.
    """
    out = labels[tuple(slice(a, b) for a, b in zip(first, stop, strict=True))]
    for axis, (_, index) in reversed(list(enumerate(lookup))):
        inside = np.clip(index, first[axis], stop[axis] - 1)
        taken = np.take(out, inside - first[axis], axis=axis)
        if (beyond := inside != index).any():
            np.moveaxis(taken, axis, 0)[beyond] = 0
        out = taken
    return np.ascontiguousarray(out.transpose([[m for m, _ in lookup].index(a) for a in range(3)]))


def _sample_oblique(
    labels: Labels, at: Array, down: Array, right: Array, shape: tuple[int, ...]
) -> Labels:
    """Slice by slice; a border of zeros stands for what lies outside the grid."""
    padded = np.pad(labels, 1)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    out = np.zeros(shape, np.uint8)
    rows = np.arange(shape[1])[:, None] * down[:, None, None]
    columns = np.arange(shape[2])[None, :] * right[:, None, None]
    plane = (rows + columns + 1.5).astype(np.float32)
    for k, offset in enumerate(at):
        index = np.zeros(shape[1:], np.intp)
        for axis, stride in enumerate(strides):
            nearest = np.floor(plane[axis] + np.float32(offset[axis])).astype(np.intp)
            index += np.clip(nearest, 0, padded.shape[axis] - 1) * stride
        out[k] = padded.reshape(-1)[index]
    return out
