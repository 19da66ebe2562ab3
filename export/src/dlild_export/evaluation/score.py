"""One scan through the network as it is served, its labels laid back on the grid."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.score import dl_ild_percent
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.volume import Volume
from dlild_export.evaluation.metrics import Labels
from dlild_export.serving.sliding import Network, Windows, blend


@dataclass(frozen=True, eq=False)
class Scored:
    """What the product says of a scan.

    Attributes
    ----------
    grid : Volume
        HU on the model grid.
    labels : ndarray of uint8, shape (z, y, x)
        Label map on the whole grid, 0 outside the lung box.
    flags : tuple of str
        Doubts of the client.
    windows : int
        Windows that the network saw.
    inference_s : float
        Network and blending.
    """

    grid: Volume
    labels: Labels
    flags: tuple[str, ...]
    windows: int
    inference_s: float

    def volume_ml(self, labels: tuple[int, ...]) -> float:
        """Return the volume of some classes."""
        return float(np.isin(self.labels, labels).sum()) * self.grid.voxel_volume_mm3 / 1000

    def dl_ild_percent(self, contract: Contract) -> float:
        """Return 100 x lesion volume / lung volume; NaN where no lung was found."""
        lesion, lung = contract.lesion_labels, contract.lung_labels
        return dl_ild_percent(self.volume_ml(lesion), self.volume_ml(lung))


def score_volume(volume: Volume, run: Network, contract: Contract) -> Scored:
    """Score a scan: the client's grid, lung box and windows, the server's blending.

    Parameters
    ----------
    volume : Volume
        HU in any orientation and spacing.
    run : callable
        The network on one window.
    contract : Contract

    Returns
    -------
    Scored

    Raises
    ------
    InputError
        The client refuses the scan.
    """
    prepared = prepare(volume, contract)
    start = time.perf_counter()
    windows = Windows(prepared.grid, prepared.box, prepared.plan, contract)
    labels = _on_grid(blend(run, windows), prepared)
    seconds = time.perf_counter() - start
    return Scored(prepared.grid, labels, prepared.flags, len(prepared.plan.origins), seconds)


def _on_grid(labels: Labels, prepared: PreparedScan) -> Labels:
    """Lay the labels of the box on the grid; those beyond its end are no part of the scan."""
    out = np.zeros(prepared.grid.shape, dtype=np.uint8)
    box = prepared.box
    place = tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))
    room = out[place].shape
    out[place] = labels[tuple(slice(0, n) for n in room)]
    return out
