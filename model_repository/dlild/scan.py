"""One open scan: the windows seen so far, labels where they are final, sums where they are not."""

import math
from collections.abc import Set

import numpy as np

from arrays import HOST, Array, Arrays
from contract.refusals import IncompleteError, RefusedError
from contract.schema import Contract, Shape
from memory import hold
from score import Counts, Score, measure
from single_window import SingleWindow
from slabs import Slabs

MISSING_NAMED = 10


class OpenScan:
    """The set of windows seen, and what they say of the box.

    Windows come in the order of docs/wire.md: their origins never go down in z. So the slices below
    the origin of a new window are final: they are labelled and counted, and their sums let go.

    Parameters
    ----------
    box_shape, window_shape : tuple of int
        Shape of the box and of every window (z, y, x), in voxels.
    window_count : int
        Windows of this scan.
    voxel_volume_mm3 : float
        Volume of one voxel, in mm3.
    contract : Contract
        Classes and what they count as.
    arrays : Arrays, optional
        Where the sums are kept; the label map is always in the CPU's memory.
    """

    def __init__(
        self,
        box_shape: Shape,
        window_shape: Shape,
        window_count: int,
        voxel_volume_mm3: float,
        contract: Contract,
        arrays: Arrays = HOST,
    ) -> None:
        self.box_shape = box_shape
        self.window_shape = window_shape
        self.window_count = window_count
        self.voxel_volume_mm3 = voxel_volume_mm3
        self._contract = contract
        self._seen: set[int] = set()
        self._sums: Slabs | SingleWindow = (
            SingleWindow(contract, box_shape, arrays)
            if _is_single(box_shape, window_shape, window_count)
            else Slabs(contract, window_shape, box_shape, arrays)
        )
        self._labels = hold(box_shape, np.uint8)
        self._counts = Counts(box_shape, contract.classes)
        self._fixed = 0
        self._uncovered = 0

    @staticmethod
    def bytes_needed(
        box_shape: Shape,
        window_shape: Shape,
        window_count: int,
        classes: int,
        arrays: Arrays = HOST,
    ) -> int:
        """Bytes that a scan holds at its peak.

        Parameters
        ----------
        box_shape, window_shape : tuple of int
            Shape of the box and of a window (z, y, x), in voxels.
        window_count : int
            Windows of the scan.
        classes : int
            Number of classes.
        arrays : Arrays, optional
            Where the sums are kept. Both memories count, as if they were one.

        Returns
        -------
        int
            One byte a voxel for the labels, counts of each (z, x), and sums that depend on the
            box's slices alone, not on how many there are; none of these for a single window.
        """
        sums = (
            SingleWindow.bytes_needed(box_shape, arrays)
            if _is_single(box_shape, window_shape, window_count)
            else Slabs.bytes_needed(classes, window_shape, box_shape, arrays)
        )
        return math.prod(box_shape) + Counts.bytes_needed(box_shape, classes) + sums

    @property
    def windows_received(self) -> int:
        """Different windows seen so far."""
        return len(self._seen)

    def add(self, probabilities: Array, origin: Shape, index: int) -> None:
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
            When the window has another shape than the first, begins below a window that came
            before, or does not hold probabilities. The scan is spoilt then and must be dropped.
        """
        if index in self._seen:
            return
        _, *shape = probabilities.shape
        if tuple(shape) != self.window_shape:
            raise RefusedError(
                f"window has shape {tuple(shape)}, the scan began with {self.window_shape}"
            )
        if origin[0] < self._fixed:
            raise RefusedError(
                f"origin {origin} of window {index} lies below z {self._fixed}, where a window "
                "before it began; windows must come in rising order of z"
            )
        self._fix_below(origin[0])
        self._sums.add(probabilities, origin, index)
        self._seen.add(index)

    def finish(self) -> Score:
        """Label what is left and measure the box.

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
        if missing := missing_windows(self.window_count, self._seen):
            raise IncompleteError(missing)
        self._fix_below(self.box_shape[0])
        if self._uncovered:
            raise RefusedError(
                f"{self._uncovered} voxels of the box {self.box_shape} lie in none of the "
                f"{self.window_count} windows"
            )
        return measure(
            self._counts,
            self._labels,
            voxel_volume_mm3=self.voxel_volume_mm3,
            axial_area_mm2=self._contract.grid.axial_area_mm2(self.voxel_volume_mm3),
        )

    def _fix_below(self, z: int) -> None:
        """Label the slices below z for good. Where no window came, only their memory is freed."""
        for final in range(self._fixed, z):
            labels, uncovered, certainty = self._sums.fix(final)
            self._labels[final] = labels
            self._counts.add(final, labels, certainty)
            self._uncovered += uncovered
        self._fixed = max(self._fixed, z)


def missing_windows(count: int, seen: Set[int]) -> str:
    """Say which windows of a scan are missing; nothing where none is.

    Parameters
    ----------
    count : int
        Windows of the scan.
    seen : set of int
        Indices of those that came.

    Returns
    -------
    str
        Names the first ten.
    """
    missing = sorted(set(range(count)) - seen)
    named = ", ".join(map(str, missing[:MISSING_NAMED]))
    more = ", …" if len(missing) > MISSING_NAMED else ""
    return f"{len(missing)} of {count} windows are missing: {named}{more}" if missing else ""


def _is_single(box_shape: Shape, window_shape: Shape, window_count: int) -> bool:
    """Return whether the scan is one window that fills the box."""
    return window_count == 1 and window_shape == box_shape
