"""The sliding window as it is served: lung box, windows, blending and labels, in one process.

Box and windows are the client's own (`dlild_client`). Blending is the accumulator's
(`model_repository/dlild_accumulator`), written for a whole box at once, since nothing else waits
for the memory here; a test holds it to the accumulator's labels, voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.preparation.lungs import find_lungs
from dlild_client.preparation.windows import (
    Box,
    Shape,
    WindowPlan,
    extract_window,
    fit_box,
    plan_windows,
)
from dlild_client.volume import Volume

Network = Callable[[npt.NDArray[np.float16]], npt.NDArray[np.float16]]
"""From HU, float16 (1, 1, z, y, x), to class probabilities, float16 (1, classes, z, y, x)."""

Labels = npt.NDArray[np.uint8]

# As in the accumulator's `blending.py`.
SIGMA_SHARE = 0.125
FLOOR = 0.01


@dataclass(frozen=True)
class Windows:
    """The windows of one scan: what the server is sent.

    Attributes
    ----------
    grid : Volume
        HU on the model grid.
    box : Box
        The lung box in the grid.
    plan : WindowPlan
        Windows that cover the box.
    padding : int
        HU beyond the grid.
    """

    grid: Volume
    box: Box
    plan: WindowPlan
    padding: int


def plan_scan(grid: Volume, contract: Contract) -> Windows:
    """Find the lungs and plan their windows, as the client does.

    Parameters
    ----------
    grid : Volume
        HU on the model grid.
    contract : Contract
        Grid, windows and limits.

    Returns
    -------
    Windows

    Raises
    ------
    InputError
        No lungs, or more of the scan than the contract allows.
    """
    lungs = find_lungs(grid)
    box = fit_box(lungs.start, lungs.stop, grid.shape, contract)
    return Windows(grid, box, plan_windows(box.shape, contract), contract.hu.padding)


def sliding_labels(run: Network, grid: Volume, contract: Contract) -> tuple[Labels, Box]:
    """Label the lungs of a scan as the server does.

    Parameters
    ----------
    run : callable
        The network on one window.
    grid : Volume
        HU on the model grid.
    contract : Contract
        Grid, windows, classes and limits.

    Returns
    -------
    labels : ndarray of uint8, shape `box.shape`
        Class of every voxel of the lung box.
    box : Box
        Where it lies in the grid. It reaches beyond the end of a grid that is shorter than a
        window.

    Raises
    ------
    InputError
        No lungs, or more of the scan than the contract allows.
    """
    windows = plan_scan(grid, contract)
    return blend(run, windows), windows.box


def blend(
    run: Network, windows: Windows, progress: Callable[[int, int], None] | None = None
) -> Labels:
    """Run the network on each window, blend the probabilities, take the most likely class.

    Parameters
    ----------
    run : callable
        The network on one window.
    windows : Windows
        Of the scan.
    progress : callable, optional
        Called with the windows done and their number.

    Returns
    -------
    ndarray of uint8, shape `windows.box.shape`
        Of equal classes the first.
    """
    plan, shape = windows.plan, windows.plan.shape
    weights = window_weights(shape)
    sums: npt.NDArray[np.float32] | None = None
    for done, origin in enumerate(plan.origins, start=1):
        hu = extract_window(windows.grid.array, windows.box, origin, shape, windows.padding)
        probabilities = run(hu[None, None])[0]
        if sums is None:
            sums = np.zeros((len(probabilities), *windows.box.shape), dtype=np.float32)
        place = tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        for held, share in zip(sums, probabilities, strict=True):
            held[place] += share.astype(np.float32) * weights
        if progress:
            progress(done, len(plan.origins))
    assert sums is not None, "a plan has at least one window"
    labels: Labels = np.argmax(sums, axis=0).astype(np.uint8)
    return labels


def dl_ild_percent(labels: Labels, contract: Contract) -> float:
    """Return 100 x lesion volume / lung volume, lesions included; NaN where there is no lung.

    Parameters
    ----------
    labels : ndarray of uint8
        Class of each voxel.
    contract : Contract
        Which classes count as lung and as lesion.
    """
    counts = np.bincount(labels.ravel(), minlength=len(contract.classes))
    lung = int(counts[list(contract.lung_labels)].sum())
    lesion = int(counts[list(contract.lesion_labels)].sum())
    return 100.0 * lesion / lung if lung else float("nan")


@lru_cache(maxsize=32)
def window_weights(shape: Shape) -> npt.NDArray[np.float32]:
    """Weights of a window's voxels: the outer product of one bell for each axis.

    Parameters
    ----------
    shape : tuple of int
        Shape of the window (z, y, x).

    Returns
    -------
    ndarray of float32, shape `shape`
        Positive, at most 1. Read-only: it is shared.
    """
    z, y, x = (_bell(length) for length in shape)
    weights = np.ascontiguousarray(
        z[:, None, None] * y[None, :, None] * x[None, None, :], dtype=np.float32
    )
    weights.setflags(write=False)
    return weights


def _bell(length: int) -> npt.NDArray[np.float64]:
    """Gaussian of an eighth of the length, which never falls below `FLOOR`."""
    distance = np.arange(length, dtype=np.float64) - (length - 1) / 2
    bell: npt.NDArray[np.float64] = np.exp(-0.5 * (distance / (SIGMA_SHARE * length)) ** 2)
    return np.maximum(bell, FLOOR)
