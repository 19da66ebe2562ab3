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
        Williams' t, Steiger's Z, Meng-Rosenthal-Rubin's Z and Hotelling's t, as ``"williams"``,
        ``"steiger"``, ``"meng"``, ``"hotelling"``; Pearson and Filon's, Olkin's, Dunn and Clark's,
        Hendrickson's and Hittner's, as ``"pearson_filon"``, ``"olkin"``, ``"dunn_clark"``,
        ``"hendrickson"``, ``"hittner"``; and ``"fisher_independent"``, which wrongly takes the two
        correlations for independent and is there for comparison only.
    z_difference
        ``atanh(r_a) - atanh(r_b)`` with the interval of Meng, Rosenthal and Rubin.
    """

    r_a: float
    r_b: float
    r_ab: float
    n: int
    difference: Estimate
    z_difference: Estimate
    tests: dict[str, HypothesisTest]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SeparateCorrelations(Result):
    """Two correlations of four variables in the same patients, or of two samples, compared.

    Attributes
    ----------
    r_a, r_b
        The two correlations.
    difference
        ``r_a - r_b`` with Zou's interval.
    tests
        By name: in the same patients ``"pearson_filon"``, ``"dunn_clark"``, ``"steiger"``,
        ``"raghunathan"``, ``"silver"``; in two samples ``"fisher"``.
    """

    r_a: float
    r_b: float
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


def compare_samples(
    r_a: float, n_a: int, r_b: float, n_b: int, *, level: float = 0.95
) -> SeparateCorrelations:
    """Compare correlations of two separate samples: Fisher's test and Zou's interval.

    Parameters
    ----------
    r_a, n_a, r_b, n_b
        As :func:`compare_independent`.
    level
        Coverage of the interval.

    Returns
    -------
    SeparateCorrelations
        ``n`` is the sum of both samples.

    Raises
    ------
    StatisticsError
        As :func:`compare_independent`.

    References
    ----------
    .. [1] Zou GY. Toward using confidence intervals to compare correlations. Psychol Methods
       2007;12:399-413.
    """
    test = compare_independent(r_a, n_a, r_b, n_b)
    low, high = _zou((r_a, n_a), (r_b, n_b), 0.0, level)
    return SeparateCorrelations(
        r_a=r_a,
        r_b=r_b,
        n=n_a + n_b,
        difference=Estimate(
            estimate=r_a - r_b,
            ci_low=low,
            ci_high=high,
            p_value=test.p_value,
            n=n_a + n_b,
            level=level,
            method="difference of independent correlations, Zou interval, Fisher's z test",
        ),
        tests={"fisher": test},
    )


def compare_nonoverlapping(
    correlations: ArrayLike, n: int, *, level: float = 0.95
) -> SeparateCorrelations:
    """Compare two correlations without a common variable in the same patients.

    Such as DL-ILD with FVC at baseline against DL-ILD with FVC a year later.

    Parameters
    ----------
    correlations
        Shape (4, 4): of the variables a1, a2, b1, b2; compared are r(a1, a2) and r(b1, b2).
    n
        Patients, above 3.
    level
        Coverage of Zou's interval.

    Returns
    -------
    SeparateCorrelations
        Every test and Zou's interval of ``r(a1, a2) - r(b1, b2)``.

    Raises
    ------
    StatisticsError
        A matrix that is not symmetric with ones, or that no data can have; too few patients.

    References
    ----------
    .. [1] Pearson K, Filon LNG. Mathematical contributions to the theory of evolution. IV. Philos
       Trans R Soc Lond A 1898;191:229-311.
    .. [2] Dunn OJ, Clark V. Correlation coefficients measured on the same individuals. J Am Stat
       Assoc 1969;64:366-377.
    .. [3] Steiger JH. Tests for comparing elements of a correlation matrix. Psychol Bull
       1980;87:245-251 (equation 15).
    .. [4] Raghunathan TE, Rosenthal R, Rubin DB. Comparing correlated but nonoverlapping
       correlations. Psychol Methods 1996;1:178-183.
    .. [5] Silver NC, Hittner JB, May K. Testing dependent correlations with nonoverlapping
       variables: a Monte Carlo simulation. J Exp Educ 2004;73:53-69.
    """
    r = np.asarray(correlations, dtype=np.float64)
    if r.shape != (4, 4) or not np.allclose(r, r.T) or not np.allclose(np.diag(r), 1.0):
        raise StatisticsError("correlations: give a symmetric matrix with ones, shape (4, 4)")
    _check_inside(**{f"r[{i},{j}]": float(r[i, j]) for i in range(4) for j in range(i)})
    if n <= 3:
        raise StatisticsError(
            f"n: {n}; comparing dependent correlations needs more than 3 patients"
        )
    if np.linalg.eigvalsh(r).min() <= 0:
        raise StatisticsError("correlations: no data can have them together; check their signs")
    r_a, r_b = float(r[0, 1]), float(r[2, 3])
    za, zb = math.atanh(r_a), math.atanh(r_b)

    def z_test(correlation: float, method: str) -> HypothesisTest:
        z = (za - zb) * math.sqrt((n - 3) / (2 - 2 * correlation))
        return normal_test(z, n, method)

    product = (1 - r_a**2) * (1 - r_b**2)
    exact = _covariance_apart(r, r_a, r_b) / product
    mean, averaged = (r_a + r_b) / 2, math.tanh((za + zb) / 2)
    spread = (1 - r_a**2) ** 2 + (1 - r_b**2) ** 2 - 2 * exact * product
    tests = {
        "pearson_filon": normal_test(
            (r_a - r_b) * math.sqrt(n / spread), n, "Pearson and Filon's Z (1898)"
        ),
        "dunn_clark": z_test(exact, "Dunn and Clark's Z (1969)"),
        "steiger": z_test(
            _covariance_apart(r, mean, mean) / (1 - mean**2) ** 2, "Steiger's Z (1980)"
        ),
        "raghunathan": z_test(exact, "Raghunathan, Rosenthal and Rubin's Z (1996)"),
        "silver": z_test(
            _covariance_apart(r, averaged, averaged) / (1 - averaged**2) ** 2,
            "Silver, Hittner and May's Z (2004)",
        ),
    }
    low, high = _zou((r_a, n), (r_b, n), exact, level)
    return SeparateCorrelations(
        r_a=r_a,
        r_b=r_b,
        n=n,
        difference=Estimate(
            estimate=r_a - r_b,
            ci_low=low,
            ci_high=high,
            p_value=tests["steiger"].p_value,
            n=n,
            level=level,
            method="difference of non-overlapping correlations, Zou interval, Steiger's Z test",
        ),
        tests=tests,
    )


def _covariance_apart(r: FloatArray, r_a: float, r_b: float) -> float:
    """Asymptotic covariance, times n, of r(a1, a2) and r(b1, b2), these two taken at given values.

    Pearson and Filon 1898; equation 2 of Steiger 1980.
    """
    r13, r14, r23, r24 = (float(r[i, j]) for i, j in ((0, 2), (0, 3), (1, 2), (1, 3)))
    return 0.5 * (
        (r13 - r_a * r23) * (r24 - r23 * r_b)
        + (r14 - r13 * r_b) * (r23 - r_a * r13)
        + (r13 - r14 * r_b) * (r24 - r_a * r14)
        + (r14 - r_a * r24) * (r23 - r24 * r_b)
    )


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
    .. [6] Pearson K, Filon LNG. Mathematical contributions to the theory of evolution. IV. Philos
       Trans R Soc Lond A 1898;191:229-311.
    .. [7] Olkin I. Correlations revisited. In: Stanley JC, ed. Improving Experimental Design and
       Statistical Analysis. Rand McNally 1967, 102-128.
    .. [8] Dunn OJ, Clark V. Correlation coefficients measured on the same individuals. J Am Stat
       Assoc 1969;64:366-377.
    .. [9] Hendrickson GF, Stanley JC, Hills JR. Olkin's new formula for significance of r13 vs. r23
       compared with Hotelling's method. Am Educ Res J 1970;7:189-195.
    .. [10] Hittner JB, May K, Silver NC. A Monte Carlo evaluation of tests for comparing dependent
       correlations. J Gen Psychol 2003;130:149-168.
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
        "pearson_filon": pearson_filon(r_a, r_b, r_ab, n, "Pearson and Filon's Z (1898)"),
        "olkin": pearson_filon(r_a, r_b, r_ab, n, "Olkin's Z (1967)"),
        "dunn_clark": dunn_clark(r_a, r_b, r_ab, n),
        "hendrickson": hendrickson(r_a, r_b, r_ab, n, determinant),
        "hittner": hittner(r_a, r_b, r_ab, n),
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
        r_a=r_a,
        r_b=r_b,
        r_ab=r_ab,
        n=n,
        difference=difference,
        z_difference=_meng_interval(r_a, r_b, r_ab, tests["meng"], level),
        tests=tests,
        warnings=warnings,
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
    z = (math.atanh(r_a) - math.atanh(r_b)) / _meng_error(r_a, r_b, r_ab, n)
    return normal_test(z, n, "Meng, Rosenthal and Rubin's Z (1992)")


def _meng_error(r_a: float, r_b: float, r_ab: float, n: int) -> float:
    """Return the error of the difference of Fisher's z (Meng, Rosenthal and Rubin, equation 1)."""
    mean_square = (r_a**2 + r_b**2) / 2
    f = min((1 - r_ab) / (2 * (1 - mean_square)), 1.0)
    h = (1 - f * mean_square) / (1 - mean_square)
    return math.sqrt(2 * (1 - r_ab) * h / (n - 3))


