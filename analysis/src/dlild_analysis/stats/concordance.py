"""Concordance of a score with survival: Harrell's C and Uno's C.

A **higher score means the event comes sooner**. A pair can be compared when the earlier of its
two times is an event; a censoring at the time of an event counts as later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    as_survival,
    as_vector,
    check_lengths,
    merge_near_ties,
    normal_quantile,
)
from dlild_analysis.stats.concordance_parts import NO_PAIR, ConcordanceParts, concordance_parts
from dlild_analysis.stats.dominance import count_pairs
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.normal_tests import normal_difference
from dlild_analysis.stats.results import Estimate, Result

Weight = Literal["harrell", "uno"]


@dataclass(frozen=True, kw_only=True)
class ConcordanceComparison(Result):
    """Two scores' concordance in the same patients.

    Attributes
    ----------
    a, b
        Concordance of either score.
    difference
        ``a - b`` with interval and p-value from the infinitesimal jackknife.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    warnings: tuple[str, ...] = ()


def harrell_c(
    time: ArrayLike, event: ArrayLike, score: ArrayLike, *, level: float = 0.95
) -> Estimate:
    """Harrell's C with the infinitesimal-jackknife interval.

    Estimand: among pairs that can be compared, the share in which the higher score had the
    earlier event; tied scores count one half. It depends on the censoring of the study.

    Parameters
    ----------
    time, event
        Shape (n,).
    score
        Shape (n,); higher means the event comes sooner.
    level
        Coverage of the interval, clipped to [0, 1].

    Returns
    -------
    Estimate
        C; p tests C = 0.5.

    Raises
    ------
    StatisticsError
        No pair that can be compared, or values that are not finite.

    References
    ----------
    .. [1] Harrell FE, Lee KL, Mark DB. Multivariable prognostic models. Stat Med 1996;15:361-387.
    .. [2] Therneau T, Atkinson E. Concordance. Vignette of the R package survival.
    """
    parts = concordance_parts(time, event, score, "harrell", None)
    return _estimate(parts, level, "Harrell's C, infinitesimal jackknife")


def uno_c(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    *,
    horizon: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """Uno's C: pairs weighted by 1 / G(t-)^2, free of the study's censoring.

    Parameters
    ----------
    time, event
        Shape (n,).
    score
        Shape (n,); higher means the event comes sooner.
    horizon
        Only events before or at this time count; all when left out.
    level
        Coverage of the interval, clipped to [0, 1].

    Returns
    -------
    Estimate
        C; p tests C = 0.5. The interval takes the censoring weights as known, as R's
        ``concordance(timewt = "n/G2")`` does.

    Raises
    ------
    StatisticsError
        No pair that can be compared, or values that are not finite.

    References
    ----------
    .. [1] Uno H, Cai T, Pencina MJ, D'Agostino RB, Wei LJ. On the C-statistics for evaluating
       overall adequacy of risk prediction procedures with censored survival data. Stat Med
       2011;30:1105-1117.
    """
    parts = concordance_parts(time, event, score, "uno", horizon)
    method = "Uno's C, IPCW, infinitesimal jackknife"
    if horizon is not None:
        method += f", events up to {horizon:g}"
    return _estimate(parts, level, method)


def compare_concordance(
    time: ArrayLike,
    event: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    weight: Weight = "harrell",
    horizon: float | None = None,
    level: float = 0.95,
) -> ConcordanceComparison:
    """Compare the concordance of two scores in the same patients.

    Parameters
    ----------
    time, event
        Shape (n,).
    score_a, score_b
        Shape (n,); higher means the event comes sooner.
    weight
        "harrell" or "uno".
    horizon
        As :func:`uno_c`; allowed for both.
    level
        Coverage of the intervals.

    Returns
    -------
    ConcordanceComparison
        Both, and ``a - b``.

    Raises
    ------
    StatisticsError
        As :func:`harrell_c`.
    """
    if weight not in ("harrell", "uno"):
        raise StatisticsError(f"weight: {weight!r}; use 'harrell' or 'uno'")
    a = concordance_parts(time, event, score_a, weight, horizon)
    b = concordance_parts(time, event, score_b, weight, horizon)
    method = {"harrell": "Harrell's C", "uno": "Uno's C, IPCW"}[weight]
    method += ", infinitesimal jackknife"
    first, second = _estimate(a, level, method), _estimate(b, level, method)
    difference = normal_difference(
        a.value - b.value,
        float(np.linalg.norm(a.influence - b.influence)) ** 2,
        n=first.n,
        level=level,
        method=f"difference of two dependent C, {method}",
    )
    return ConcordanceComparison(
        a=first,
        b=second,
        difference=difference,
        warnings=tuple(dict.fromkeys(first.warnings + second.warnings + difference.warnings)),
    )


def concordance_value(time: ArrayLike, event: ArrayLike, score: ArrayLike) -> float:
    """Harrell's C without its variance: what a bootstrap repeats.

    Parameters
    ----------
    time, event, score
        As :func:`harrell_c`.

    Returns
    -------
    float
        C in [0, 1].

    Raises
    ------
    StatisticsError
        As :func:`harrell_c`.
    """
    times, events = as_survival(time, event)
    scores = merge_near_ties(as_vector(score, "score"))
    check_lengths(time=times, score=scores)
    pairs = count_pairs(times, scores, events.astype(np.float64))
    later, lower, tied = (float(v[events].sum()) for v in (pairs.later, pairs.lower, pairs.tied))
    if later == 0:
        raise StatisticsError(NO_PAIR)
    return (lower + tied / 2) / later


def _estimate(parts: ConcordanceParts, level: float, method: str) -> Estimate:
    error = float(np.linalg.norm(parts.influence))
    half = normal_quantile(level) * error
    warnings = parts.warnings
    if error < 1e-12:
        error = 0.0
        warnings += ("the variance is zero: the interval has no width",)
    p_value = math.nan if parts.value != 0.5 else 1.0
    if error > 0:
        p_value = float(2 * stats.norm.sf(abs(parts.value - 0.5) / error))
    return Estimate(
        estimate=parts.value,
        ci_low=max(0.0, parts.value - half),
        ci_high=min(1.0, parts.value + half),
        p_value=p_value,
        std_error=error,
        n=parts.influence.size,
        level=level,
        method=method,
        warnings=warnings,
    )
