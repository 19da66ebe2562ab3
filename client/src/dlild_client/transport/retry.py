"""When a scan is sent again: after what may pass by itself, with jitter, and never without end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from dlild_client.settings import Retries

JITTER_S = 1.0
"""Most that chance adds to a wait: clients of a restarted server must not come all at once."""


class Attempts(Protocol):
    """Attempts to go through, with or without an event loop."""

    def __iter__(self) -> Iterator[AbstractContextManager[None]]:
        """Wait by sleeping."""

    def __aiter__(self) -> AsyncIterator[AbstractContextManager[None]]:
        """Wait on the event loop."""


def retry_context(
    retries: Retries,
    may_retry: Callable[[Exception], bool],
    wait: Callable[[float], object] | None = None,
) -> Attempts:
    """Make the attempts of stamina, with waits that double up to a cap.

    Parameters
    ----------
    retries : Retries
    may_retry : callable
        Asked of each error whether it may pass by itself.
    wait : callable, optional
        Waits for some seconds, in the place of stamina: its own sleep cannot be broken off from
        another thread.
    """
    import stamina  # noqa: PLC0415  (loaded when first used)

    failed = 0

    def back_off(error: Exception) -> bool | float:
        nonlocal failed
        if not may_retry(error):
            return False
        failed += 1
        seconds = pause_s(failed, retries, random.uniform(0, JITTER_S))  # noqa: S311 (no secret)
        if wait is None or failed >= retries.attempts:
            return seconds
        wait(seconds)
        return 0.0

    # `may_retry` knows the time of the scan.
    return stamina.retry_context(on=back_off, attempts=retries.attempts, timeout=None)


def pause_s(failed: int, retries: Retries, jitter_s: float) -> float:
    """Seconds to wait after some failures: doubled after each, with jitter, up to a cap."""
    # Bounded before it is raised: 2 to the power of 1,000 attempts is no number of seconds.
    doubled = retries.first_wait_s * 2.0 ** min(failed - 1, 60)
    return min(retries.longest_wait_s, doubled + jitter_s)
