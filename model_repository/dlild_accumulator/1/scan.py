"""One open scan: the windows seen so far and their blended probabilities."""

import math

import numpy as np
from numpy.typing import NDArray

from blending import window_weights
from contract import Contract
from refusals import IncompleteError, RefusedError
from score import Score, measure

Shape = tuple[int, int, int]

# Probabilities of a voxel add up to 1; FP16 and bf16 miss by far less than this.
SUM_TOLERANCE = 0.05
MISSING_NAMED = 10


class OpenScan:
    """Sums of weighted class probabilities over a box, and the set of windows seen.

    Parameters
    ----------
    box_shape : tuple of int
        Shape of the box (z, y, x), in voxels.
    window_count : int
        Windows of this scan.
    voxel_volume_mm3 : float
        Volume of one voxel, in mm3.
    contract : Contract
        Classes and what they count as.

    Notes
    -----
    The largest sum of weighted probabilities names the class, so the weights themselves are not
    kept: only which voxels have any.
    """

    def __init__(
        self, box_shape: Shape, window_count: int, voxel_volume_mm3: float, contract: Contract
    ) -> None:
        self.box_shape = box_shape
        self.window_count = window_count
        self.voxel_volume_mm3 = voxel_volume_mm3
        self._contract = contract
        self._seen: set[int] = set()
        self._sums = np.zeros((contract.classes, *box_shape), dtype=np.float32)
        self._covered = np.zeros(box_shape, dtype=np.bool_)

    @staticmethod
    def bytes_needed(box_shape: Shape, classes: int) -> int:
        """Bytes that a scan of this box holds.

        Parameters
        ----------
        box_shape : tuple of int
            Shape of the box (z, y, x), in voxels.
        classes : int
            Number of classes.

        Returns
        -------
        int
        """
        return math.prod(box_shape) * (classes * 4 + 1)

    @property
    def windows_received(self) -> int:
        """Different windows seen so far."""
        return len(self._seen)

    def add(self, probabilities: NDArray[np.float16], origin: Shape, index: int) -> None:
        """Add a window; one that was seen before changes nothing.

        Parameters
        ----------
        probabilities : ndarray of float16, shape (classes, z, y, x)
            Class probabilities of the window.
        origin : tuple of int
            First voxel of the window in the box (z, y, x).
        index : int
            Index of the window in the scan.

        Raises
        ------
        RefusedError
            When the window does not hold probabilities: NaN, infinity, or sums far from 1. The scan
            is spoilt then and must be dropped.
        """
        if index in self._seen:
            return
        _, depth, height, width = probabilities.shape
        z, y, x = origin
        place = (slice(z, z + depth), slice(y, y + height), slice(x, x + width))
        weights = window_weights((depth, height, width))
        # One class at a time through one buffer: the temporaries stay the size of a window.
        buffer = np.empty(weights.shape, dtype=np.float32)
        total = 0.0
        for sums, values in zip(self._sums, probabilities, strict=True):
            np.copyto(buffer, values)
            buffer *= weights
            total += float(buffer.sum())
            sums[place] += buffer
        self._check_total(total / float(weights.sum()), index)
        self._covered[place] = True
        self._seen.add(index)

    @staticmethod
    def _check_total(mean_sum: float, index: int) -> None:
        if not abs(mean_sum - 1.0) <= SUM_TOLERANCE:  # NaN fails this as well
            raise RefusedError(
                f"the network's probabilities of window {index} add up to {mean_sum:.4g} a voxel, "
                "not 1"
            )

    def finish(self) -> Score:
        """Label the box and measure it.

        Returns
        -------
        Score

        Raises
        ------
        IncompleteError
            When windows are missing; the message names the first ten.
        RefusedError
            When all windows came, yet some voxel of the box lies in none.
        """
        missing = sorted(set(range(self.window_count)) - self._seen)
        if missing:
            named = ", ".join(map(str, missing[:MISSING_NAMED]))
            more = ", …" if len(missing) > MISSING_NAMED else ""
            raise IncompleteError(
                f"{len(missing)} of {self.window_count} windows are missing: {named}{more}"
            )
        uncovered = self._covered.size - int(np.count_nonzero(self._covered))
        if uncovered:
            raise RefusedError(
                f"{uncovered} voxels of the box {self.box_shape} lie in none of the "
                f"{self.window_count} windows"
            )
        return measure(
            self._labels(),
            lung=self._contract.lung,
            lesion=self._contract.lesion,
            voxel_volume_mm3=self.voxel_volume_mm3,
            axial_area_mm2=self._contract.axial_area_mm2(self.voxel_volume_mm3),
        )

    def _labels(self) -> NDArray[np.uint8]:
        """Class of the largest sum; the first of equals, as argmax has it."""
        labels = np.zeros(self.box_shape, dtype=np.uint8)
        # Slice by slice, so that all stays in the cache: ten times as fast as numpy's argmax over
        # the first axis. Labels rise, so the largest of those that won so far is the last to win.
        for z in range(self.box_shape[0]):
            best = self._sums[0, z].copy()
            for label in range(1, self._sums.shape[0]):
                candidate = self._sums[label, z]
                won = (candidate > best).view(np.uint8) * np.uint8(label)
                np.maximum(labels[z], won, out=labels[z])
                np.maximum(best, candidate, out=best)
        return labels
