"""The normal test of a difference, and its interval, wherever a standard error is known."""

from __future__ import annotations

import math

from scipy import stats

from dlild_analysis.stats.arrays import normal_quantile
from dlild_analysis.stats.results import Estimate


def z_test(difference: float, variance: float) -> tuple[float, float, tuple[str, ...]]:
    """Statistic and p of a normal test, with what to say where the variance is zero."""
    if variance > 0:
        z = difference / math.sqrt(variance)
        return z, float(2 * stats.norm.sf(abs(z))), ()
    if difference == 0:
        return 0.0, 1.0, ("the two do not differ in any patient: p is 1 by convention",)
    return math.nan, math.nan, ("the variance of the difference is zero: no test is possible",)


def normal_difference(
    difference: float,
    variance: float,
    *,
    n: int,
    level: float,
    method: str,
    warnings: tuple[str, ...] = (),
) -> Estimate:
    """Return a difference with its normal interval and test.

    Parameters
    ----------
    difference, variance
        The difference, and its variance.
    n
        Patients behind it.
    level
        Coverage of the interval.
    method
        As `Estimate` has it.
    warnings
        Reservations to pass on; one is added where the variance is zero.

    Returns
    -------
    Estimate
        The p-value tests a difference of 0.
    """
    _, p_value, told = z_test(difference, variance)
    error = math.sqrt(variance)
    half = normal_quantile(level) * error
    return Estimate(
        estimate=difference,
        ci_low=difference - half,
        ci_high=difference + half,
        p_value=p_value,
        std_error=error,
        n=n,
        level=level,
        method=method,
        warnings=(*warnings, *told),
    )