def _meng_interval(
    r_a: float, r_b: float, r_ab: float, test: HypothesisTest, level: float
) -> Estimate:
    difference = math.atanh(r_a) - math.atanh(r_b)
    error = _meng_error(r_a, r_b, r_ab, test.n)
    half = normal_quantile(level) * error
    return Estimate(
        estimate=difference,
        ci_low=difference - half,
        ci_high=difference + half,
        p_value=test.p_value,
        std_error=error,
        n=test.n,
        level=level,
        method="difference of Fisher's z, Meng, Rosenthal and Rubin's interval",
    )


def pearson_filon(r_a: float, r_b: float, r_ab: float, n: int, method: str) -> HypothesisTest:
    """Test by the large-sample variance of the difference of the correlations themselves.

    Olkin's statistic is the same, written out otherwise.
    """
    covariance = r_ab * (1 - r_a**2 - r_b**2) - r_a * r_b * (1 - r_a**2 - r_b**2 - r_ab**2) / 2
    variance = (1 - r_a**2) ** 2 + (1 - r_b**2) ** 2 - 2 * covariance
    return normal_test((r_a - r_b) * math.sqrt(n / variance), n, method)


def _overlap(r_a: float, r_b: float, r_ab: float) -> float:
    """Asymptotic correlation of two overlapping correlation coefficients."""
    top = r_ab * (1 - r_a**2 - r_b**2) - r_a * r_b * (1 - r_a**2 - r_b**2 - r_ab**2) / 2
    return top / ((1 - r_a**2) * (1 - r_b**2))


