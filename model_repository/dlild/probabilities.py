"""What the network's probabilities must be."""

import numpy as np

from arrays import FP16_VALUES, Array, Arrays
from contract.labels import SURE
from contract.refusals import RefusedError

# Probabilities of a voxel add up to 1; FP16 and bf16 miss by far less than this.
SUM_TOLERANCE = 0.05
# FP16 of 1 + SUM_TOLERANCE. By their bits negative values, infinity and NaN are all larger.
LARGEST_BITS = int(np.array(1 + SUM_TOLERANCE, dtype=np.float16).view(np.uint16))
SURE_BITS = int(np.array(SURE, dtype=np.float16).view(np.uint16))


def read_bits(probabilities: Array, index: int, arrays: Arrays) -> Array:
    """Bring a window's probabilities to where they are worked on, as the bits of FP16.

    Parameters
    ----------
    probabilities : ndarray of float16, shape (classes, z, y, x)
        In either memory.
    index : int
        Index of the window in the scan, for messages.
    arrays : Arrays
        Where they are worked on.

    Returns
    -------
    ndarray of uint16, shape (classes, z, y, x)
        Positive values have the order of their bits.

    Raises
    ------
    RefusedError
        When there are NaN, infinity or values outside 0 to 1.
    """
    here = arrays.to_here(probabilities)
    bits = arrays.xp.ascontiguousarray(here).view(np.uint16)
    largest = int(bits.max())
    if largest > LARGEST_BITS:
        value = FP16_VALUES[largest]
        raise RefusedError(
            f"the network's probabilities of window {index} hold {value:.4g}, must be from 0 to 1"
        )
    return bits


def check_mean_sum(mean_sum: float, index: int) -> None:
    """Refuse probabilities whose sum over the classes, as a mean over voxels, is far from 1.

    Parameters
    ----------
    mean_sum : float
        Any mean whose weights are positive.
    index : int
        Index of the window in the scan, for messages.

    Raises
    ------
    RefusedError
    """
    if not abs(mean_sum - 1.0) <= SUM_TOLERANCE:
        raise RefusedError(
            f"the network's probabilities of window {index} add up to {mean_sum:.4g} a voxel, not 1"
        )
