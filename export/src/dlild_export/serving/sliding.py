"""The sliding window as it is served: lung box, windows, blending and labels, in one process.

Box, windows and weights are those of `dlild_client.contract`. Probabilities are added up for a
whole box at once, since nothing else waits for the memory here; a test holds the labels to the
server's (`model_repository/dlild`), voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.contract.blending import window_weights
from dlild_client.contract.labels import SURE, label_voxels
from dlild_client.contract.windows import (
    Box,
    WindowPlan,
    fit_box,
    plan_windows,
)
from dlild_client.preparation.lungs import SeenChest, find_lungs
from dlild_client.preparation.surroundings import cut_window
from dlild_client.volume import Volume

Network = Callable[[npt.NDArray[np.float16]], npt.NDArray[np.float16]]
"""From HU, float16 (1, 1, z, y, x), to class probabilities, float16 (1, classes, z, y, x)."""

Labels = npt.NDArray[np.uint8]


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
    contract : Contract
        HU beyond the grid, classes, and the rule by which voxels are labelled.
    seen : SeenChest or None
        Where the patient is: what lies beside is left out.
    """

    grid: Volume
    box: Box
    plan: WindowPlan
    contract: Contract
    seen: SeenChest | None = None


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
    return Windows(grid, box, plan_windows(box.shape, contract), contract, lungs.seen)


def blend(
    run: Network, windows: Windows, progress: Callable[[int, int], None] | None = None
) -> Labels:
    """Run the network on each window, blend the probabilities, label the voxels.

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
    """
    plan, shape, contract = windows.plan, windows.plan.shape, windows.contract
    weights = window_weights(shape)
    sums: npt.NDArray[np.float32] | None = None
    for done, origin in enumerate(plan.origins, start=1):
        hu = cut_window(
            windows.grid.array, windows.seen, windows.box, origin, shape, contract.hu.padding
        )
        probabilities = run(hu[None, None])[0]
        if sums is None:
            sums = np.zeros((len(probabilities), *windows.box.shape), dtype=np.float32)
        region = tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        for held, share in zip(sums, probabilities, strict=True):
            held[region] += share.astype(np.float32) * weights
        if progress:
            progress(done, len(plan.origins))
    assert sums is not None, "a plan has at least one window"
    labels: Labels = np.empty(sums.shape[1:], dtype=np.uint8)
    for z in range(len(labels)):
        values = sums[:, z]
        labels[z], _ = label_voxels(
            values, contract.classes, contract.score.labels, sure=SURE * values.sum(axis=0)
        )
    return labels
