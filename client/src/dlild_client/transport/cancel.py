"""Cancellation of a scan from another thread."""

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
    """Poll a blocking `get` of a queue, so that Ctrl-C takes effect within a quarter of a second.

    Python handles a signal that arrives just before a thread blocks on a lock only when the thread
    wakes up.

    Parameters
    ----------
    get : callable
        Waits for at most the seconds passed to it; raises `queue.Empty`.
    timeout_s : float

    Raises
    ------
    TimeoutError
        No item within the time limit.
    """
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        with suppress(queue.Empty):
            return get(min(left, _POLL_S))
    raise TimeoutError


class CancelToken:
    """Cancels the scans that it is passed to; the server receives an abort request for each.

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
        """Cancel the current and future scans of this token; thread-safe."""
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
        """Sleep; raise `CancelledError` as soon as `cancel` is called."""
        stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        with self.on_cancel(lambda: stopped.put(None)), suppress(TimeoutError):
            poll(lambda poll_s: stopped.get(timeout=poll_s), seconds)
        self.check()

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call `callback` on cancellation, in the thread that cancels."""
        key = object()
        with self._lock:
            self._callbacks[key] = callback
        try:
            self.check()
            yield
        finally:
            with self._lock:
                del self._callbacks[key]
