"""How a scan becomes a result, written once for `Client` and `AsyncClient`.

Coroutines over the `Transport` protocol of `transport/base.py`. Every attempt opens its own
connection: it fetches the server's contract, sends the scan under a fresh id and fetches the
contract again, so that a score is never interpreted by another contract than the one it was
computed under.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from dlild_client.contract import Contract
from dlild_client.errors import (
    BusyError,
    ConnectionFailedError,
    ContractError,
    DlildError,
    ModelNotFoundError,
    NotReadyError,
    ScanLostError,
    TimedOutError,
)
from dlild_client.preparation.prepare import PreparedScan, Progress, no_progress, prepare
from dlild_client.reading.files import check_path
from dlild_client.reading.read import read_volume
from dlild_client.results.result import Result, build_result
from dlild_client.transport.base import Connection, Transport, is_retryable
from dlild_client.transport.connection import ServerInfo, connect_error, read_info
from dlild_client.transport.exchange import Exchange, window_requests
from dlild_client.transport.failures import SCAN_TIMED_OUT, from_rpc_error
from dlild_client.transport.retry import busy_pause_s
from dlild_client.transport.wire import MODEL, FinalAnswer
from dlild_client.volume import Volume

WAITING = "dlild_client.waiting"
"""Logger that reports, at level INFO, why a scan waits for its server and is sent again."""
_LOG = logging.getLogger(WAITING)

CLOSING_S = 2.0
ABORT_TIMEOUT_S = 15.0
"""An abort request queues behind the windows in flight; without a GPU they take seconds."""
MODEL_NOT_FOUND_S = 60.0
"""A known server may report that it has no such model for this long, while it starts."""
SILENT_ABORT_TIMEOUT_S = 1.0
"""Time limit of an abort request to a server that has just timed out."""

Scan = str | os.PathLike[str] | Volume | Callable[[], Volume]
"""What can be scored: a path that `read_volume` reads, a volume in HU, or what returns one."""

DEFAULT_CONCURRENCY = 2
"""Scans in progress at once: while one is sent, the next is read."""

ScanProgress = Callable[[Scan, str, int, int], None]
"""Called with a scan, its stage, how much is done, and the total."""


def bind(progress: ScanProgress | None, scan: Scan) -> Progress | None:
    """Bind a progress callback of many scans to one of them."""
    return None if progress is None else partial(progress, scan)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Outcome of one scan of `score_many`: either `result` or `error` is set.

    Attributes
    ----------
    scan : path or Volume
        As it was given.
    result : Result or None
    error : DlildError or None
    """

    scan: Scan
    result: Result | None = None
    error: DlildError | None = None

    def unwrap(self) -> Result:
        """Return the result, or raise the error."""
        if self.result is None:
            assert self.error is not None
            raise self.error
        return self.result


