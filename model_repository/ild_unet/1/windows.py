"""What a window must be before the network sees it."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]

# The magnitude bits of an FP16 value; those of infinity and NaN are the largest.
FP16_MAGNITUDE = np.uint16(0x7FFF)
FP16_INFINITY = 0x7C00


class WindowError(ValueError):
    """A window breaks the wire's rules; the message is the answer to the client."""


def check_window(window: NDArray[Any], shapes: Collection[Shape]) -> None:
    """Refuse what is not one window of finite HU.

    Parameters
    ----------
    window : ndarray
        Must be float16 of shape (1, 1, z, y, x).
    shapes : collection of tuple of int
        Accepted shapes (z, y, x), in voxels.

    Raises
    ------
    WindowError
        With a message that begins with ``REFUSED`` and names the value.
    """
    if window.dtype != np.float16:
        raise WindowError(f"REFUSED: window is {window.dtype}, must be float16")
    if window.ndim != 5 or window.shape[:2] != (1, 1):
        raise WindowError(f"REFUSED: window has shape {window.shape}, must be (1, 1, z, y, x)")
    if window.shape[2:] not in shapes:
        accepted = ", ".join(map(str, sorted(shapes)))
        raise WindowError(
            f"REFUSED: window has shape {window.shape[2:]}, must be one of {accepted}"
        )
    # By the bits: numpy's own test of FP16 is many times slower.
    bits = np.ascontiguousarray(window).view(np.uint16)
    if (bits & FP16_MAGNITUDE).max() >= FP16_INFINITY:
        value = window[~np.isfinite(window)][0]
        raise WindowError(f"REFUSED: window holds {value}, must hold finite HU only")
