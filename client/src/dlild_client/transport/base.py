"""The seam between the client's one core and gRPC: what a connection can do.

The core (`core.py`) is written once, as coroutines over this seam. Under `AsyncClient` they wait on
the event loop (`aio.py`); under `Client` every method here blocks and returns, so that a coroutine
runs from its start to its end in one go (`blocking.py`).
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
        """Hand over a request; it may still be on its way when this returns."""

    async def receive(self, timeout_s: float) -> Any:
        """Wait for a response; None is the end of the stream.

        Raises
        ------
        TimeoutError
            None came in time.
        grpc.RpcError
            The stream broke.
        """

    async def finish(self, timeout_s: float) -> Any:
        """Say that nothing more is sent; return what still comes, None for nothing."""


class Connection(Protocol):
    """A gRPC channel of its own, for one attempt."""

    async def call(self, method: str, request: Any, timeout_s: float) -> Any:
        """Call a unary method of the inference service; raises grpc.RpcError."""

    def stream(self, timeout_s: float) -> AbstractAsyncContextManager[Stream]:
        """Open a stream that ends, at the latest, after `timeout_s`."""

    async def abort(self, message: Any, timeout_s: float) -> None:
        """Send one message on a stream of its own and wait for any answer; never raises."""


class Transport(Protocol):
    """What differs between a client that blocks and one that awaits."""

    settings: Settings

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; nothing is sent yet."""

    def sending_slot(self) -> AbstractAsyncContextManager[None]:
        """Wait until one scan more may be sent."""

    def preparing_slot(self) -> AbstractAsyncContextManager[None]:
        """Wait until the processors are free to prepare one scan more."""

    def attempts(
        self, may_retry: Callable[[Exception], bool]
    ) -> AsyncIterator[AbstractContextManager[None]]:
        """Try several times, with waits between, as `Settings.retries` has them."""

    async def run_sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what keeps a processor busy, or waits for a disk."""


def preparing_limit() -> int:
    """Return how many scans may be prepared at the same time.

    Preparing a scan keeps two processors busy. Many at once would all be ready at the same late
    moment, with the server idle until then; one after the other, the server starts on the first.
    """
    return max(1, (os.cpu_count() or 1) // 2)


def channel_options(settings: Settings) -> list[tuple[str, Any]]:
    """Options of every channel."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", settings.limits.message_bytes),
        ("grpc.max_receive_message_length", settings.limits.message_bytes),
        # A peer that vanishes without a word (a cable, a firewall) is noticed. No more pings than
        # the default allows: Triton hangs up on clients that ping a silent connection too often.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 60_000),
        # A new attempt gets a connection of its own, not a dead one that others share. So what a
        # server says of its contract holds for the stream behind it.
        ("grpc.use_local_subchannel_pool", 1),
        # The line is for windows of CT; a proxy that the environment names is for web pages.
        ("grpc.enable_http_proxy", 0),
    ]
    if settings.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", settings.tls.server_name))
    return options


def call_metadata(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Metadata of every call: the API key, under the header of Triton's restricted protocols."""
    if settings.api_key is None:
        return ()
    return (("triton-grpc-protocol-x-ild-key", settings.api_key),)


def is_retryable(error: Exception) -> bool:
    """Whether sending the same scan again may help."""
    return isinstance(error, DlildError) and error.retryable