class Core:
    """State kept between calls: whether this client has ever reached its server."""

    def __init__(self) -> None:
        self._has_connected = False

    async def info(self, transport: Transport) -> ServerInfo:
        """Fetch the contract, version and profile of the server."""
        async for attempt in transport.attempts(self._may_retry):
            with attempt:
                async with transport.connect() as connection:
                    return await self._fetch_info(transport, connection)
        raise AssertionError("an attempt ends in an answer or an error")

    async def score(self, transport: Transport, scan: Scan, progress: Progress | None) -> Result:
        """Score one scan; send it again after an error that may pass."""
        job = _ScanJob(transport, scan, progress or no_progress)
        if isinstance(scan, str | os.PathLike):
            # Before any connection: a mistyped path is reported first, not an absent server.
            await transport.run_sync(check_path, Path(scan))

        def may_retry(error: Exception) -> bool:
            return job.should_retry(error, self._may_retry(error))

        async for attempt in transport.attempts(may_retry):
            with attempt:
                async with transport.connect() as connection:
                    # Before the scan is read: an absent server fails fast.
                    info = await self._fetch_info(transport, connection)
                    prepared = await job.prepare(info)
                    try:
                        async with transport.sending_slot():
                            final, engine = await job.send(connection, prepared, info)
                    except ContractError:
                        # Raises ScanLostError, which is retried, where the model was exchanged.
                        await self._check_same(transport, connection, info)
                        raise
                    await self._check_same(transport, connection, info)
                    return await transport.run_sync(
                        build_result, prepared, final, engine, info, job.timings()
                    )
        raise AssertionError("an attempt ends in a result or an error")

    async def _fetch_info(self, transport: Transport, connection: Connection) -> ServerInfo:
        """Check that the model is ready, and fetch its contract."""
        settings = transport.settings
        url, timeout_s = settings.address.url, settings.timeout.connect_s
        try:
            metadata = await connection.call(
                "ServerMetadata", service_pb2.ServerMetadataRequest(), timeout_s
            )
            ready = await connection.call(
                "ModelReady", service_pb2.ModelReadyRequest(name=MODEL), timeout_s
            )
            if not ready.ready:
                raise NotReadyError(
                    f"{url}: the model {MODEL} is not ready; look at the server's log"
                )
            answer = await connection.call(
                "ModelConfig", service_pb2.ModelConfigRequest(name=MODEL), timeout_s
            )
        except grpc.RpcError as error:
            raise await transport.run_sync(connect_error, error, settings) from None
        info = read_info(url, metadata.version, answer.config)
        self._has_connected = True
        return info

    async def _check_same(
        self, transport: Transport, connection: Connection, info: ServerInfo
    ) -> None:
        """Make sure that the contract is still the one that the scan was prepared for."""
        try:
            now = await self._fetch_info(transport, connection)
        except ConnectionFailedError:
            # The connection broke after the score, which it had carried: the server is the one
            # whose contract was fetched before it.
            return
        if now != info:
            raise ScanLostError(
                "the server changed its model or profile during the scan; send the scan again"
            )

    def _may_retry(self, error: Exception) -> bool:
        """Whether to retry: not where this client has never reached its server."""
        if isinstance(error, ConnectionFailedError | NotReadyError) and not self._has_connected:
            return False
        return is_retryable(error)


@dataclass
class _Stages:
    read_s: float = 0.0
    inference_s: float = 0.0


