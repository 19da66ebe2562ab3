"""How much each voxel of a window counts where windows overlap."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .schema import Shape

# A network sees least context at a window's edge: weights fall off as a Gaussian of an eighth of
# the window's length, as in nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021).
SIGMA_SHARE = 0.125
# Per axis. Keeps every voxel's weight positive, also in the corners (1e-6 of the centre).
FLOOR = 0.01


@lru_cache(maxsize=32)
def window_weights(shape: Shape) -> npt.NDArray[np.float32]:
    """Weights of a window: the outer product of one Gaussian for each axis.

    Parameters
    ----------
    shape : tuple of int
        Shape of the window (z, y, x), in voxels.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Positive, at most 1, symmetric on each axis. Read-only: it is shared between scans.
    """
    z, y, x = (_gaussian(length) for length in shape)
    weights: npt.NDArray[np.float32] = np.ascontiguousarray(
        z[:, None, None] * y[None, :, None] * x[None, None, :], dtype=np.float32
    )
    weights.setflags(write=False)
    return weights


def _gaussian(length: int) -> npt.NDArray[np.float64]:
    """Gaussian about the middle of an axis, never below `FLOOR`."""
    distance = np.arange(length, dtype=np.float64) - (length - 1) / 2
    values: npt.NDArray[np.float64] = np.exp(-0.5 * (distance / (SIGMA_SHARE * length)) ** 2)
    return np.maximum(values, FLOOR)
