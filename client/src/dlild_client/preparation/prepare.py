"""Prepares a volume for the network: model grid, lung box, windows, flags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.contract.schema import Shape
from dlild_client.contract.windows import (
    Box,
    WindowPlan,
    fit_box,
    plan_windows,
)
from dlild_client.flags import Flag, merge
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.inspection import inspect_chest
from dlild_client.preparation.lungs import SeenChest, find_lungs
from dlild_client.preparation.native import crop
from dlild_client.preparation.surroundings import cut_window
from dlild_client.volume import Volume

Progress = Callable[[str, int, int], None]
"""Called with a stage (read, resample, lungs, inference), how much is done, and the total."""


@dataclass(frozen=True)
class PreparedScan:
    """A scan on the model grid, with its windows planned.

    Attributes
    ----------
    grid : Volume
        HU on the model grid.
    box : Box
        The lung box in the grid.
    plan : WindowPlan
        The windows that cover the box.
    aerated_ml : float
        Lung volume by threshold: an estimate.
    doubts : tuple of Flag
        Doubts about the scan and its lungs.
    timings_s : mapping
        Seconds of the stages `resample` and `lungs`.
    seen : SeenChest or None
        Masks of the search for the lungs, in coarse voxels.
    native : Volume or None
        The scanned voxels of the lung box, for densitometry.
    inspection : Future or None
        Doubts about the chest (`inspect_chest`). They are found in a thread of their own while the
        network works: no window depends on them.
    """

    grid: Volume
    box: Box
    plan: WindowPlan
    aerated_ml: float
    doubts: tuple[Flag, ...]
    timings_s: Mapping[str, float]
    seen: SeenChest | None = None
    native: Volume | None = None
    inspection: Future[list[Flag]] | None = None

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Doubts found so far; waits for the inspection of the chest."""
        return merge((*self.doubts, *(self.inspection.result() if self.inspection else ())))

    def windows(self, padding: int) -> Iterator[tuple[Shape, npt.NDArray[np.float16]]]:
        """Yield origin in the box and HU of each window, lazily, in the order of the plan.

        What lies beside the patient is padding.
        """
        grid, shape = self.grid.array, self.plan.shape
        for origin in self.plan.origins:
            yield origin, cut_window(grid, self.seen, self.box, origin, shape, padding)


def no_progress(_stage: str, _done: int, _whole: int) -> None:
    """Drop the progress report."""


def prepare(volume: Volume, contract: Contract, progress: Progress | None = None) -> PreparedScan:
    """Resample a volume, find its lungs and plan the windows.

    Parameters
    ----------
    volume : Volume
        HU in any orientation and spacing.
    contract : Contract
        Contract of the server that will score the scan.
    progress : callable, optional

    Returns
    -------
    PreparedScan

    Raises
    ------
    InputError
        No lungs, or more voxels than the server accepts.
    """
    report = progress or no_progress
    start = time.perf_counter()
    report("resample", 0, 1)
    grid = to_grid(volume, contract)
    report("resample", 1, 1)
    resampled = time.perf_counter()
    report("lungs", 0, 1)
    lungs = find_lungs(grid)
    box = fit_box(lungs.start, lungs.stop, grid.shape, contract)
    plan = plan_windows(box.shape, contract)
    inspection = None
    if lungs.seen is not None:
        one_thread = ThreadPoolExecutor(1, thread_name_prefix="dlild-inspection")
        inspection = one_thread.submit(inspect_chest, grid, lungs.seen, lungs.aerated_ml)
        one_thread.shutdown(wait=False)
    report("lungs", 1, 1)
    return PreparedScan(
        grid=grid,
        box=box,
        plan=plan,
        aerated_ml=lungs.aerated_ml,
        doubts=merge((*volume.flags, *lungs.flags)),
        timings_s={"resample": resampled - start, "lungs": time.perf_counter() - resampled},
        seen=lungs.seen,
        native=crop(volume, grid, box.start, box.stop),
        inspection=inspection,
    )
