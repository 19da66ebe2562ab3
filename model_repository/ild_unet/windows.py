"""What a window must be before the network sees it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]

# The magnitude bits of an FP16 value; those of infinity and NaN are the largest.
FP16_MAGNITUDE = np.uint16(0x7FFF)
FP16_INFINITY = 0x7C00


class WindowError(ValueError):
    """A window breaks the wire's rules; the message is the answer to the client."""


@dataclass(frozen=True)
class WindowBounds:
    """Which window shapes are accepted: the contract's ``windows``.

    Attributes
    ----------
    multiple : int
        Every edge is a multiple of this, which the network's strides call for.
    minimum, maximum : tuple of int
        Shortest and longest edges (z, y, x), in voxels.
    maximum_voxels : int
        Most voxels of a window: bounds the memory of an inference.
    """

    multiple: int
    minimum: Shape
    maximum: Shape
    maximum_voxels: int

    @classmethod
    def from_fields(cls, raw: Mapping[str, Any]) -> "WindowBounds":
        """Read the contract's ``windows``."""
        (d, h, w), (deepest, highest, widest) = raw["minimum"], raw["maximum"]
        return cls(
            int(raw["multiple"]),
            (int(d), int(h), int(w)),
            (int(deepest), int(highest), int(widest)),
            int(raw["maximum_voxels"]),
        )

    def take(self, shape: Sequence[int]) -> bool:
        """Tell whether a window may have this shape (z, y, x)."""
        edges = zip(self.minimum, shape, self.maximum, strict=True)
        return (
            all(low <= n <= high and n % self.multiple == 0 for low, n, high in edges)
            and math.prod(shape) <= self.maximum_voxels
        )

    def largest_cube(self) -> Shape:
        """Shape of the cube, or what is nearest to one, that takes the most memory."""
        edge = max(
            edge
            for edge in range(self.multiple, max(self.maximum) + 1, self.multiple)
            if edge**3 <= self.maximum_voxels
        )
        z, y, x = (
            min(max(edge, low), high) for low, high in zip(self.minimum, self.maximum, strict=True)
        )
        return (z, y, x) if self.take((z, y, x)) else self.minimum

    def __str__(self) -> str:
        """Return the rule in words, for refusals."""
        return (
            f"multiples of {self.multiple} from {self.minimum} to {self.maximum}, "
            f"at most {self.maximum_voxels} voxels"
        )


def check_window(window: NDArray[Any], bounds: WindowBounds) -> None:
    """Refuse what is not one window of finite HU.

    Parameters
    ----------
    window : ndarray
        Must be float16 of shape (1, 1, z, y, x).
    bounds : WindowBounds
        Accepted shapes.

    Raises
    ------
    WindowError
        With a message that begins with ``REFUSED`` and names the value.
    """
    if window.dtype != np.float16:
        raise WindowError(f"REFUSED: window is {window.dtype}, must be float16")
    if window.ndim != 5 or window.shape[:2] != (1, 1):
        raise WindowError(f"REFUSED: window has shape {window.shape}, must be (1, 1, z, y, x)")
    if not bounds.take(window.shape[2:]):
        raise WindowError(f"REFUSED: window has shape {window.shape[2:]}, must have {bounds}")
    # By the bits: numpy's own test of FP16 is many times slower.
    bits = np.ascontiguousarray(window).view(np.uint16)
    if (bits & FP16_MAGNITUDE).max() >= FP16_INFINITY:
        value = window[~np.isfinite(window)][0]
        raise WindowError(f"REFUSED: window holds {value}, must hold finite HU only")
