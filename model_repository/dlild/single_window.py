"""A scan of one window: with nothing to blend, its probabilities name the labels."""

import math

import numpy as np
from numpy.typing import NDArray

from arrays import HOST, Array, Arrays, read_floats
from contract.labels import label_voxels
from contract.schema import Contract, Shape
from probabilities import SURE_BITS, check_mean_sum, read_bits

# Most bytes a voxel that labelling holds at its peak: where every voxel is a lesion. Bits of FP16
# are narrower than the sums of `Slabs`.
_LABELLING_BYTES = 64


class SingleWindow:
    """Stands in for ``Slabs`` where one window fills the box.

    A weight would multiply all classes of a voxel alike, and the product keeps their order: the
    labels are those that ``Slabs`` would give, to the last voxel, without sums and their memory.

    Parameters
    ----------
    contract : Contract
        Classes, and the rule by which voxels are labelled.
    shape : tuple of int
        Shape of the box and of the window (z, y, x), in voxels.
    arrays : Arrays, optional
        Where the probabilities are worked on.
    """

    def __init__(self, contract: Contract, shape: Shape, arrays: Arrays = HOST) -> None:
        self._contract = contract
        self._certainty = np.zeros((shape[0], len(contract.classes)))
        self._arrays = arrays
        self._labels = np.empty(shape, dtype=np.uint8)
        self._covered = False

    @staticmethod
    def bytes_needed(shape: Shape, arrays: Arrays = HOST) -> int:
        """Bytes held at most: labels, and the temporaries of the moment.

        Parameters
        ----------
        shape : tuple of int
            Shape of the box and of the window (z, y, x), in voxels.
        arrays : Arrays, optional
            Where the probabilities are worked on.

        Returns
        -------
        int
        """
        summing = min(arrays.chunk, shape[0]) * 6
        return math.prod(shape) + math.prod(shape[1:]) * max(summing, _LABELLING_BYTES)

    def add(self, probabilities: Array, _origin: Shape, index: int) -> None:
        """Label the window.

        Parameters
        ----------
        probabilities : ndarray of float16, shape (classes, z, y, x)
            Class probabilities of the window, in either memory.
        index : int
            Index of the window in the scan, for messages.

        Raises
        ------
        RefusedError
            When the window does not hold probabilities: NaN, infinity, values outside 0 to 1, or
            sums far from 1.
        """
        bits = read_bits(probabilities, index, self._arrays)
        total = 0.0
        for first in range(0, len(self._labels), self._arrays.chunk):
            chunk = bits[:, first : first + self._arrays.chunk]
            total += _total(chunk)
            # Slice by slice, so that all stays in the cache, and each knows its own certainty.
            for z in range(chunk.shape[1]):
                labels, certainty = label_voxels(
                    chunk[:, z],
                    self._contract.classes,
                    self._contract.score.labels,
                    sure=SURE_BITS,
                    floats=lambda bits: read_floats(bits, self._arrays),
                    xp=self._arrays.xp,
                )
                self._labels[first + z] = self._arrays.to_host(labels)
                self._certainty[first + z] = self._arrays.to_host(certainty)
        check_mean_sum(total / self._labels.size, index)
        self._covered = True

    def fix(self, z: int) -> tuple[NDArray[np.uint8], int, NDArray[np.float64]]:
        """Return what is known of a slice.

        Parameters
        ----------
        z : int
            The slice.

        Returns
        -------
        labels : ndarray of uint8, shape (y, x)
        uncovered : int
            Voxels that lie in no window.
        certainty : ndarray of float64, shape (classes,)
            As of `label_voxels`.
        """
        labels = self._labels[z]
        return labels, 0 if self._covered else labels.size, self._certainty[z]


def _total(bits: Array) -> float:
    """Sum FP16 values, not negative, given by their bits.

    Shifted 13 bits to the left these are the bits of a float32, 2**112 times smaller: that is many
    times as fast as a conversion. Tiny values stay tiny, which slows no sum, as it would a product.
    """
    total = 0.0
    for values in bits:  # class by class, so that all stays in the cache
        wide = values.astype(np.uint32)
        wide <<= 13
        total += float(wide.view(np.float32).sum())
    return total * 2.0**112
