"""Scans that wait for each other, under both kinds of client."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dlild_client.errors import CancelledError
from dlild_client.settings import find_settings
from dlild_client.transport.aio import AsyncTransport
from dlild_client.transport.base import Transport, preparing_limit
from dlild_client.transport.blocking import BlockingTransport, Slots, run
from dlild_client.transport.cancel import CancelToken

SCANS = 4 * preparing_limit()


class Processors:
    """Counts how many scans are being prepared."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    async def prepare_on(self, transport: Transport) -> None:
        async with transport.preparing_slot():
            await transport.run_sync(self._work)

    def _work(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self._lock:
            self.now -= 1


def test_threads_prepare_only_as_many_scans_as_the_processors_bear() -> None:
    settings, processors = find_settings(variables={}), Processors()
    slots = Slots.of(settings)

    def prepare(_: int) -> None:
        run(processors.prepare_on(BlockingTransport(settings, slots, CancelToken())))

    with ThreadPoolExecutor(SCANS) as pool:
        list(pool.map(prepare, range(SCANS)))
    assert processors.most == preparing_limit()


def test_tasks_prepare_only_as_many_scans_as_the_processors_bear() -> None:
    async def prepare_all() -> None:
        transport = AsyncTransport(find_settings(variables={}))
        await asyncio.gather(*(processors.prepare_on(transport) for _ in range(SCANS)))

    processors = Processors()
    asyncio.run(prepare_all())
    assert processors.most == preparing_limit()


def test_a_scan_that_waits_for_the_processors_can_be_cancelled() -> None:
    settings, token = find_settings(variables={}), CancelToken()
    slots = Slots(threading.Semaphore(1), threading.Semaphore(0))
    threading.Timer(0.05, token.cancel).start()
    with pytest.raises(CancelledError):
        run(Processors().prepare_on(BlockingTransport(settings, slots, token)))
