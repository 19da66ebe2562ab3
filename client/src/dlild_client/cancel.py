"""A way to stop a scan from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dlild_client.errors import Cancelled


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
        """Raise `Cancelled` once `cancel` was called."""
        if self._cancelled:
            raise Cancelled("the scan was stopped by its caller; nothing was scored")

    def wait(self, seconds: float) -> None:
        """Wait, and raise `Cancelled` as soon as `cancel` is called."""
        stopped = threading.Event()
        with self.calling(stopped.set):
            stopped.wait(seconds)
        self.check()

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
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
