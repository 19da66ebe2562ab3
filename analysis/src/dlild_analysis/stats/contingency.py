"""Fisher's exact test of tables with two columns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import HypothesisTest

EQUAL = 1e-7  # relative; R's fisher.test takes probabilities so close for equal


def fisher_exact(counts: ArrayLike) -> HypothesisTest:
    """Test whether two columns of counts share their distribution over the rows.

    Every table with the same margins counts whose probability is no larger than the observed
    one's, as in R's ``fisher.test``. The sum runs over the rows and the first column's total, so
    that its cost grows with the counts, not with the number of tables.

    Parameters
    ----------
    counts
        Shape (r, 2): patients, whole numbers.

    Returns
    -------
    HypothesisTest
        `statistic` is the probability of the observed table.

    Raises
    ------
    StatisticsError
        Counts that are negative or not whole; fewer than two rows or a column with patients.

    References
    ----------
    .. [1] Freeman GH, Halton JH. Note on an exact treatment of contingency, goodness of fit and
       other problems of significance. Biometrika 1951;38:141-149.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 2:
        raise StatisticsError(f"counts: shape {table.shape}; give rows of two counts, shape (r, 2)")
    if (table < 0).any() or (table != np.round(table)).any():
        raise StatisticsError("counts: not all are whole numbers from 0 on")
    table = table[table.sum(axis=1) > 0]
    columns = table.sum(axis=0)
    if len(table) < 2 or not columns.all():
        raise StatisticsError("counts: two rows and two columns with patients are needed")
    rows = table.sum(axis=1)
    total = float(columns.sum())
    base = _log_choose(total, columns[0])
    observed = float(sum(_log_choose(n, k) for n, k in zip(rows, table[:, 0], strict=True)) - base)
    p_value = _tail(rows.astype(np.int64), int(columns[0]), base, observed + math.log1p(EQUAL))
    return HypothesisTest(
        statistic=math.exp(observed),
        p_value=min(1.0, p_value),
        n=int(total),
        method="Fisher's exact test",
    )


def _log_choose(n: FloatArray | float, k: FloatArray | float) -> float:
    return float(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))


MOST_TABLES = 5_000_000


def _tail(rows: np.ndarray, first: int, base: float, limit: float) -> float:
    """Sum the probabilities of all tables that are no likelier than the limit (logarithm)."""
    log_p, left = np.zeros(1), np.full(1, first)
    behind = int(rows.sum())
    for n in rows[:-1]:
        behind -= int(n)
        k = np.arange(n + 1)
        if left.size * k.size > MOST_TABLES:
            raise StatisticsError("counts: too large for an exact test; use chi-squared")
        terms = np.array([_log_choose(float(n), float(value)) for value in k])
        remain = left[:, None] - k[None, :]
        keep = (remain >= 0) & (remain <= behind)
        log_p = (log_p[:, None] + terms[None, :])[keep]
        left = remain[keep]
    last = float(rows[-1])
    ends = gammaln(last + 1) - gammaln(left + 1.0) - gammaln(last - left + 1.0)
    log_p = log_p + ends - base
    return float(np.exp(log_p[log_p <= limit]).sum())
