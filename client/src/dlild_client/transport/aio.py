"""Transport of `AsyncClient`: gRPC on the event loop, blocking work in threads."""

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
    """Implements `base.Transport` on an event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._slots = asyncio.Semaphore(settings.limits.scans)
        self._preparing = asyncio.Semaphore(preparing_limit())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_AsyncConnection]:
        """Open a channel, closed on exit."""
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
        """Wait for a slot to send a scan."""
        async with self._slots:
            yield

    @asynccontextmanager
    async def preparing_slot(self) -> AsyncIterator[None]:
        """Wait for a slot to prepare a scan."""
        async with self._preparing:
            yield

    def attempts(
        self, may_retry: Callable[[Exception], bool]
    ) -> AsyncIterator[AbstractContextManager[None]]:
        """Iterate over the attempts of stamina."""
        return aiter(retry_context(self.settings.retries, may_retry))

    async def run_sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in a thread."""
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
        # Shielded: the request is also sent while this task is being cancelled.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(self._send_abort(message, timeout_s))

    async def _send_abort(self, message: Any, timeout_s: float) -> None:
        call = self._stub.ModelStreamInfer(timeout=timeout_s, metadata=self._metadata)
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
            await asyncio.wait_for(call.write(message), timeout_s)
            await asyncio.wait_for(call.read(), timeout_s)
        call.cancel()


class _AsyncStream:
    """A stream whose answers a background task reads as they arrive.

    When a server ends the stream early, gRPC fails the next write and every later read: the answers
    sent before must have been read by then.
    """

    def __init__(self, call: Any, answer_s: float) -> None:
        self._call = call
        self._answer_s = answer_s
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def send(self, message: Any) -> None:
        # Errors are dropped: `receive` raises why the stream ended, or times out where it is stuck.
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
