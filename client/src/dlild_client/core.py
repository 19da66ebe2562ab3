"""How a scan becomes a result, written once for `Client` and `AsyncClient`.

Coroutines over the seam of `line.py`. Every attempt has a connection of its own: the server is
asked for its contract, the scan is sent under a fresh id, and the contract is asked again, so that
a score is never read by another contract than the one that made it.
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
from dlild_client.preparation.prepare import PreparedScan, Progress, prepare, silent
from dlild_client.reading.files import check_path
from dlild_client.reading.read import read_volume
from dlild_client.results.result import Result, build_result
from dlild_client.transport.base import Connection, Transport, is_retryable
from dlild_client.transport.connection import ServerInfo, connect_error, read_info
from dlild_client.transport.exchange import Exchange, window_requests
from dlild_client.transport.failures import from_rpc_error
from dlild_client.transport.wire import MODEL, FinalAnswer
from dlild_client.volume import Volume

WAITING = "dlild_client.waiting"
"""Logger that is told, at level INFO, why a scan waits for its server and is sent again."""
_LOG = logging.getLogger(WAITING)

CLOSING_S = 2.0
ABORT_TIMEOUT_S = 15.0
"""A farewell waits behind the windows under way, which a server without a GPU takes seconds for."""
MODEL_NOT_FOUND_S = 60.0
"""For so long a server that was met before may answer that it knows no such model, as it starts."""
SILENT_ABORT_TIMEOUT_S = 1.0
"""Time for a farewell to a server that has just been silent for too long."""

Scan = str | os.PathLike[str] | Volume | Callable[[], Volume]
"""What can be scored: a path that `read_volume` reads, a volume in HU, or what returns one."""

DEFAULT_CONCURRENCY = 2
"""Scans under way at once: while one is sent and waited for, the next is read."""

ScanProgress = Callable[[Scan, str, int, int], None]
"""Called with a scan, its stage, how much is done, and the whole."""


def bind(progress: ScanProgress | None, scan: Scan) -> Progress | None:
    """Progress of one scan among many."""
    return None if progress is None else partial(progress, scan)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One scan of `score_many`: either `result` or `error` is there.

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
    """What is kept from call to call: whether this client ever reached its server."""

    def __init__(self) -> None:
        self._has_connected = False

    async def info(self, transport: Transport) -> ServerInfo:
        """Ask the server for its contract, version and profile."""
        async for attempt in transport.attempts(self._may_retry):
            with attempt:
                async with transport.connect() as connection:
                    return await self._fetch_info(transport, connection)
        raise AssertionError("an attempt ends in an answer or an error")

    async def score(self, transport: Transport, scan: Scan, progress: Progress | None) -> Result:
        """Score one scan, sending it again where that may help."""
        job = _ScanJob(transport, scan, progress or silent)
        if isinstance(scan, str | os.PathLike):
            # Who has mistyped a path should not hear of an absent server first.
            await transport.run_sync(check_path, Path(scan))

        def may_retry(error: Exception) -> bool:
            return job.should_retry(error, self._may_retry(error))

        async for attempt in transport.attempts(may_retry):
            with attempt:
                async with transport.connect() as connection:
                    # Before the scan is read: an absent server must not cost the time to read it.
                    info = await self._fetch_info(transport, connection)
                    prepared = await job.prepare(info)
                    try:
                        async with transport.sending_slot():
                            final, engine = await job.send(connection, prepared, info)
                    except ContractError:
                        # Changed in mid-scan, and the scan is sent again; or else it stands.
                        await self._check_same(transport, connection, info)
                        raise
                    await self._check_same(transport, connection, info)
                    return await transport.run_sync(
                        build_result, prepared, final, engine, info, job.timings()
                    )
        raise AssertionError("an attempt ends in a result or an error")

    async def _fetch_info(self, transport: Transport, connection: Connection) -> ServerInfo:
        """Ask whether the model is ready, and for its contract."""
        settings = transport.settings
        url, patience = settings.address.url, settings.timeout.connect_s
        try:
            metadata = await connection.call(
                "ServerMetadata", service_pb2.ServerMetadataRequest(), patience
            )
            ready = await connection.call(
                "ModelReady", service_pb2.ModelReadyRequest(name=MODEL), patience
            )
            if not ready.ready:
                raise NotReadyError(
                    f"{url}: the model {MODEL} is not ready; look at the server's log"
                )
            answer = await connection.call(
                "ModelConfig", service_pb2.ModelConfigRequest(name=MODEL), patience
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
            # The line broke behind the score: it came over this very connection, from the server
            # that was asked before it.
            return
        if now != info:
            raise ScanLostError(
                "the server changed its model or profile during the scan; send the scan again"
            )

    def _may_retry(self, error: Exception) -> bool:
        """Whether the error may pass: not where this client has never reached its server."""
        if isinstance(error, ConnectionFailedError | NotReadyError) and not self._has_connected:
            return False
        return is_retryable(error)


@dataclass
class _Stages:
    read_s: float = 0.0
    inference_s: float = 0.0


class _ScanJob:
    """One scan on its way: what is kept from attempt to attempt."""

    def __init__(self, transport: Transport, scan: Scan, report: Progress) -> None:
        self._transport = transport
        self._scan = scan
        self._report = report
        self._start = time.monotonic()
        self._deadline: float | None = None
        self._prepared: tuple[Contract, PreparedScan] | None = None
        self._stages = _Stages()
        self._attempts = 0
        self._was_busy = False
        self._not_found_since: float | None = None

    def should_retry(self, error: Exception, may_help: bool) -> bool:
        """Take note of how an attempt ended; tell whether another may help and has the time."""
        retries = self._transport.settings.retries
        self._attempts += 1
        self._start_clock()
        self._was_busy = isinstance(error, BusyError)
        has_time = self._left_s() > retries.longest_wait_s and self._may_be_found(error)
        again = may_help and has_time and self._attempts < retries.attempts
        if again:
            _LOG.info("%s", error)
            self._report("again", self._attempts, retries.attempts - 1)
        return again

    def _may_be_found(self, error: Exception) -> bool:
        """Whether a model that is not found may still appear; any other answer counts anew."""
        if not isinstance(error, ModelNotFoundError):
            self._not_found_since = None
            return True
        now = time.monotonic()
        self._not_found_since = self._not_found_since or now
        return now - self._not_found_since < MODEL_NOT_FOUND_S

    async def prepare(self, info: ServerInfo) -> PreparedScan:
        """Read and prepare the scan, at the first attempt and where the contract has changed."""
        if self._prepared is None or self._prepared[0] != info.contract:
            # Scans are large: what was read goes as soon as it is prepared, and is read again in
            # the rare case of another contract.
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
            cautious=self._was_busy,
        )
        self._report("inference", 0, exchange.count)
        final = await run_exchange(
            self._transport, connection, exchange, self._left_s(), self._report
        )
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
        """Begin to count the time of the scan: what the user's own disk takes is not in it."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._transport.settings.timeout.scan_s

    def _left_s(self) -> float:
        assert self._deadline is not None
        return max(0.01, self._deadline - time.monotonic())


