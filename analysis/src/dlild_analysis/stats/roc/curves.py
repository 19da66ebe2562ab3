"""ROC curves, and AUCs with DeLong's variance, interval and tests.

Throughout, ``outcome`` is 0/1 with 1 the event, and a **higher score means the event is likelier**.
No direction is ever guessed: a protective score (FVC) is negated by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_vector,
    check_lengths,
    merge_near_ties,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.intervals import z_test
from dlild_analysis.stats.results import Estimate, Result

AucInterval = Literal["delong", "logit"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve(Result):
    """The empirical ROC curve, from (0, 0) to (1, 1).

    Attributes
    ----------
    thresholds
        Shape (k,), falling; a score at or above the threshold is called positive. The first is
        ``inf`` (no patient is positive).
    false_positive_rate, true_positive_rate
        Shape (k,).
    """

    thresholds: FloatArray
    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    n: int
    events: int


def auc(
    outcome: ArrayLike,
    score: ArrayLike,
    *,
    level: float = 0.95,
    interval: AucInterval = "delong",
) -> Estimate:
    """Area under the ROC curve with DeLong's interval.

    Estimand: the probability that a patient with the event scores above one without, ties
    counting one half. O(n log n) by midranks.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    score
        Shape (n,); higher means the event is likelier.
    level
        Coverage of the interval.
    interval
        "delong": on the AUC scale, clipped to [0, 1], as most software and papers have it. "logit":
        on the logit scale with the same variance; it never leaves [0, 1], and its coverage is
        nearer to the claim where the AUC is high and the classes are small [3]_.

    Returns
    -------
    Estimate
        AUC; the p-value tests AUC = 0.5.

    Raises
    ------
    StatisticsError
        An outcome that is not 0/1, only one class, a score that is not finite, or an interval
        of another name.

    References
    ----------
    .. [1] DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more
       correlated receiver operating characteristic curves. Biometrics 1988;44:837-845.
    .. [2] Sun X, Xu W. Fast implementation of DeLong's algorithm. IEEE Signal Process Lett
       2014;21:1389-1393.
    .. [3] Pepe MS. The statistical evaluation of medical tests for classification and prediction.
       Oxford University Press 2003, section 5.2.5.
    """
    if interval not in ("delong", "logit"):
        raise StatisticsError(f"interval: {interval!r}; use 'delong' or 'logit'")
    event, scores = binary_inputs(outcome, score)
    finish = auc_estimate if interval == "delong" else logit_auc_estimate
    return auc_with_interval(event, scores, level, finish)


def auc_value(outcome: ArrayLike, score: ArrayLike) -> float:
    """AUC without its variance: what a bootstrap repeats thousands of times.

    Parameters
    ----------
    outcome, score
        As :func:`auc`.

    Returns
    -------
    float
        AUC in [0, 1].

    Raises
    ------
    StatisticsError
        As :func:`auc`.
    """
    event, scores = binary_inputs(outcome, score)
    ranks = stats.rankdata(scores)
    m = int(event.sum())
    return float((ranks[event].sum() - m * (m + 1) / 2) / (m * (event.size - m)))


def roc_curve(outcome: ArrayLike, score: ArrayLike) -> RocCurve:
    """Empirical ROC curve, one point for every distinct score.

    Parameters
    ----------
    outcome, score
        As :func:`auc`.

    Returns
    -------
    RocCurve
        Its trapezoidal area is :func:`auc_value`.

    Raises
    ------
    StatisticsError
        As :func:`auc`.
    """
    event, scores = binary_inputs(outcome, score)
    thresholds, true_positive, false_positive = positives_by_threshold(event, scores)
    return RocCurve(
        thresholds=np.concatenate([[np.inf], thresholds]),
        false_positive_rate=np.concatenate([[0.0], false_positive / (~event).sum()]),
        true_positive_rate=np.concatenate([[0.0], true_positive / event.sum()]),
        n=event.size,
        events=int(event.sum()),
    )


def binary_inputs(outcome: ArrayLike, score: ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Return event flags and scores, checked."""
    event, scores = as_binary(outcome), merge_near_ties(as_vector(score, "score"))
    check_lengths(outcome=event, score=scores)
    return event, scores


