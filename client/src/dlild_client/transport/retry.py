"""Retries with capped exponential backoff and jitter; a busy server says how long to wait."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from dlild_client.errors import BusyError
from dlild_client.settings import Retries

JITTER_S = 1.0
"""Most jitter of a wait: clients of a restarted server must not return all at once."""


class Attempts(Protocol):
    """Iterable of attempts, with or without an event loop."""

    def __iter__(self) -> Iterator[AbstractContextManager[None]]:
        """Wait by sleeping."""

    def __aiter__(self) -> AsyncIterator[AbstractContextManager[None]]:
        """Wait on the event loop."""


def retry_context(
    retries: Retries,
    may_retry: Callable[[Exception], bool],
    wait: Callable[[float], object] | None = None,
) -> Attempts:
    """Create the attempts of stamina, with capped exponential backoff.

    Parameters
    ----------
    retries : Retries
    may_retry : callable
        Called with each error; whether to retry.
    wait : callable, optional
        Called with the seconds instead of stamina's own sleep, which cannot be interrupted from
        another thread.
    """
    import stamina  # noqa: PLC0415  (loaded when first used)

    failed = busy = 0

    def back_off(error: Exception) -> bool | float:
        nonlocal failed, busy
        if not may_retry(error):
            return False
        # A server that is busy has not failed: only the time limit of the scan ends the waiting.
        if isinstance(error, BusyError):
            busy += 1
        else:
            failed += 1
            busy = 0
        if max(failed, 1 if busy else 0) >= retries.attempts:
            return False
        seconds = pause_s(busy or failed, retries, random.uniform(0, JITTER_S))  # noqa: S311 (no secret)
        if isinstance(error, BusyError):
            seconds = max(seconds, busy_pause_s(error, random.random()))  # noqa: S311 (no secret)
        if wait is None:
            return seconds
        wait(seconds)
        return 0.0

    # No time limit here: `may_retry` enforces that of the scan.
    return stamina.retry_context(on=back_off, attempts=None, timeout=None)


def busy_pause_s(error: BusyError, share: float) -> float:
    """Return the wait that a busy server asks for, and up to a tenth of it more.

    Parameters
    ----------
    error : BusyError
    share : float
        Of the tenth, 0 to 1: clients that were refused together must not return together.
    """
    return (error.retry_after_s or 0.0) * (1 + 0.1 * share)


def pause_s(failed: int, retries: Retries, jitter_s: float) -> float:
    """Return the wait after `failed` failures: exponential, with jitter, capped."""
    # The exponent is bounded: 2.0 ** 1000 overflows when multiplied.
    doubled = retries.first_wait_s * 2.0 ** min(failed - 1, 60)
    return min(retries.longest_wait_s, doubled + jitter_s)
