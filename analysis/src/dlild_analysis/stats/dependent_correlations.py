"""The tests of two correlations that share a variable, one function each.

Each takes the correlations of scores a and b with the outcome, that between the scores, and n;
:func:`dlild_analysis.stats.correlation.compare_dependent` holds the references.
"""

from __future__ import annotations

import math

from scipy import stats

from dlild_analysis.stats.arrays import normal_quantile
from dlild_analysis.stats.results import HypothesisTest


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