async def run_exchange(
    transport: Transport,
    connection: Connection,
    exchange: Exchange,
    scan_s: float,
    report: Progress = silent,
) -> FinalAnswer:
    """Carry out one exchange over a stream of its own.

    Raises
    ------
    DlildError
        Any branch of the tree but `InputError`. The server is told that the
        scan will not be finished, also when the caller cancels.
    """
    answer_s = transport.settings.timeout.answer_s
    try:
        async with connection.stream(scan_s) as stream:
            while not exchange.is_answered:
                while exchange.may_send:
                    await stream.send(await transport.run_sync(exchange.next_message))
                exchange.take(await _receive(stream.receive, answer_s))
                report("inference", exchange.answered, exchange.count)
            final = exchange.result()
            exchange.take_after_end(await stream.finish(CLOSING_S))
            return final
    except BaseException as error:
        # The server holds the place until it hears of it; a refused first window holds none.
        message = exchange.abort_request()
        if message is not None and not (isinstance(error, BusyError) and not exchange.answered):
            patience = (
                SILENT_ABORT_TIMEOUT_S if isinstance(error, TimedOutError) else ABORT_TIMEOUT_S
            )
            await connection.abort(message, patience)
        raise


async def _receive(receive: Callable[[float], Any], answer_s: float) -> Any:
    try:
        return await receive(answer_s)
    except TimeoutError:
        raise TimedOutError(
            f"no answer from the server for {answer_s:g} s; look at the server, or give it more "
            "time"
        ) from None
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


def _read(scan: Scan) -> Volume:
    if isinstance(scan, Volume):
        return scan
    return scan() if callable(scan) else read_volume(scan)
