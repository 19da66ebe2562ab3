"""Correlation coefficients and the comparison of two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import FloatArray, as_vector, check_lengths, normal_quantile
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, HypothesisTest, Result


@dataclass(frozen=True, kw_only=True)
class CorrelationComparison(Result):
    """Two correlations that share one variable, compared in the same patients.

    Attributes
    ----------
    r_a, r_b
        Correlation of score a, and of score b, with the shared outcome.
    r_ab
        Correlation between the two scores.
    difference
        ``r_a - r_b`` with Zou's interval and Steiger's p-value.
    tests
        Williams' t, Steiger's Z, Meng-Rosenthal-Rubin's Z and Hotelling's t, as
        ``"williams"``, ``"steiger"``, ``"meng"``, ``"hotelling"``; and ``"fisher_independent"``,
        which wrongly takes the two correlations for independent and is there for comparison only.
    """

    r_a: float
    r_b: float
    r_ab: float
    n: int
    difference: Estimate
    tests: dict[str, HypothesisTest]
    warnings: tuple[str, ...] = ()


def pearson(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Pearson's product-moment correlation with Fisher's interval.

    Parameters
    ----------
    x, y
        Shape (n,), paired; finite.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        Correlation in [-1, 1]; t test against zero.

    Raises
    ------
    StatisticsError
        Fewer than 3 pairs, a value that is not finite, a constant variable.
    """
    a, b = _pair(x, y)
    r = _coefficient(a, b)
    low, high, warnings = _fisher_interval(r, a.size, 1.0 / max(a.size - 3, 1), level)
    return Estimate(
        estimate=r,
        ci_low=low,
        ci_high=high,
        p_value=_t_test(r, a.size),
        n=a.size,
        level=level,
        method="Pearson correlation, Fisher z interval, t test",
        warnings=warnings,
    )


