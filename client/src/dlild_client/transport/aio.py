"""The line of `AsyncClient`: gRPC on the event loop, and work in threads beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2_grpc

from dlild_client.settings import Settings
from dlild_client.transport.base import call_metadata, channel_options, preparing_limit
from dlild_client.transport.retry import retry_context

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTransport:
    """See `line.Line`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._slots = asyncio.Semaphore(settings.limits.scans)
        self._preparing = asyncio.Semaphore(preparing_limit())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_AsyncConnection]:
        """Open a channel; it closes with the block."""
        target, options = self.settings.address.target, channel_options(self.settings)
        if self.settings.address.secure:
            ca, key, cert = await asyncio.to_thread(self.settings.tls.read)
            credentials = grpc.ssl_channel_credentials(ca, key, cert)
            channel = aio.secure_channel(target, credentials, options=options)
        else:
            channel = aio.insecure_channel(target, options=options)
        try:
            yield _AsyncConnection(channel, self.settings)
        finally:
            await channel.close()

    @asynccontextmanager
    async def sending_slot(self) -> AsyncIterator[None]:
        """Wait until one scan more may be sent."""
        async with self._slots:
            yield

    @asynccontextmanager
    async def preparing_slot(self) -> AsyncIterator[None]:
        """Wait until the processors are free to prepare one scan more."""
        async with self._preparing:
            yield

    def attempts(
        self, may_retry: Callable[[Exception], bool]
    ) -> AsyncIterator[AbstractContextManager[None]]:
        """Try as often as stamina says."""
        return aiter(retry_context(self.settings.retries, may_retry))

    async def run_sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the work in a thread; the loop goes on meanwhile."""
        return await asyncio.to_thread(function, *args, **kwargs)


class _AsyncConnection:
    def __init__(self, channel: Any, settings: Settings) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._metadata = call_metadata(settings)
        self._answer_s = settings.timeout.answer_s

    async def call(self, method: str, request: Any, timeout_s: float) -> Any:
        return await getattr(self._stub, method)(
            request, timeout=timeout_s, metadata=self._metadata
        )

    @asynccontextmanager
    async def stream(self, timeout_s: float) -> AsyncIterator[_AsyncStream]:
        call = self._stub.ModelStreamInfer(timeout=timeout_s, metadata=self._metadata)
        stream = _AsyncStream(call, self._answer_s)
        try:
            yield stream
        finally:
            call.cancel()
            await stream.close()

    async def abort(self, message: Any, timeout_s: float) -> None:
        # Also while this task is being cancelled: the server must hear of it.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(self._send_abort(message, timeout_s))

    async def _send_abort(self, message: Any, timeout_s: float) -> None:
        call = self._stub.ModelStreamInfer(timeout=timeout_s, metadata=self._metadata)
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
            await asyncio.wait_for(call.write(message), timeout_s)
            await asyncio.wait_for(call.read(), timeout_s)
        call.cancel()


class _AsyncStream:
    """A stream whose answers are read as they come.

    Where a server ends the stream early, gRPC's next write fails, and with it every later read:
    what the server said before must have been read by then.
    """

    def __init__(self, call: Any, answer_s: float) -> None:
        self._call = call
        self._answer_s = answer_s
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def send(self, message: Any) -> None:
        # A stream that has ended takes nothing more; the next answer tells why. One that is stuck
        # is as silent as one that does not answer.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
            await asyncio.wait_for(self._call.write(message), self._answer_s)

    async def receive(self, timeout_s: float) -> Any:
        item = await asyncio.wait_for(self._incoming.get(), timeout_s)
        if isinstance(item, Exception):
            raise item
        return item

    async def finish(self, timeout_s: float) -> Any:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
            await self._call.done_writing()
            return await self.receive(timeout_s)
        return None

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not aio.EOF:
                self._incoming.put_nowait(response)
            self._incoming.put_nowait(None)
        except grpc.RpcError as error:
            self._incoming.put_nowait(error)
