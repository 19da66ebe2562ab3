"""Arrays of numpy on the CPU, or of cupy beside the network on the GPU; one code for both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory import hold

# An array of numpy or of cupy.
Array = Any

# Every FP16 value by its bits. A look-up beats numpy's own conversion, by much where values are
# tiny (below 6e-5, as most of a softmax is): 8 ms a window of 96 x 96 x 96 instead of 54.
FP16_VALUES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Arrays:
    """A library of arrays, and the few things that one does differently from the other.

    Attributes
    ----------
    xp : module
        ``numpy``, or a library with its functions.
    held : callable
        Makes an array, of a shape and a type, for as long as a scan is open; not zeroed.
    chunk : int
        Slices worked on at a time: few where temporaries should stay in a CPU's cache, many where
        each call of a GPU costs more than its work.
    widen : callable
        Writes FP16 values, given by their bits (uint16), into a float32 array.
    to_host : callable
        Brings an array to numpy.
    to_here : callable
        Brings an array of either library to this one.
    """

    xp: Any
    held: Callable[[tuple[int, ...], type[np.generic]], Array]
    chunk: int
    widen: Callable[[Array, Array], None]
    to_host: Callable[[Array], NDArray[Any]]
    to_here: Callable[[Array], Array]


def _look_up(bits: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    np.take(FP16_VALUES, bits, out=out, mode="clip")


def plain_widen(bits: Array, out: Array) -> None:
    """Convert as the library itself does: on a GPU nothing is faster."""
    out[...] = bits.view(np.float16)


def _bring_to_host(array: Array) -> NDArray[Any]:
    # Only cupy's arrays have `get`; numpy is not asked to guess how to copy from a GPU.
    host: NDArray[Any] = array.get() if hasattr(array, "get") else array
    return host


def _same(array: Array) -> Array:
    return array


def read_floats(bits: Array, arrays: Arrays) -> Array:
    """Return FP16 values, given by their bits, as float32."""
    out = arrays.xp.empty(bits.shape, dtype=np.float32)
    arrays.widen(bits, out)
    return out


HOST = Arrays(np, hold, 4, _look_up, _same, _bring_to_host)


@cache
def device() -> Arrays:
    """Arrays of cupy.

    Raises
    ------
    ImportError
        There is no cupy.
    """
    import cupy  # noqa: PLC0415 - the GPU path alone needs it

    return Arrays(cupy, cupy.empty, 1 << 16, plain_widen, cupy.asnumpy, cupy.asarray)


def arrays_of(array: Array) -> Arrays:
    """Return the library that an array is worked on with: its own.

    Parameters
    ----------
    array : ndarray
        Of numpy or cupy.

    Returns
    -------
    Arrays
    """
    return HOST if isinstance(array, np.ndarray) else device()