def placements(event: BoolArray, scores: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUC, and each case's and each control's share of pairs that are in the right order."""
    ranks = stats.rankdata(scores)
    m, k = int(event.sum()), int((~event).sum())
    cases = (ranks[event] - stats.rankdata(scores[event])) / k
    controls = 1 - (ranks[~event] - stats.rankdata(scores[~event])) / m
    return float(cases.mean()), cases, controls


def variance_of(placements: FloatArray) -> float:
    """Sample variance; zero for a single value."""
    return float(placements.var(ddof=1)) if placements.size > 1 else 0.0


def auc_warnings(theta: float, variance: float, cases: int, controls: int) -> tuple[str, ...]:
    """Reservations about an AUC's interval."""
    warnings = []
    if min(cases, controls) == 1:
        warnings.append("a class of one patient: its share of the variance is taken as zero")
    if theta in (0.0, 1.0):
        warnings.append("the score separates the classes: DeLong's interval has no width")
    elif variance == 0:
        warnings.append("the variance is zero (a constant score, or too few patients)")
    return tuple(warnings)


def auc_estimate(
    theta: float, variance: float, n: int, *, level: float, warnings: tuple[str, ...]
) -> Estimate:
    """Return an AUC with its interval and the test against one half."""
    half = normal_quantile(level) * math.sqrt(variance)
    return Estimate(
        estimate=theta,
        ci_low=max(0.0, theta - half),
        ci_high=min(1.0, theta + half),
        p_value=z_test(theta - 0.5, variance)[1],
        std_error=math.sqrt(variance),
        n=n,
        level=level,
        method="AUC, DeLong interval",
        warnings=warnings,
    )


def logit_auc_estimate(
    theta: float, variance: float, n: int, *, level: float, warnings: tuple[str, ...]
) -> Estimate:
    """Return an AUC whose interval is formed on the logit scale.

    The variance of logit(AUC) is that of the AUC over (AUC (1 - AUC))^2 (delta method). At an AUC
    of 0 or 1, or without variance, there is no logit interval and DeLong's own is returned.
    """
    plain = auc_estimate(theta, variance, n, level=level, warnings=warnings)
    if not 0 < theta < 1 or variance <= 0:
        return plain
    half = normal_quantile(level) * math.sqrt(variance) / (theta * (1 - theta))
    return replace(
        plain,
        ci_low=float(expit(logit(theta) - half)),
        ci_high=float(expit(logit(theta) + half)),
        method="AUC, DeLong variance, logit-transformed interval",
    )


def auc_with_interval(
    event: BoolArray,
    scores: FloatArray,
    level: float,
    finish: Callable[..., Estimate] = auc_estimate,
) -> Estimate:
    """Return the AUC of checked inputs with DeLong's variance; `finish` forms the interval."""
    theta, cases, controls = placements(event, scores)
    variance = variance_of(cases) / cases.size + variance_of(controls) / controls.size
    warnings = auc_warnings(theta, variance, cases.size, controls.size)
    return finish(theta, variance, event.size, level=level, warnings=warnings)


def positives_by_threshold(
    event: BoolArray, scores: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct scores from the top, and the true and false positives at or above each."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)
    true_positive = np.cumsum(event[order])[last].astype(np.float64)
    return ordered[last], true_positive, last + 1 - true_positive


@dataclass(frozen=True, kw_only=True)
class AucComparison(Result):
    """Two AUCs and their difference.

    Attributes
    ----------
    a, b
        The two AUCs.
    difference
        ``a - b`` with its interval and p-value.
    z
        The normal statistic of the test.
    covariance
        Between the two AUC estimates; 0 when they come from different patients.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    z: float
    covariance: float
    n: int
    method: str
    warnings: tuple[str, ...] = ()


Alternative = Literal["two-sided", "greater", "less"]


def _tail(
    statistic: float, two_sided: float, alternative: Alternative, df: float = math.inf
) -> float:
    """Take the p-value of an alternative about ``a - b``; t with `df`, normal where infinite."""
    if alternative == "two-sided" or math.isnan(two_sided):
        return two_sided
    return float(stats.t.sf(statistic if alternative == "greater" else -statistic, df))


def _side(alternative: Alternative) -> str:
    """Name a one-sided alternative in the method."""
    if alternative not in ("two-sided", "greater", "less"):
        raise StatisticsError(
            f"alternative: {alternative!r}; use 'two-sided', 'greater' (a above b) or 'less'"
        )
    return "" if alternative == "two-sided" else f", one-sided ({alternative})"


def compare_auc_paired(
    outcome: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
) -> AucComparison:
    """DeLong's test of two scores in the same patients.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    score_a, score_b
        Shape (n,); higher means the event is likelier.
    alternative
        "greater": the AUC of a is above that of b; "less": below. The interval stays two-sided.
    level
        Coverage of the intervals.

    Returns
    -------
    AucComparison
        Both AUCs, ``a - b``, z and p.

    Raises
    ------
    StatisticsError
        As :func:`auc`.
    """
    event, first = binary_inputs(outcome, score_a)
    _, second = binary_inputs(outcome, score_b)
    theta_a, cases_a, controls_a = placements(event, first)
    theta_b, cases_b, controls_b = placements(event, second)
    m, k = cases_a.size, controls_a.size
    var_a = variance_of(cases_a) / m + variance_of(controls_a) / k
    var_b = variance_of(cases_b) / m + variance_of(controls_b) / k
    # The variance of the difference is taken from the differences themselves: no cancellation.
    var_difference = variance_of(cases_a - cases_b) / m + variance_of(controls_a - controls_b) / k
    warn_a = auc_warnings(theta_a, var_a, m, k)
    warn_b = auc_warnings(theta_b, var_b, m, k)
    z, p, warnings = z_test(theta_a - theta_b, var_difference)
    p = _tail(z, p, alternative)
    half = normal_quantile(level) * math.sqrt(var_difference)
    method = "DeLong's test for paired ROC curves" + _side(alternative)
    return AucComparison(
        a=auc_estimate(theta_a, var_a, event.size, level=level, warnings=warn_a),
        b=auc_estimate(theta_b, var_b, event.size, level=level, warnings=warn_b),
        difference=Estimate(
            estimate=theta_a - theta_b,
            ci_low=max(-1.0, theta_a - theta_b - half),
            ci_high=min(1.0, theta_a - theta_b + half),
            p_value=p,
            std_error=math.sqrt(var_difference),
            n=event.size,
            level=level,
            method=method,
            warnings=warnings,
        ),
        z=z,
        covariance=(var_a + var_b - var_difference) / 2,
        n=event.size,
        method=method,
        warnings=tuple(dict.fromkeys(warn_a + warn_b + warnings)),
    )


def compare_auc_unpaired(
    outcome_a: ArrayLike,
    score_a: ArrayLike,
    outcome_b: ArrayLike,
    score_b: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
) -> AucComparison:
    """Compare the AUCs of two separate groups of patients, such as two centres or subgroups.

    The groups share no patient, so the variance of the difference is the sum of DeLong's variances;
    it is referred to a t distribution with Satterthwaite's degrees of freedom, as R's
    ``pROC::roc.test(paired = FALSE)`` does. For two scores in the same patients use
    :func:`compare_auc_paired`.

    Parameters
    ----------
    outcome_a, score_a
        Shape (n_a,); outcome 0 or 1, a higher score means that the event is likelier.
    outcome_b, score_b
        Shape (n_b,), likewise.
    alternative
        "greater": the AUC of a is above that of b; "less": below. The interval stays two-sided.
    level
        Coverage of the intervals.

    Returns
    -------
    AucComparison
        Both AUCs, ``a - b`` and its p; ``covariance`` is 0. The degrees of freedom are
        named in ``method``.

    Raises
    ------
    StatisticsError
        As :func:`auc`.

    References
    ----------
    .. [1] DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more
       correlated receiver operating characteristic curves. Biometrics 1988;44:837-845.
    .. [2] Satterthwaite FE. An approximate distribution of estimates of variance components.
       Biometrics Bull 1946;2:110-114.
    """
    a = auc_with_interval(*binary_inputs(outcome_a, score_a), level)
    b = auc_with_interval(*binary_inputs(outcome_b, score_b), level)
    var_a, df_a = _variance_and_df(outcome_a, score_a)
    var_b, df_b = _variance_and_df(outcome_b, score_b)
    variance = var_a + var_b
    difference = a.estimate - b.estimate
    z, p, warnings = z_test(difference, variance)
    half = 0.0
    method = "DeLong's test for unpaired ROC curves" + _side(alternative)
    if variance > 0:
        df = variance**2 / (df_a + df_b)
        method += f", t with {df:.2f} degrees of freedom"
        p = _tail(z, float(2 * stats.t.sf(abs(z), df)), alternative, df)
        half = float(stats.t.ppf(0.5 + level / 2, df)) * math.sqrt(variance)
    return AucComparison(
        a=a,
        b=b,
        difference=Estimate(
            estimate=difference,
            ci_low=max(-1.0, difference - half),
            ci_high=min(1.0, difference + half),
            p_value=p,
            std_error=math.sqrt(variance),
            n=a.n + b.n,
            level=level,
            method=method,
            warnings=warnings,
        ),
        z=z,
        covariance=0.0,
        n=a.n + b.n,
        method=method,
        warnings=tuple(dict.fromkeys(a.warnings + b.warnings + warnings)),
    )


def _variance_and_df(outcome: ArrayLike, score: ArrayLike) -> tuple[float, float]:
    """DeLong's variance, and its part of Satterthwaite's denominator."""
    event, scores = binary_inputs(outcome, score)
    _, cases, controls = placements(event, scores)
    variance = variance_of(cases) / cases.size + variance_of(controls) / controls.size
    return variance, variance**2 / max(event.size - 1, 1)