def spearman(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation (midranks for ties) with Bonett and Wright's interval.

    Parameters
    ----------
    x, y, level
        As :func:`pearson`.

    Returns
    -------
    Estimate
        Rank correlation in [-1, 1]; p by the t approximation.

    Raises
    ------
    StatisticsError
        As :func:`pearson`.

    References
    ----------
    .. [1] Bonett DG, Wright TA. Sample size requirements for estimating Pearson, Kendall and
       Spearman correlations. Psychometrika 2000;65:23-28.
    """
    a, b = _pair(x, y)
    r = _coefficient(stats.rankdata(a), stats.rankdata(b))
    variance = (1 + r**2 / 2) / max(a.size - 3, 1)
    low, high, warnings = _fisher_interval(r, a.size, variance, level)
    return Estimate(
        estimate=r,
        ci_low=low,
        ci_high=high,
        p_value=_t_test(r, a.size),
        n=a.size,
        level=level,
        method="Spearman rank correlation, Bonett-Wright interval, t approximation",
        warnings=warnings,
    )


def compare_independent(r_a: float, n_a: int, r_b: float, n_b: int) -> HypothesisTest:
    """Fisher's z test of two correlations from two separate samples.

    Parameters
    ----------
    r_a, r_b
        Correlations, strictly inside (-1, 1).
    n_a, n_b
        Sample sizes, above 3.

    Returns
    -------
    HypothesisTest
        Normal, positive when ``r_a > r_b``.

    Raises
    ------
    StatisticsError
        A correlation outside (-1, 1) or a sample of 3 or fewer.
    """
    _check_inside(r_a=r_a, r_b=r_b)
    if min(n_a, n_b) <= 3:
        raise StatisticsError(f"n: {min(n_a, n_b)}; Fisher's test needs more than 3 in each sample")
    z = (math.atanh(r_a) - math.atanh(r_b)) / math.sqrt(1 / (n_a - 3) + 1 / (n_b - 3))
    return normal_test(z, n_a + n_b, "Fisher's z test of independent correlations")


def compare_dependent(
    r_a: float, r_b: float, r_ab: float, n: int, *, level: float = 0.95
) -> CorrelationComparison:
    """Compare two overlapping correlations from the figures alone.

    They are signed: which score follows the outcome more closely can be asked of one sign only.

    Parameters
    ----------
    r_a, r_b
        Correlations of scores a and b with the same outcome.
    r_ab
        Correlation between scores a and b.
    n
        Patients, above 3.
    level
        Coverage of Zou's interval.

    Returns
    -------
    CorrelationComparison
        Every test and Zou's interval of ``r_a - r_b``.

    Raises
    ------
    StatisticsError
        Correlations outside (-1, 1), too few patients, or three that cannot occur together.

    References
    ----------
    .. [1] Williams EJ. The comparison of regression variables. J R Stat Soc B 1959;21:396-399.
    .. [2] Steiger JH. Tests for comparing elements of a correlation matrix. Psychol Bull
       1980;87:245-251 (equations 7 and 14).
    .. [3] Meng XL, Rosenthal R, Rubin DB. Comparing correlated correlation coefficients. Psychol
       Bull 1992;111:172-175.
    .. [4] Hotelling H. The selection of variates for use in prediction. Ann Math Stat
       1940;11:271-283.
    .. [5] Zou GY. Toward using confidence intervals to compare correlations. Psychol Methods
       2007;12:399-413.
    """
    _check_inside(r_a=r_a, r_b=r_b, r_ab=r_ab)
    if n <= 3:
        raise StatisticsError(f"n: {n}; comparing dependent correlations needs more than 3 pairs")
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    if determinant <= 0:
        raise StatisticsError(
            f"correlations {r_a:g}, {r_b:g} and {r_ab:g} cannot occur together (determinant"
            f" {determinant:.3g}); check their signs and that they come from the same patients"
        )
    tests = {
        "williams": williams(r_a, r_b, r_ab, n, determinant),
        "steiger": steiger(r_a, r_b, r_ab, n),
        "meng": meng(r_a, r_b, r_ab, n),
        "hotelling": hotelling(r_a, r_b, r_ab, n, determinant),
        "fisher_independent": compare_independent(r_a, n, r_b, n),
    }
    low, high = zou_interval(r_a, r_b, r_ab, n, level)
    warnings: tuple[str, ...] = ()
    if r_a * r_b < 0:
        warnings = (
            "the two correlations have opposite signs: a difference does not say which is stronger",
        )
    difference = Estimate(
        estimate=r_a - r_b,
        ci_low=low,
        ci_high=high,
        p_value=tests["steiger"].p_value,
        n=n,
        level=level,
        method="difference of dependent correlations, Zou interval, Steiger's Z test",
        warnings=warnings,
    )
    return CorrelationComparison(
        r_a=r_a, r_b=r_b, r_ab=r_ab, n=n, difference=difference, tests=tests, warnings=warnings
    )


def compare_dependent_scores(
    score_a: ArrayLike, score_b: ArrayLike, outcome: ArrayLike, *, level: float = 0.95
) -> CorrelationComparison:
    """Compare how closely two scores follow one outcome in the same patients.

    Parameters
    ----------
    score_a, score_b, outcome, level
        Shape (n,), paired; and the coverage of Zou's interval.

    Returns
    -------
    CorrelationComparison
        See :func:`compare_dependent`.

    Raises
    ------
    StatisticsError
        As :func:`pearson` and :func:`compare_dependent`.
    """
    a, y = _pair(score_a, outcome)
    b, _ = _pair(score_b, outcome)
    check_lengths(score_a=a, score_b=b, outcome=y)
    return compare_dependent(
        _coefficient(a, y), _coefficient(b, y), _coefficient(a, b), a.size, level=level
    )


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = as_vector(x, "x", at_least=3), as_vector(y, "y", at_least=3)
    check_lengths(x=a, y=b)
    for name, values in (("x", a), ("y", b)):
        if np.ptp(values) == 0:
            raise StatisticsError(
                f"{name}: all {values.size} values are {values[0]:g}; a constant correlates with"
                " nothing"
            )
    return a, b


def _coefficient(a: FloatArray, b: FloatArray) -> float:
    # Scaled first, so that very large or very small units cannot overflow the squares.
    u, v = a - a.mean(), b - b.mean()
    u, v = u / np.abs(u).max(), v / np.abs(v).max()
    r = float(u @ v / math.sqrt(float(u @ u) * float(v @ v)))
    return min(1.0, max(-1.0, r))


def _t_test(r: float, n: int) -> float:
    if abs(r) == 1:
        return 0.0
    return float(2 * stats.t.sf(abs(r) * math.sqrt((n - 2) / (1 - r**2)), n - 2))


def _fisher_interval(
    r: float, n: int, variance: float, level: float
) -> tuple[float, float, tuple[str, ...]]:
    quantile = normal_quantile(level)
    if n <= 3:
        return -1.0, 1.0, ("3 pairs give no interval: the limits are -1 and 1",)
    if abs(r) == 1:
        return r, r, ("the points lie on a line: the interval has no width",)
    half = quantile * math.sqrt(variance)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), ()


def _check_inside(**correlations: float) -> None:
    for name, r in correlations.items():
        if not -1 < r < 1:
            raise StatisticsError(f"{name}: {r}; a correlation strictly between -1 and 1 is needed")


def normal_test(z: float, n: int, method: str) -> HypothesisTest:
    """Wrap a normal statistic."""
    return HypothesisTest(
        statistic=float(z), p_value=float(2 * stats.norm.sf(abs(z))), n=n, method=method
    )


def _t_result(t: float, n: int, method: str) -> HypothesisTest:
    return HypothesisTest(
        statistic=float(t),
        df=n - 3,
        p_value=float(2 * stats.t.sf(abs(t), n - 3)),
        n=n,
        method=method,
    )


def williams(r_a: float, r_b: float, r_ab: float, n: int, determinant: float) -> HypothesisTest:
    """Test by Williams' t, given the determinant of the correlation matrix."""
    mean = (r_a + r_b) / 2
    spread = 2 * (n - 1) / (n - 3) * determinant + mean**2 * (1 - r_ab) ** 3
    t = (r_a - r_b) * math.sqrt((n - 1) * (1 + r_ab) / spread)
    return _t_result(t, n, "Williams' t (Steiger 1980, equation 7)")


def hotelling(r_a: float, r_b: float, r_ab: float, n: int, determinant: float) -> HypothesisTest:
    """Test by Hotelling's t, given the determinant of the correlation matrix."""
    t = (r_a - r_b) * math.sqrt((n - 3) * (1 + r_ab) / (2 * determinant))
    return _t_result(t, n, "Hotelling's t (1940)")


def steiger(r_a: float, r_b: float, r_ab: float, n: int) -> HypothesisTest:
    """Test by Steiger's Z, the covariance taken at the pooled correlation."""
    pooled = (r_a + r_b) / 2
    covariance = (r_ab * (1 - 2 * pooled**2) - pooled**2 * (1 - 2 * pooled**2 - r_ab**2) / 2) / (
        1 - pooled**2
    ) ** 2
    z = (math.atanh(r_a) - math.atanh(r_b)) * math.sqrt((n - 3) / (2 - 2 * covariance))
    return normal_test(z, n, "Steiger's Z (1980, equation 14)")


def meng(r_a: float, r_b: float, r_ab: float, n: int) -> HypothesisTest:
    """Test by the Z of Meng, Rosenthal and Rubin."""
    mean_square = (r_a**2 + r_b**2) / 2
    f = min((1 - r_ab) / (2 * (1 - mean_square)), 1.0)
    h = (1 - f * mean_square) / (1 - mean_square)
    z = (math.atanh(r_a) - math.atanh(r_b)) * math.sqrt((n - 3) / (2 * (1 - r_ab) * h))
    return normal_test(z, n, "Meng, Rosenthal and Rubin's Z (1992)")


def zou_interval(r_a: float, r_b: float, r_ab: float, n: int, level: float) -> tuple[float, float]:
    """Limits of the difference, made from the two Fisher intervals."""
    half = normal_quantile(level) / math.sqrt(n - 3)
    low_a, high_a = math.tanh(math.atanh(r_a) - half), math.tanh(math.atanh(r_a) + half)
    low_b, high_b = math.tanh(math.atanh(r_b) - half), math.tanh(math.atanh(r_b) + half)
    correlation = ((r_ab - r_a * r_b / 2) * (1 - r_a**2 - r_b**2 - r_ab**2) + r_ab**3) / (
        (1 - r_a**2) * (1 - r_b**2)
    )
    difference = r_a - r_b
    below, above = (r_a - low_a, high_b - r_b), (high_a - r_a, r_b - low_b)
    down = below[0] ** 2 + below[1] ** 2 - 2 * correlation * below[0] * below[1]
    up = above[0] ** 2 + above[1] ** 2 - 2 * correlation * above[0] * above[1]
    return difference - math.sqrt(max(down, 0)), difference + math.sqrt(max(up, 0))