class _ScanJob:
    """One scan: the state kept between its attempts."""

    def __init__(self, transport: Transport, scan: Scan, report: Progress) -> None:
        self._transport = transport
        self._scan = scan
        self._report = report
        self._start = time.monotonic()
        self._deadline: float | None = None
        self._prepared: tuple[Contract, PreparedScan] | None = None
        self._stages = _Stages()
        self._attempts = 0
        self._busy: BusyError | None = None
        self._not_found_since: float | None = None

    def should_retry(self, error: Exception, may_help: bool) -> bool:
        """Record how an attempt ended; return whether another may succeed and has the time."""
        retries = self._transport.settings.retries
        self._start_clock()
        self._busy = error if isinstance(error, BusyError) else None
        # A busy server costs no attempt: it is waited for as long as the scan has time.
        self._attempts += self._busy is None
        wait_s = retries.longest_wait_s
        if isinstance(error, BusyError):
            wait_s = max(wait_s, busy_pause_s(error, 1.0))
        has_time = self._left_s() > wait_s and self._may_be_found(error)
        again = may_help and has_time and max(self._attempts, 1) < retries.attempts
        if again:
            _LOG.info("%s", error)
            self._report("again", self._attempts, retries.attempts - 1)
        return again

    def _may_be_found(self, error: Exception) -> bool:
        """Whether a missing model may still appear; any other error restarts the time limit."""
        if not isinstance(error, ModelNotFoundError):
            self._not_found_since = None
            return True
        now = time.monotonic()
        self._not_found_since = self._not_found_since or now
        return now - self._not_found_since < MODEL_NOT_FOUND_S

    async def prepare(self, info: ServerInfo) -> PreparedScan:
        """Read and prepare the scan, at the first attempt and where the contract has changed."""
        if self._prepared is None or self._prepared[0] != info.contract:
            # Volumes are large: one is freed as soon as it is prepared, and read again in the
            # rare case of another contract.
            volume = await self._read()
            async with self._transport.preparing_slot():
                prepared = await self._transport.run_sync(
                    prepare, volume, info.contract, self._report
                )
            self._prepared = info.contract, prepared
        return self._prepared[1]

    async def send(
        self, connection: Connection, prepared: PreparedScan, info: ServerInfo
    ) -> tuple[FinalAnswer, str | None]:
        """Send the windows and wait for the score."""
        start = time.perf_counter()
        self._start_clock()
        most, limit = info.contract.windows.in_flight, self._transport.settings.limits.in_flight
        exchange = Exchange(
            window_requests(prepared, info.contract),
            info.contract,
            count=len(prepared.plan.origins),
            in_flight=min(most, limit or most),
            cautious=self._busy is not None,
        )
        self._report("inference", 0, exchange.count)
        try:
            final = await run_exchange(
                self._transport, connection, exchange, self._left_s(), self._report
            )
        except TimedOutError:
            # The server was busy until the scan had no time left.
            if self._busy and not exchange.answered and self._has_ended():
                raise self._busy from None
            raise
        self._stages.inference_s = time.perf_counter() - start
        return final, exchange.engine

    def timings(self) -> dict[str, float]:
        """Seconds of each stage."""
        assert self._prepared is not None
        return {
            "read": self._stages.read_s,
            **self._prepared[1].timings_s,
            "inference": self._stages.inference_s,
            "total": time.monotonic() - self._start,
        }

    async def _read(self) -> Volume:
        start = time.perf_counter()
        self._report("read", 0, 1)
        volume = await self._transport.run_sync(_read, self._scan)
        self._report("read", 1, 1)
        self._stages.read_s = time.perf_counter() - start
        return volume

    def _start_clock(self) -> None:
        """Start the scan's time limit; reading and preparing do not count."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._transport.settings.timeout.scan_s

    def _left_s(self) -> float:
        assert self._deadline is not None
        return max(0.01, self._deadline - time.monotonic())

    def _has_ended(self) -> bool:
        assert self._deadline is not None
        return time.monotonic() >= self._deadline


async def run_exchange(
    transport: Transport,
    connection: Connection,
    exchange: Exchange,
    scan_s: float,
    report: Progress = no_progress,
) -> FinalAnswer:
    """Run one exchange over a stream of its own.

    Raises
    ------
    DlildError
        Any branch of the tree but `InputError`. On any exception, cancellation included, an abort
        request frees the scan's slot on the server.
    """
    answer_s, deadline = transport.settings.timeout.answer_s, time.monotonic() + scan_s
    try:
        async with connection.stream(scan_s) as stream:
            while not exchange.is_answered:
                while exchange.may_send:
                    await stream.send(await transport.run_sync(exchange.next_message))
                exchange.take(await _receive(stream.receive, answer_s, deadline))
                report("inference", exchange.answered, exchange.count)
            final = exchange.result()
            exchange.take_after_end(await stream.finish(CLOSING_S))
            return final
    except BaseException as error:
        # The server holds the slot until the request arrives; a refused first window holds none.
        message = exchange.abort_request()
        if message is not None and not (isinstance(error, BusyError) and not exchange.answered):
            timeout_s = (
                SILENT_ABORT_TIMEOUT_S if isinstance(error, TimedOutError) else ABORT_TIMEOUT_S
            )
            await connection.abort(message, timeout_s)
        raise


async def _receive(receive: Callable[[float], Any], answer_s: float, deadline: float) -> Any:
    try:
        return await receive(answer_s)
    except TimeoutError:
        raise TimedOutError(
            f"no answer from the server for {answer_s:g} s; look at the server, or give it more "
            "time"
        ) from None
    except grpc.RpcError as error:
        found = from_rpc_error(error)
        # grpc.aio calls a write that the time limit cut off a broken connection.
        if isinstance(found, ConnectionFailedError) and time.monotonic() >= deadline:
            found = TimedOutError(SCAN_TIMED_OUT)
        raise found from None


def _read(scan: Scan) -> Volume:
    if isinstance(scan, Volume):
        return scan
    return scan() if callable(scan) else read_volume(scan)
