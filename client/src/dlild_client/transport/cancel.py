"""A way to stop a scan from another thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from dlild_client.errors import CancelledError

T = TypeVar("T")
_POLL_S = 0.25


def poll(get: Callable[[float], T], timeout_s: float) -> T:
    """Wait for an item of a queue, and glance up now and then.

    A signal that comes just before a thread falls asleep on a lock is not seen by Python until it
    wakes up: Ctrl-C must not wait for as long as an answer may take.

    Parameters
    ----------
    get : callable
        Waits for as many seconds as it is told; raises `queue.Empty`.
    timeout_s : float

    Raises
    ------
    TimeoutError
        Nothing came in time.
    """
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        with suppress(queue.Empty):
            return get(min(left, _POLL_S))
    raise TimeoutError


class CancelToken:
    """Stops the scans that it was given to; the server is told, so that it lets them go.

    Examples
    --------
    >>> token = CancelToken()
    >>> token.cancel()
    >>> token.is_cancelled
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: dict[object, Callable[[], object]] = {}

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop what runs with this token, and what will; may be called from any thread."""
        with self._lock:
            self._cancelled = True
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raise `CancelledError` once `cancel` was called."""
        if self._cancelled:
            raise CancelledError("the scan was stopped by its caller; nothing was scored")

    def wait(self, seconds: float) -> None:
        """Wait, and raise `CancelledError` as soon as `cancel` is called."""
        stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        with self.on_cancel(lambda: stopped.put(None)), suppress(TimeoutError):
            poll(lambda poll_s: stopped.get(timeout=poll_s), seconds)
        self.check()

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Have `callback` called when it is cancelled, from the thread that does so."""
        key = object()
        with self._lock:
            self._callbacks[key] = callback
        try:
            self.check()
            yield
        finally:
            with self._lock:
                del self._callbacks[key]
