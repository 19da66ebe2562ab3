"""Transport of `Client`: every method blocks, so that no coroutine of the core ever suspends."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import grpc
from tritonclient.grpc import service_pb2_grpc

from dlild_client.settings import Settings
from dlild_client.transport.base import call_metadata, channel_options, preparing_limit
from dlild_client.transport.cancel import CancelToken, poll
from dlild_client.transport.retry import retry_context

P = ParamSpec("P")
T = TypeVar("T")

_END = object()
_CANCELLED = object()
_JOINING_S = 2.0
_POLL_S = 0.1


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the core over a blocking transport: it finishes in one `send`."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("a blocking transport never suspends")


def open_channel(settings: Settings) -> Any:
    """Open a gRPC channel; nothing is sent yet.

    Raises
    ------
    BadSettingsError
        A certificate or key cannot be used.
    """
    target, options = settings.address.target, channel_options(settings)
    if settings.address.secure:
        ca, key, cert = settings.tls.read()
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        return grpc.secure_channel(target, credentials, options=options)
    return grpc.insecure_channel(target, options=options)


@dataclass(frozen=True)
class Slots:
    """Semaphores that bound the concurrent scans of a client.

    Attributes
    ----------
    sending, preparing : semaphore
        Held while a scan is sent, and while it is prepared.
    """

    sending: threading.Semaphore
    preparing: threading.Semaphore

    @classmethod
    def of(cls, settings: Settings) -> Slots:
        """Create the semaphores that the limits and the processors allow."""
        return cls(
            threading.Semaphore(settings.limits.scans), threading.Semaphore(preparing_limit())
        )


class BlockingTransport:
    """Implements `base.Transport` with blocking calls.

    Parameters
    ----------
    settings : Settings
    slots : Slots
        Shared by all scans of a client.
    cancel : CancelToken
    """

    def __init__(self, settings: Settings, slots: Slots, cancel: CancelToken) -> None:
        self.settings = settings
        self._slots = slots
        self._cancel = cancel

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_BlockingConnection]:
        """Open a channel, closed on exit."""
        self._cancel.check()
        channel = open_channel(self.settings)
        try:
            yield _BlockingConnection(channel, self.settings, self._cancel)
        finally:
            channel.close()

    @asynccontextmanager
    async def sending_slot(self) -> AsyncIterator[None]:
        """Wait for a slot to send a scan."""
        with self._hold(self._slots.sending):
            yield

    @asynccontextmanager
    async def preparing_slot(self) -> AsyncIterator[None]:
        """Wait for a slot to prepare a scan."""
        with self._hold(self._slots.preparing):
            yield

    def attempts(
        self, may_retry: Callable[[Exception], bool]
    ) -> AsyncIterator[AbstractContextManager[None]]:
        """Iterate over the attempts of stamina; cancelling the scan ends a wait at once."""
        return _Steps(iter(retry_context(self.settings.retries, may_retry, self._cancel.wait)))

    async def run_sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in this thread."""
        self._cancel.check()
        return function(*args, **kwargs)

    @contextlib.contextmanager
    def _hold(self, slots: threading.Semaphore) -> Iterator[None]:
        while not slots.acquire(timeout=_POLL_S):
            self._cancel.check()
        try:
            yield
        finally:
            slots.release()


class _Steps:
    """Adapts an iterator to an asynchronous one; unlike a generator it needs no `aclose`."""

    def __init__(self, items: Iterator[AbstractContextManager[None]]) -> None:
        self._items = items

    def __aiter__(self) -> _Steps:
        return self

    async def __anext__(self) -> AbstractContextManager[None]:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


class _BlockingConnection:
    def __init__(self, channel: Any, settings: Settings, cancel: CancelToken) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._metadata = call_metadata(settings)
        self._cancel = cancel

    async def call(self, method: str, request: Any, timeout_s: float) -> Any:
        call = getattr(self._stub, method).future(
            request, timeout=timeout_s, metadata=self._metadata
        )
        with self._cancel.on_cancel(call.cancel):
            try:
                return call.result()
            except grpc.FutureCancelledError:
                self._cancel.check()
                raise
            except BaseException:
                call.cancel()
                raise

    @asynccontextmanager
    async def stream(self, timeout_s: float) -> AsyncIterator[_BlockingStream]:
        stream = _BlockingStream(self._stub, timeout_s, self._metadata, self._cancel)
        with self._cancel.on_cancel(stream.wake), stream:
            yield stream

    async def abort(self, message: Any, timeout_s: float) -> None:
        # ValueError: the channel was closed under the scan.
        with contextlib.suppress(grpc.RpcError, ValueError):
            for _ in self._stub.ModelStreamInfer(
                iter([message]), timeout=timeout_s, metadata=self._metadata
            ):
                return


class _BlockingStream:
    """A stream whose answers a thread puts into a queue, so that `receive` can time out."""

    def __init__(
        self,
        stub: Any,
        timeout_s: float,
        metadata: tuple[tuple[str, str], ...],
        cancel: CancelToken,
    ) -> None:
        self._cancel = cancel
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = stub.ModelStreamInfer(
            iter(self._outgoing.get, None), timeout=timeout_s, metadata=metadata
        )
        self._reader = threading.Thread(target=self._read, daemon=True, name="dlild-answers")

    def __enter__(self) -> None:
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        # In this order: end the request iterator, cancel the call whatever the server does, join
        # the reader.
        self._outgoing.put(None)
        self._call.cancel()
        self._reader.join(_JOINING_S)

    def wake(self) -> None:
        """Wake up `receive`: the scan was cancelled."""
        self._incoming.put(_CANCELLED)

    async def send(self, message: Any) -> None:
        self._cancel.check()
        self._outgoing.put(message)

    async def receive(self, timeout_s: float) -> Any:
        item = poll(lambda poll_s: self._incoming.get(timeout=poll_s), timeout_s)
        self._cancel.check()
        if isinstance(item, grpc.RpcError):
            raise item
        return None if item is _END else item

    async def finish(self, timeout_s: float) -> Any:
        self._outgoing.put(None)
        with contextlib.suppress(TimeoutError):
            item = poll(lambda poll_s: self._incoming.get(timeout=poll_s), timeout_s)
            return None if item is _END or isinstance(item, grpc.RpcError) else item
        return None

    def _read(self) -> None:
        try:
            for response in self._call:
                self._incoming.put(response)
        except grpc.RpcError as error:
            self._incoming.put(error)
        finally:
            self._incoming.put(_END)