def dunn_clark(r_a: float, r_b: float, r_ab: float, n: int) -> HypothesisTest:
    """Test by Dunn and Clark's Z, the covariance taken at each correlation."""
    c = _overlap(r_a, r_b, r_ab)
    z = (math.atanh(r_a) - math.atanh(r_b)) * math.sqrt((n - 3) / (2 - 2 * c))
    return normal_test(z, n, "Dunn and Clark's Z (1969)")


def hittner(r_a: float, r_b: float, r_ab: float, n: int) -> HypothesisTest:
    """Test by Hittner's Z: Dunn and Clark's with the correlations averaged on Fisher's scale."""
    mean = math.tanh((math.atanh(r_a) + math.atanh(r_b)) / 2)
    c = _overlap(mean, mean, r_ab)
    z = (math.atanh(r_a) - math.atanh(r_b)) * math.sqrt((n - 3) / (2 - 2 * c))
    return normal_test(z, n, "Hittner, May and Silver's Z (2003)")


def hendrickson(r_a: float, r_b: float, r_ab: float, n: int, determinant: float) -> HypothesisTest:
    """Test by Hendrickson, Stanley and Hills' t, given the determinant."""
    spread = 2 * determinant + (r_a - r_b) ** 2 * (1 - r_ab) ** 3 / (4 * (n - 1))
    t = (r_a - r_b) * math.sqrt((n - 3) * (1 + r_ab) / spread)
    return _t_result(t, n, "Hendrickson, Stanley and Hills' t (1970)")


def zou_interval(r_a: float, r_b: float, r_ab: float, n: int, level: float) -> tuple[float, float]:
    """Limits of the difference of overlapping correlations, from their two Fisher intervals."""
    correlation = ((r_ab - r_a * r_b / 2) * (1 - r_a**2 - r_b**2 - r_ab**2) + r_ab**3) / (
        (1 - r_a**2) * (1 - r_b**2)
    )
    return _zou((r_a, n), (r_b, n), correlation, level)


def _zou(
    a: tuple[float, int], b: tuple[float, int], correlation: float, level: float
) -> tuple[float, float]:
    """Limits of a difference of correlations that are themselves correlated so."""
    (r_a, n_a), (r_b, n_b) = a, b
    half_a, half_b = (normal_quantile(level) / math.sqrt(n - 3) for n in (n_a, n_b))
    low_a, high_a = math.tanh(math.atanh(r_a) - half_a), math.tanh(math.atanh(r_a) + half_a)
    low_b, high_b = math.tanh(math.atanh(r_b) - half_b), math.tanh(math.atanh(r_b) + half_b)
    difference = r_a - r_b
    below, above = (r_a - low_a, high_b - r_b), (high_a - r_a, r_b - low_b)
    down = below[0] ** 2 + below[1] ** 2 - 2 * correlation * below[0] * below[1]
    up = above[0] ** 2 + above[1] ** 2 - 2 * correlation * above[0] * above[1]
    return difference - math.sqrt(max(down, 0)), difference + math.sqrt(max(up, 0))
