"""What comes of one scan among many: its result, or the error that is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlild_client.core import Scan
    from dlild_client.errors import DlildError
    from dlild_client.preparation.prepare import Progress
    from dlild_client.results.result import Result

DEFAULT_CONCURRENCY = 2
"""Scans under way at once: while one is sent and waited for, the next is read."""

ScanProgress = Callable[["Scan", str, int, int], None]
"""Called with a scan, its stage, how much is done, and the whole."""


def bind(progress: ScanProgress | None, scan: Scan) -> Progress | None:
    """Progress of one scan among many."""
    return None if progress is None else partial(progress, scan)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One scan of `score_many`: either `result` or `error` is there.

    Attributes
    ----------
    scan : path or Volume
        As it was given.
    result : Result or None
    error : DlildError or None
    """

    scan: Scan
    result: Result | None = None
    error: DlildError | None = None

    def unwrap(self) -> Result:
        """Return the result, or raise the error."""
        if self.result is None:
            assert self.error is not None
            raise self.error
        return self.result
