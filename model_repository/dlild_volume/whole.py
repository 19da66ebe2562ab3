"""The one request of a whole scan: what it must be, and the windows that it is cut into."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import tensors
from contract.errors import TooLargeError
from contract.refusals import RefusedError
from contract.schema import Contract, HuRange, Shape
from contract.windows import Box, WindowPlan, extract_window, plan_windows


def read_volume(volume: NDArray[Any] | None, hu: HuRange) -> NDArray[np.int16]:
    """Check the volume of a request.

    Parameters
    ----------
    volume : ndarray or None
        The tensor `volume`, with a leading batch axis of 1; None where the request has none.
    hu : HuRange
        What its values are held to.

    Returns
    -------
    ndarray of int16, shape (z, y, x)
        HU.

    Raises
    ------
    RefusedError
        Naming the value that breaks the rules.
    """
    if volume is None:
        raise RefusedError("volume is missing")
    if volume.dtype != tensors.VOLUME.dtype:
        raise RefusedError(f"volume is {volume.dtype}, must be {tensors.VOLUME.dtype}")
    if volume.ndim != 4 or volume.shape[0] != 1 or not volume.size:
        raise RefusedError(f"volume has shape {volume.shape}, must be (1, z, y, x)")
    for value in (int(volume.min()), int(volume.max())):
        if not hu.minimum <= value <= hu.maximum:
            raise RefusedError(f"volume holds {value} HU, must hold {hu.minimum} to {hu.maximum}")
    whole: NDArray[np.int16] = volume[0]
    return whole


def plan_volume(shape: Shape, contract: Contract) -> WindowPlan:
    """Cover a volume with windows, as the client covers its box.

    Parameters
    ----------
    shape : tuple of int
        Voxels (z, y, x) of the volume, which the server cannot widen.
    contract : Contract
        Window shapes, overlap and limits.

    Returns
    -------
    WindowPlan

    Raises
    ------
    RefusedError
        The volume is smaller than every window, or larger than the limits.
    """
    try:
        return plan_windows(shape, contract)
    except TooLargeError as error:
        raise RefusedError(f"volume {shape} {error.excess}") from None
    except ValueError as error:
        raise RefusedError(f"volume {error}; crop more generously") from None


def turns(plan: WindowPlan) -> Iterator[list[int]]:
    """Yield indices of windows that may be on their way together.

    The first and the last window go alone, because their flags begin and end the scan; between them
    windows of one z may overtake each other, and no others.

    Parameters
    ----------
    plan : WindowPlan
        The windows.

    Yields
    ------
    list of int
        Indices into ``origins``, rising.
    """
    last = len(plan.origins) - 1
    yield [0]
    for _, row in groupby(range(1, last), key=lambda index: plan.origins[index][0]):
        yield list(row)
    if last:
        yield [last]


def window_tensors(
    volume: NDArray[np.int16], plan: WindowPlan, index: int
) -> dict[str, NDArray[np.generic]]:
    """Cut out one window, and make the inputs of docs/wire.md.

    Parameters
    ----------
    volume : ndarray of int16, shape (z, y, x)
        HU that FP16 carries exactly.
    plan : WindowPlan
        The windows.
    index : int
        Which of them.

    Returns
    -------
    dict of str to ndarray
        All but ``voxel_volume_mm3``.
    """
    z, y, x = volume.shape
    box, origin = Box((0, 0, 0), (z, y, x)), plan.origins[index]
    window = extract_window(volume, box, origin, plan.shape, padding=0)  # none is needed inside
    return {
        spec.name: spec.array(value)
        for spec, value in (
            (tensors.WINDOW, window[None]),
            (tensors.ORIGIN, origin),
            (tensors.BOX_SHAPE, volume.shape),
            (tensors.WINDOW_INDEX, [index]),
            (tensors.WINDOW_COUNT, [len(plan.origins)]),
        )
    }
