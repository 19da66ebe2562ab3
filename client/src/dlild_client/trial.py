"""A scan of nothing but air, to measure the way to a server and back."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.schema import Shape
from dlild_client.contract.windows import WindowPlan, plan_windows
from dlild_client.core import talk
from dlild_client.settings import Settings
from dlild_client.transport.blocking import BlockingLine, Turns, run
from dlild_client.transport.cancel import CancelToken
from dlild_client.transport.exchange import Exchange
from dlild_client.transport.wire import WindowRequest

TRIAL_BOX = (160, 112, 112)
"""Box of air that is sent, in voxels (z, y, x)."""

CHEST_VOXELS = 4_000_000
"""In the windows of an adult's lungs at 1.5 mm."""


@dataclass(frozen=True)
class Trial:
    """What was measured.

    Attributes
    ----------
    shape : tuple of int
        Of the windows (z, y, x), in voxels.
    windows : int
    seconds : float
        For all of them.
    """

    shape: Shape
    windows: int
    seconds: float

    @property
    def windows_per_s(self) -> float:
        """Windows a second."""
        return self.windows / self.seconds

    @property
    def mb_per_s(self) -> float:
        """Megabytes a second that were sent; a voxel takes two bytes."""
        return 2e-6 * self.windows * math.prod(self.shape) / self.seconds

    @property
    def chest_s(self) -> float:
        """Seconds that the windows of a chest take at this speed."""
        return self.seconds * CHEST_VOXELS / (self.windows * math.prod(self.shape))


def send_trial(settings: Settings, contract: Contract) -> Trial:
    """Send windows of air the way a scan goes, and time them.

    Raises
    ------
    DlildError
        As of a scan.
    """
    plan = plan_windows(_trial_box(contract), contract)
    _send(settings, contract, plan, count=1)  # what is made at first use is made now
    start = time.perf_counter()
    _send(settings, contract, plan, count=len(plan.origins))
    return Trial(plan.shape, len(plan.origins), time.perf_counter() - start)


def _trial_box(contract: Contract) -> Shape:
    """Return the shape of a small box that the server takes."""
    edges = zip(contract.windows.minimum, TRIAL_BOX, strict=True)
    z, y, x = (max(low, n) for low, n in edges)
    return z, y, x


def _send(settings: Settings, contract: Contract, plan: WindowPlan, count: int) -> None:
    """Send windows of air as one scan; of a box of one window where `count` is 1."""
    air = np.full(plan.shape, contract.hu.padding, dtype=np.float16)
    sequence_id = str(uuid.uuid4())
    whole = plan.shape if count == 1 else _extent(plan)
    requests = (
        WindowRequest(sequence_id, air, origin, whole, index, count, contract.grid.voxel_volume_mm3)
        for index, origin in enumerate(plan.origins[:count])
    )
    line = BlockingLine(settings, Turns.of(settings), CancelToken())

    async def send() -> None:
        exchange = Exchange(requests, contract, count=count, in_flight=contract.windows.in_flight)
        async with line.connect() as connection:
            await talk(line, connection, exchange, settings.timeout.scan_s)

    run(send())


def _extent(plan: WindowPlan) -> Shape:
    """Return the shape of the box that the windows of a plan cover."""
    z, y, x = (max(origin[axis] for origin in plan.origins) + plan.shape[axis] for axis in range(3))
    return z, y, x
