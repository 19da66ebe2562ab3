"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice

from dlild_client.core import DEFAULT_CONCURRENCY, Core, Outcome, Scan, ScanProgress, bind
from dlild_client.errors import DlildError
from dlild_client.preparation.prepare import Progress
from dlild_client.results.result import Result
from dlild_client.settings import Limits, Retries, Timeout, find_settings
from dlild_client.tls import TLS
from dlild_client.transport.aio import AsyncTransport
from dlild_client.transport.connection import ServerInfo


class AsyncClient:
    """Asyncio client of a DL-ILD server.

    Arguments, methods and errors are those of `Client`. Scans are read and prepared in threads, so
    that the event loop is never blocked; cancelling a task aborts its scan on the server, too.

    Examples
    --------
    >>> async def main():  # doctest: +SKIP
    ...     async with AsyncClient("grpc://127.0.0.1:8001") as client:
    ...         print((await client.score("scan/")).dl_ild_percent)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tls: TLS | None = None,
        api_key: str | None = None,
        timeout: Timeout | None = None,
        limits: Limits | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._settings = find_settings(
            url, tls=tls, api_key=api_key, timeout=timeout, limits=limits, retries=retries
        )
        if self._settings.address.secure:
            self._settings.tls.read()
        self._core = Core()
        self._transport = AsyncTransport(self._settings)
        self._tasks: set[asyncio.Task[object]] = set()

    def __repr__(self) -> str:
        """Name the server, and nothing secret."""
        return f"AsyncClient({self._settings.address.url!r})"

    async def __aenter__(self) -> AsyncClient:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Cancel the scans that `score_many` still has in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def info(self) -> ServerInfo:
        """Fetch the server's contract, version and profile; see `Client.info`."""
        return await self._core.info(self._transport)

    async def score(self, scan: Scan, progress: Progress | None = None) -> Result:
        """Score one scan; see `Client.score`. `progress` may be called from a worker thread."""
        return await self._core.score(self._transport, scan, progress)

    async def score_many(
        self,
        scans: Iterable[Scan],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: ScanProgress | None = None,
    ) -> AsyncIterator[Outcome]:
        """Score scans concurrently, and yield the outcome of each as it completes.

        See `Client.score_many`. Close the iterator (`contextlib.aclosing`) where you leave it
        early: that cancels the scans in progress.
        """
        feed = iter(scans)
        running: set[asyncio.Task[Outcome]] = set()

        def start(most: int) -> None:
            for scan in islice(feed, most):
                task = asyncio.create_task(self._outcome(scan, bind(progress, scan)))
                running.add(task)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        try:
            start(max(1, concurrency))
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                running -= done
                # The next scans start before the caller handles these outcomes.
                start(len(done))
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _outcome(self, scan: Scan, progress: Progress | None) -> Outcome:
        try:
            return Outcome(scan, result=await self.score(scan, progress))
        except DlildError as error:
            return Outcome(scan, error=error)
