"""Reading the one request of a whole scan, and cutting windows out of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plan import Plan, Rules, Shape, VolumeError


def read_volume(tensors: Mapping[str, NDArray[Any]], rules: Rules) -> NDArray[np.int16]:
    """Check the volume of a request.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        ``volume``, with a leading batch axis of 1.
    rules : Rules
        The HU to hold it to.

    Returns
    -------
    ndarray of int16, shape (z, y, x)
        HU.

    Raises
    ------
    VolumeError
        Naming the value that breaks the rules.
    """
    volume = tensors.get("volume")
    if volume is None:
        raise VolumeError("volume is missing")
    if volume.dtype != np.int16:
        raise VolumeError(f"volume is {volume.dtype}, must be int16")
    if volume.ndim != 4 or volume.shape[0] != 1 or not volume.size:
        raise VolumeError(f"volume has shape {volume.shape}, must be (1, z, y, x)")
    least, largest = rules.hu
    for value in (int(volume.min()), int(volume.max())):
        if not least <= value <= largest:
            raise VolumeError(f"volume holds {value} HU, must hold {least} to {largest}")
    whole: NDArray[np.int16] = volume[0]
    return whole


def window_tensors(
    volume: NDArray[np.int16], plan: Plan, index: int
) -> dict[str, NDArray[np.float16] | NDArray[np.int32]]:
    """Cut out one window, and make the inputs of docs/wire.md.

    Parameters
    ----------
    volume : ndarray of int16, shape (z, y, x)
        HU that FP16 carries exactly.
    plan : Plan
        The windows.
    index : int
        Which of them.

    Returns
    -------
    dict of str to ndarray
        All but ``voxel_volume_mm3``.
    """
    origin, box_shape = plan.origins[index], volume.shape
    z, y, x = (slice(o, o + w) for o, w in zip(origin, plan.shape, strict=True))
    return {
        "window": np.ascontiguousarray(volume[z, y, x], dtype=np.float16)[None, None],
        "origin": np.array([origin], dtype=np.int32),
        "box_shape": np.array([box_shape], dtype=np.int32),
        "window_index": np.array([[index]], dtype=np.int32),
        "window_count": np.array([[len(plan.origins)]], dtype=np.int32),
    }


def shape_of(volume: NDArray[np.int16]) -> Shape:
    """Shape of a volume (z, y, x), in voxels.

    Parameters
    ----------
    volume : ndarray of int16, shape (z, y, x)
        HU.

    Returns
    -------
    tuple of int
    """
    z, y, x = volume.shape
    return z, y, x
