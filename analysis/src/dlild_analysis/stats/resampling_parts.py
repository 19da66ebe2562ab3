"""What bootstrap and cross-validation share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from dlild_analysis.stats.arrays import FloatArray, IntArray
from dlild_analysis.stats.errors import StatisticsError

Predict = Callable[[IntArray], FloatArray]
Fit = Callable[[IntArray], Predict]
Metric = Callable[[IntArray, FloatArray], float]
Statistic = Callable[[IntArray], float]
Progress = Callable[[int, int], None]


def tell(progress: Progress | None, done: int, total: int) -> None:
    """Report progress, if anyone listens."""
    if progress is not None:
        progress(done, total)


def keep_finite(
    values: FloatArray, what: str, reasons: Counter[str] | None = None
) -> tuple[FloatArray, tuple[str, ...]]:
    """Leave out what failed, and say how much and why; more than half is an error.

    Parameters
    ----------
    values
        Not finite where something failed.
    what
        What was repeated.
    reasons
        How often each reason was given; what failed without one was not finite.
    """
    kept = values[np.isfinite(values)]
    failed = values.size - kept.size
    why = _why(failed, reasons)
    if kept.size < 2 or failed > values.size / 2:
        raise StatisticsError(
            f"{failed} of {values.size} {what} failed{why}: the data are too few for this model;"
            " use fewer covariates"
        )
    if not failed:
        return kept, ()
    return kept, (f"{failed} of {values.size} {what} failed and were left out{why}",)


def _why(failed: int, reasons: Counter[str] | None) -> str:
    told = Counter(reasons or {})
    silent = failed - told.total()
    if silent > 0:
        told["the measure is not finite"] += silent
    words = [f"{count} times {reason}" for reason, count in told.most_common(3)]
    if len(told) > 3:
        words.append(f"{len(told) - 3} other reasons")
    return f" ({'; '.join(words)})" if words else ""


def failure(error: Exception) -> str:
    """Say why a resample failed."""
    if isinstance(error, StatisticsError):
        return str(error)
    return f"the matrix is singular ({error})"
