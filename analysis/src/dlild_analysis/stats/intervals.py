"""Intervals and tests that several statistics share: normal, and Wilson's of a proportion."""

from __future__ import annotations

import math

from scipy import stats

from dlild_analysis.stats.arrays import normal_quantile
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate


def z_test(difference: float, variance: float) -> tuple[float, float, tuple[str, ...]]:
    """Statistic and p of a normal test, with a remark where the variance is zero."""
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
    _, p_value, remarks = z_test(difference, variance)
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
        warnings=(*warnings, *remarks),
    )


def wilson_interval(
    hits: int, total: int, *, level: float = 0.95, name: str = "proportion"
) -> Estimate:
    """Proportion hits / total with Wilson's score interval.

    Parameters
    ----------
    hits, total
        0 <= hits <= total.
    level
        Coverage of the interval.
    name
        What the proportion is, for the warning.

    Returns
    -------
    Estimate
        In [0, 1]; NaN with a warning when ``total`` is zero.

    Raises
    ------
    StatisticsError
        Negative counts, or more hits than trials.

    References
    ----------
    .. [1] Wilson EB. Probable inference, the law of succession, and statistical inference. J Am
       Stat Assoc 1927;22:209-212.
    """
    if not 0 <= hits <= total:
        raise StatisticsError(f"{name}: {hits} of {total}; counts must be 0 <= hits <= total")
    quantile = normal_quantile(level)
    method = "proportion, Wilson interval"
    if total == 0:
        return Estimate(
            estimate=math.nan,
            ci_low=math.nan,
            ci_high=math.nan,
            n=0,
            level=level,
            method=method,
            warnings=(f"{name}: the denominator is zero",),
        )
    share = hits / total
    scale = 1 + quantile**2 / total
    centre = (share + quantile**2 / (2 * total)) / scale
    half = quantile * math.sqrt(share * (1 - share) / total + (quantile / (2 * total)) ** 2) / scale
    return Estimate(
        estimate=share,
        # At 0 and 1 the formula meets the bound exactly; rounding must not miss it.
        ci_low=0.0 if hits == 0 else centre - half,
        ci_high=1.0 if hits == total else centre + half,
        n=total,
        level=level,
        method=method,
    )
