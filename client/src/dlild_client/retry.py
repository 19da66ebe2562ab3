"""When a scan is sent again: after what may pass by itself, with jitter, and never without end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from dlild_client.settings import Settings

JITTER_S = 1.0
"""Most that chance adds to a wait: clients of a restarted server must not come all at once."""


class Attempts(Protocol):
    """Attempts to go through, with or without an event loop."""

    def __iter__(self) -> Iterator[AbstractContextManager[None]]:
        """Wait by sleeping."""

    def __aiter__(self) -> AsyncIterator[AbstractContextManager[None]]:
        """Wait on the event loop."""


def retry_context(settings: Settings, may_retry: Callable[[Exception], bool]) -> Attempts:
    """Make the attempts of stamina, with waits that double up to a cap."""
    import stamina  # noqa: PLC0415  (loaded when first used)

    retries = settings.retries
    return stamina.retry_context(
        on=may_retry,
        attempts=retries.attempts,
        timeout=None,  # `may_retry` knows the time of the scan
        wait_initial=retries.first_wait_s,
        wait_max=retries.longest_wait_s,
        wait_jitter=min(JITTER_S, retries.longest_wait_s),
    )
