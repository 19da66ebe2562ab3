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
    BoolArray,
    FloatArray,
    IntArray,
    as_survival,
    as_vector,
    check_lengths,
    horizon_among,
    merge_near_ties,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.intervals import normal_difference
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.survival.risk_table import censoring_curve

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
    weight = events.astype(np.float64)
    earlier = _count_earlier(_moments(times, weight), _ranks(scores), weight)
    total, higher, tied = (float(counted.sum()) for counted in earlier)
    if total == 0:
        raise StatisticsError(NO_PAIR)
    return (higher + tied / 2) / total


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


NO_PAIR = (
    "no two patients can be compared: no event comes before another patient's time; concordance"
    " needs at least one such pair"
)


@dataclass(frozen=True, eq=False)
class ConcordanceParts:
    """A concordance and the influence of each patient on it (they sum to zero)."""

    value: float
    influence: FloatArray
    events: int
    warnings: tuple[str, ...]


def _weights(
    times: FloatArray, events: BoolArray, weight: str, horizon: float | None
) -> FloatArray:
    weights = events.astype(np.float64)
    if weight == "uno":
        before = censoring_curve(times, events).before(times)
        weights = np.where(events, 1 / np.maximum(before, 1e-300) ** 2, 0.0)
    if horizon is not None:
        weights = np.where(times <= horizon_among(horizon, times), weights, 0.0)
    return weights


def concordance_parts(
    time: ArrayLike, event: ArrayLike, score: ArrayLike, weight: str, horizon: float | None
) -> ConcordanceParts:
    """Compute C, weighted as asked, and each patient's influence."""
    times, events = as_survival(time, event)
    scores = merge_near_ties(as_vector(score, "score"))
    check_lengths(time=times, score=scores)
    weights = _weights(times, events, weight, horizon)
    pairs = count_pairs(times, scores, weights)
    total = float(weights @ pairs.later)
    if total == 0:
        raise StatisticsError(NO_PAIR)
    value = float(weights @ (pairs.lower + pairs.tied / 2)) / total
    warnings: tuple[str, ...] = ()
    if np.ptp(scores) == 0:
        warnings = (f"score: all values are {scores[0]:g}; concordance is 0.5 by convention",)
    return ConcordanceParts(
        value=value,
        influence=_influence(pairs, weights, value, total),
        events=int(np.count_nonzero(weights)),
        warnings=warnings,
    )


def _influence(pairs: PairCounts, weights: FloatArray, value: float, total: float) -> FloatArray:
    """Differentiate C by the weight of each patient, as the earlier and as the later of a pair."""
    right = weights * (pairs.lower + pairs.tied / 2) + pairs.higher_before + pairs.tied_before / 2
    all_pairs = weights * pairs.later + pairs.before
    influence: FloatArray = (right - value * all_pairs) / total
    return influence


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Pairs of each patient with those of later and of earlier time; each shape (n,).

    Attributes
    ----------
    later, lower, tied
        Patients of later time; those of them with a lower score; with an equal score.
    before, higher_before, tied_before
        Summed weights of patients of earlier time; of those with a higher score; an equal score.
    """

    later: FloatArray
    lower: FloatArray
    tied: FloatArray
    before: FloatArray
    higher_before: FloatArray
    tied_before: FloatArray


def count_pairs(time: FloatArray, score: FloatArray, weight: FloatArray) -> PairCounts:
    """Count, for each patient, the pairs that it can be compared in.

    Parameters
    ----------
    time, score
        Shape (n,).
    weight
        Shape (n,): 0 for a censored patient, which is compared with earlier patients only. A
        patient of weight zero at the time of one with weight counts as later.

    Returns
    -------
    PairCounts
        In the order of the input.
    """
    moment, rank = _moments(time, weight), _ranks(score)
    before, higher_before, tied_before = _count_earlier(moment, rank, weight)
    # Turned round, later patients of lower score become earlier ones of higher score.
    later, lower, tied = _count_earlier(
        moment.max() - moment, rank.max() - rank, np.ones(time.size)
    )
    return PairCounts(
        later=later,
        lower=lower,
        tied=tied,
        before=before,
        higher_before=higher_before,
        tied_before=tied_before,
    )


def _moments(time: FloatArray, weight: FloatArray) -> IntArray:
    """Rank the times; at equal times those without weight come later."""
    stamp = np.unique(time, return_inverse=True)[1]
    return np.asarray(2 * stamp.astype(np.int64) + (weight == 0))


def _ranks(score: FloatArray) -> IntArray:
    return np.asarray(np.unique(score, return_inverse=True)[1].astype(np.int64))


def _count_earlier(
    moment: IntArray, rank: IntArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """For each patient: weight of those of earlier moment; of higher rank; of equal rank.

    Two ranks part at their highest differing bit: patients are grouped by the bits above it, in
    the order of their moments within a group, and running sums count those that have the bit.
    """
    n = moment.size
    # Among equal moments the lowest rank comes first, so that such pairs are never counted.
    order = np.argsort(moment * (rank.max() + 1) + rank)
    before, higher, tied = np.empty(n), np.zeros(n), np.empty(n)
    before[order] = _sum_before(np.zeros(n, dtype=np.int64), moment[order], weight[order])
    bits = int(rank.max()).bit_length()
    below = np.searchsorted(np.sort(rank), np.arange(2**bits))
    index = np.arange(n)
    for bit in reversed(range(bits)):
        ranks = rank[order]
        has_bit = (ranks >> bit) & 1
        group = ranks >> (bit + 1) << (bit + 1)
        first = below[group]
        sums = _running(weight[order] * has_bit)
        higher[order] += (sums[:-1] - sums[first]) * (1 - has_bit)
        # Within its group, what lacks the bit moves before what has it.
        with_bit = _running(has_bit)
        with_bit = with_bit[:-1] - with_bit[first]
        place = np.where(has_bit == 1, below[group + (1 << bit)] + with_bit, index - with_bit)
        moved = np.empty(n, dtype=np.int64)
        moved[place] = order
        order = moved
    tied[order] = _sum_before(rank[order], moment[order], weight[order])
    return before, higher, tied


def _running(values: np.ndarray) -> np.ndarray:
    """Sum what lies before each element, and all."""
    sums = np.zeros(values.size + 1, dtype=values.dtype)
    np.cumsum(values, out=sums[1:])
    return sums


def _sum_before(group: IntArray, moment: IntArray, weight: FloatArray) -> FloatArray:
    """Sum the weight of earlier moments of the same group; sorted by group, then moment."""
    total = _running(weight)
    new_group = np.concatenate([[True], group[1:] != group[:-1]])
    new_run = new_group | np.concatenate([[True], moment[1:] != moment[:-1]])
    index = np.arange(moment.size)
    run = np.maximum.accumulate(np.where(new_run, index, 0))
    start = np.maximum.accumulate(np.where(new_group, index, 0))
    summed: FloatArray = total[run] - total[start]
    return summed
