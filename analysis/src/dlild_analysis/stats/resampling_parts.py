"""What bootstrap and cross-validation share."""

from __future__ import annotations

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


def keep_finite(values: FloatArray, what: str) -> tuple[FloatArray, tuple[str, ...]]:
    """Leave out what failed, and say how much; more than half is an error."""
    kept = values[np.isfinite(values)]
    failed = values.size - kept.size
    if kept.size < 2 or failed > values.size / 2:
        raise StatisticsError(
            f"{failed} of {values.size} {what} failed: the data are too few for this model; use"
            " fewer covariates"
        )
    return kept, (f"{failed} of {values.size} {what} failed and were left out",) if failed else ()
