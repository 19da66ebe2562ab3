"""How much each voxel of a window counts where windows overlap."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]

# A network sees least context at a window's edge: weights fall off as a Gaussian of an eighth of
# the window's length, the usual choice for patch-wise segmentation.
SIGMA_SHARE = 0.125
# Per axis. Keeps every voxel's weight positive, also in the corners (1e-6 of the centre).
FLOOR = 0.01


@lru_cache(maxsize=32)
def window_weights(shape: Shape) -> NDArray[np.float32]:
    """Weights of a window: the outer product of one bell for each axis.

    Parameters
    ----------
    shape : tuple of int
        Shape of the window (z, y, x), in voxels.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Positive, at most 1, symmetric on each axis. Read-only: it is shared between scans.
    """
    z, y, x = (_bell(length) for length in shape)
    weights: NDArray[np.float32] = np.ascontiguousarray(
        z[:, None, None] * y[None, :, None] * x[None, None, :], dtype=np.float32
    )
    weights.setflags(write=False)
    return weights


def _bell(length: int) -> NDArray[np.float64]:
    distance = np.arange(length, dtype=np.float64) - (length - 1) / 2
    bell: NDArray[np.float64] = np.exp(-0.5 * (distance / (SIGMA_SHARE * length)) ** 2)
    return np.maximum(bell, FLOOR)
