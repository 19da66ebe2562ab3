"""DeLong's tests of two AUCs; a **higher score means the event is likelier**."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    normal_quantile,
)
from dlild_analysis.stats.delong import (
    auc_estimate,
    auc_warnings,
    auc_with_interval,
    binary_inputs,
    placements,
    variance_of,
)
from dlild_analysis.stats.normal_tests import z_test
from dlild_analysis.stats.results import Estimate, Result


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


def compare_auc_paired(
    outcome: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, *, level: float = 0.95
) -> AucComparison:
    """DeLong's test of two scores in the same patients.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    score_a, score_b
        Shape (n,); higher means the event is likelier.
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
    half = normal_quantile(level) * math.sqrt(var_difference)
    method = "DeLong's test for paired ROC curves"
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
    level: float = 0.95,
) -> AucComparison:
    """DeLong's test of AUCs from two separate groups of patients (t with Satterthwaite's df).

    Parameters
    ----------
    outcome_a, score_a
        Shape (n_a,).
    outcome_b, score_b
        Shape (n_b,).
    level
        Coverage of the intervals.

    Returns
    -------
    AucComparison
        Both AUCs, ``a - b`` and p. The degrees of freedom are named in ``method``.

    Raises
    ------
    StatisticsError
        As :func:`auc`.
    """
    a = auc_with_interval(*binary_inputs(outcome_a, score_a), level)
    b = auc_with_interval(*binary_inputs(outcome_b, score_b), level)
    var_a, df_a = _variance_and_df(outcome_a, score_a)
    var_b, df_b = _variance_and_df(outcome_b, score_b)
    variance = var_a + var_b
    difference = a.estimate - b.estimate
    z, p, warnings = z_test(difference, variance)
    half = 0.0
    method = "DeLong's test for unpaired ROC curves"
    if variance > 0:
        df = variance**2 / (df_a + df_b)
        method += f", t with {df:.2f} degrees of freedom"
        p = float(2 * stats.t.sf(abs(z), df))
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
