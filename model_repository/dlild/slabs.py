"""Sums of the slices that windows can still touch; a slice that none can touch is let go."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from arrays import HOST, Array, Arrays
from contract.blending import window_weights
from contract.labels import SURE, label_voxels
from contract.schema import Contract, Shape
from probabilities import check_mean_sum, read_bits

# Most bytes a voxel that labelling holds at its peak: where every voxel is a lesion.
_LABELLING_BYTES = 70


@lru_cache(maxsize=8)
def _weights(shape: Shape, arrays: Arrays) -> Array:
    return arrays.to_here(window_weights(shape))


class Slabs:
    """Weighted class probabilities of as many slices as a window is deep.

    Slice z lies in slot z modulo the depth, so that nothing is moved when slices are let go.

    Parameters
    ----------
    contract : Contract
        Classes, and the rule by which voxels are labelled.
    window_shape : tuple of int
        Shape of the windows (z, y, x), in voxels.
    box_shape : tuple of int
        Shape of the box (z, y, x), in voxels.
    arrays : Arrays, optional
        Where the sums are kept.

    Notes
    -----
    The sums of weighted probabilities name the class by their order, so the weights themselves are
    not kept: only which voxels have any.
    """

    def __init__(
        self, contract: Contract, window_shape: Shape, box_shape: Shape, arrays: Arrays = HOST
    ) -> None:
        depth, classes = window_shape[0], len(contract.classes)
        self._contract = contract
        self._depth = depth
        self._arrays = arrays
        # Not zeroed: a slot holds nothing worth reading until its first window comes.
        self._sums = arrays.held((classes, depth, *box_shape[1:]), np.float32)
        self._blank = np.ones(depth, dtype=np.bool_)
        self._covered = arrays.xp.zeros((depth, *box_shape[1:]), dtype=np.bool_)

    @staticmethod
    def bytes_needed(
        classes: int, window_shape: Shape, box_shape: Shape, arrays: Arrays = HOST
    ) -> int:
        """Bytes held at most: sums, coverage, and the temporaries of the moment.

        Parameters
        ----------
        classes : int
            Number of classes.
        window_shape, box_shape : tuple of int
            Shapes (z, y, x), in voxels.
        arrays : Arrays, optional
            Where they are held.

        Returns
        -------
        int
        """
        slice_voxels = math.prod(box_shape[1:])
        kept = window_shape[0] * slice_voxels * (classes * 4 + 1)
        blending = min(arrays.chunk, window_shape[0]) * math.prod(window_shape[1:]) * (4 + 8)
        labelling = slice_voxels * _LABELLING_BYTES
        return kept + max(blending, labelling)

    def add(self, probabilities: Array, origin: Shape, index: int) -> None:
        """Add a window whose slices are all still held.

        Parameters
        ----------
        probabilities : ndarray of float16, shape (classes, z, y, x)
            Class probabilities of the window, in either memory.
        origin : tuple of int
            First voxel of the window in the box (z, y, x).
        index : int
            Index of the window in the scan, for messages.

        Raises
        ------
        RefusedError
            When the window does not hold probabilities: NaN, infinity, values outside 0 to 1, or
            sums far from 1. The slabs are spoilt then and must be dropped.
        """
        _, depth, height, width = probabilities.shape
        bits = read_bits(probabilities, index, self._arrays)
        weights = _weights((depth, height, width), self._arrays)
        z, y, x = origin
        rows, columns = slice(y, y + height), slice(x, x + width)
        total = 0.0
        for first, last, slot in self._chunks(z, depth):
            region = (slice(slot, slot + last - first), rows, columns)
            over = self._make_ready(region)
            total += self._blend(bits[:, first:last], weights[first:last], region, over=over)
            self._covered[region] = True
        check_mean_sum(total / float(weights.sum()), index)

    def fix(self, z: int) -> tuple[NDArray[np.uint8], int, NDArray[np.float64]]:
        """Label a slice that no window can touch any more, and free its slot.

        Parameters
        ----------
        z : int
            The slice.

        Returns
        -------
        labels : ndarray of uint8, shape (y, x)
            In the CPU's memory.
        uncovered : int
            Voxels that lie in no window.
        certainty : ndarray of float64, shape (classes,)
            As of `label_voxels`.
        """
        slot = z % self._depth
        if self._blank[slot]:
            blank = np.zeros(self._sums.shape[2:], dtype=np.uint8)
            return blank, blank.size, np.zeros(len(self._sums))
        sums = self._sums[:, slot]
        labels, certainty = label_voxels(
            sums,
            self._contract.classes,
            self._contract.score.labels,
            sure=np.float32(SURE) * sums.sum(axis=0),
            xp=self._arrays.xp,
        )
        uncovered = labels.size - int(self._arrays.xp.count_nonzero(self._covered[slot]))
        self._blank[slot] = True
        self._covered[slot] = False
        return self._arrays.to_host(labels), uncovered, self._arrays.to_host(certainty)

    def _chunks(self, z: int, depth: int) -> list[tuple[int, int, int]]:
        """First and last slice in the window, and slot, of runs that do not cross the ring's end.

        Parameters
        ----------
        z : int
            First slice of the window in the box.
        depth : int
            Slices of the window.

        Returns
        -------
        list of (int, int, int)
            ``last`` is one past the end.
        """
        chunks = []
        first = 0
        while first < depth:
            slot = (z + first) % self._depth
            last = min(first + self._arrays.chunk, depth, first + self._depth - slot)
            chunks.append((first, last, slot))
            first = last
        return chunks

    def _make_ready(self, region: tuple[slice, slice, slice]) -> bool:
        """Make slots ready for a window; return whether it may write over what they hold.

        A window as wide as the box writes over blank slots, which costs neither zeros nor a sum.
        """
        slots, rows, columns = region
        blank = self._blank[slots]
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        over = bool(blank.all()) and shape == self._sums.shape[2:]
        if not over:
            for slot in np.flatnonzero(blank) + slots.start:
                self._sums[:, slot] = 0
        self._blank[slots] = False
        return over

    def _blend(
        self, bits: Array, weights: Array, region: tuple[slice, slice, slice], *, over: bool
    ) -> float:
        """Add weighted slices of all classes, or write them over; return their sum."""
        xp = self._arrays.xp
        buffer = xp.empty(weights.shape, dtype=np.float32)
        total = 0.0
        for sums, values in zip(self._sums, bits, strict=True):
            held = sums[region]
            self._arrays.widen(values, buffer)
            weighted = xp.multiply(buffer, weights, out=held if over else buffer)
            total += float(weighted.sum())
            if not over:
                xp.add(held, buffer, out=held)
        return total
