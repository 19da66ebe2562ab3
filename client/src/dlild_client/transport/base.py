"""The `Transport` protocol between the core of the client and gRPC.

The core (`core.py`) is written once, as coroutines over this protocol. Under `AsyncClient` they
await the event loop (`aio.py`); under `Client` every method blocks, so that a coroutine runs to its
end in one step (`blocking.py`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ParamSpec, Protocol, TypeVar

from dlild_client.errors import DlildError
from dlild_client.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class Stream(Protocol):
    """One bidirectional stream of `ModelStreamInfer`."""

    async def send(self, message: Any) -> None:
        """Queue a request; it may not be on the wire yet when this returns."""

    async def receive(self, timeout_s: float) -> Any:
        """Wait for a response; None is the end of the stream.

        Raises
        ------
        TimeoutError
            No response within the time limit.
        grpc.RpcError
            The stream broke.
        """

    async def finish(self, timeout_s: float) -> Any:
        """Half-close the stream; return the next response, None for its end."""


class Connection(Protocol):
    """The gRPC channel of one attempt."""

    async def call(self, method: str, request: Any, timeout_s: float) -> Any:
        """Call a unary method of the inference service; raises grpc.RpcError."""

    def stream(self, timeout_s: float) -> AbstractAsyncContextManager[Stream]:
        """Open a stream with a deadline of `timeout_s`."""

    async def abort(self, message: Any, timeout_s: float) -> None:
        """Send an abort request on a stream of its own, and wait for any answer; never raises."""


class Transport(Protocol):
    """What differs between the blocking and the asyncio client."""

    settings: Settings

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; sends nothing yet."""

    def sending_slot(self) -> AbstractAsyncContextManager[None]:
        """Wait for a slot to send a scan."""

    def preparing_slot(self) -> AbstractAsyncContextManager[None]:
        """Wait for a slot to prepare a scan."""

    def attempts(
        self, may_retry: Callable[[Exception], bool]
    ) -> AsyncIterator[AbstractContextManager[None]]:
        """Iterate over attempts, with the waits of `Settings.retries` between them."""

    async def run_sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that computes or reads from a disk."""


def preparing_limit() -> int:
    """Return how many scans may be prepared at once: half the number of processors.

    Preparing a scan uses two processors. More at once would all finish late, with the server idle
    until then.
    """
    return max(1, (os.cpu_count() or 1) // 2)


def channel_options(settings: Settings) -> list[tuple[str, Any]]:
    """Return the options of a gRPC channel."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", settings.limits.message_bytes),
        ("grpc.max_receive_message_length", settings.limits.message_bytes),
        # Keepalive detects a peer that vanished without a FIN (a cable, a firewall). No more pings
        # than the default: Triton closes idle connections that are pinged too often.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 60_000),
        # A connection per attempt, not a broken shared one. The contract fetched on it is that of
        # the server that receives the stream.
        ("grpc.use_local_subchannel_pool", 1),
        # Ignore http_proxy of the environment, which is meant for web pages.
        ("grpc.enable_http_proxy", 0),
    ]
    if settings.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    return options


def call_metadata(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call: the API key, as Triton's restricted protocols expect it."""
    if settings.api_key is None:
        return ()
    return (("triton-grpc-protocol-x-ild-key", settings.api_key),)


def is_retryable(error: Exception) -> bool:
    """Whether sending the same scan again may help."""
    return isinstance(error, DlildError) and error.retryable
