"""Bland and Altman's limits of agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    as_vector,
    check_lengths,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, HypothesisTest, Result

LimitInterval = Literal["approximate", "exact"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BlandAltman(Result):
    """Limits of agreement of two readings.

    Attributes
    ----------
    bias
        Mean of a - b.
    sd
        Standard deviation of a - b.
    lower_limit, upper_limit
        bias -/+ 1.96 sd, each with its interval.
    proportional_bias
        Slope test of the difference on the mean; a small p says that the limits do not hold over
        the whole range.
    means, differences
        Shape (n,): (a + b) / 2 and a - b, for the plot.
    """

    bias: Estimate
    sd: float
    lower_limit: Estimate
    upper_limit: Estimate
    proportional_bias: HypothesisTest
    means: FloatArray
    differences: FloatArray
    n: int
    method: str
    warnings: tuple[str, ...] = ()


def bland_altman(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, interval: LimitInterval = "approximate"
) -> BlandAltman:
    """Limits of agreement with intervals.

    Parameters
    ----------
    a, b
        Shape (n,): two readings of the same subjects, in one unit.
    level
        Coverage of the intervals; the limits themselves are always 95 %.
    interval
        Of the limits: "approximate" (Bland and Altman's) or "exact" (Carkeet's, non-central t).

    Returns
    -------
    BlandAltman
        Bias and limits of a - b.

    Raises
    ------
    StatisticsError
        Fewer than 3 pairs or a value that is not finite.

    References
    ----------
    .. [1] Bland JM, Altman DG. Measuring agreement in method comparison studies. Stat Methods Med
       Res 1999;8:135-160.
    .. [2] Carkeet A. Exact parametric confidence intervals for Bland-Altman limits of agreement.
       Optom Vis Sci 2015;92:e71-e80.
    """
    if interval not in ("approximate", "exact"):
        raise StatisticsError(f"interval: {interval!r}; use 'approximate' or 'exact'")
    first, second = as_vector(a, "a", at_least=3), as_vector(b, "b", at_least=3)
    check_lengths(a=first, b=second)
    differences, means = first - second, (first + second) / 2
    n = differences.size
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    warnings: tuple[str, ...] = ()
    if sd == 0:
        warnings = (f"all differences are {bias:g}: the limits coincide",)
    error = sd / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * error
    method = f"Bland-Altman limits of agreement, {interval} interval"
    lower, upper = (
        _limit(bias, sd, n, side, level=level, interval=interval, method=method) for side in (-1, 1)
    )
    return BlandAltman(
        bias=Estimate(
            estimate=bias,
            ci_low=bias - half,
            ci_high=bias + half,
            p_value=float(2 * stats.t.sf(abs(bias) / error, n - 1)) if sd > 0 else math.nan,
            std_error=error,
            n=n,
            level=level,
            method="mean difference, t interval",
            warnings=warnings,
        ),
        sd=sd,
        lower_limit=lower,
        upper_limit=upper,
        proportional_bias=_proportional(means, differences),
        means=means,
        differences=differences,
        n=n,
        method=method,
        warnings=warnings,
    )


def _limit(
    bias: float, sd: float, n: int, side: int, *, level: float, interval: str, method: str
) -> Estimate:
    quantile = float(stats.norm.ppf(0.975))
    limit = bias + side * quantile * sd
    if interval == "approximate" or sd == 0:
        error = sd * math.sqrt(1 / n + quantile**2 / (2 * (n - 1)))
        half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * error
        low, high = limit - half, limit + half
    else:
        # Tolerance factors: quantiles of the non-central t with non-centrality 1.96 sqrt(n).
        shares = np.array([0.5 - level / 2, 0.5 + level / 2])
        inner, outer = stats.nct.ppf(shares, n - 1, quantile * math.sqrt(n)) / math.sqrt(n)
        low, high = sorted((bias + side * inner * sd, bias + side * outer * sd))
    return Estimate(
        estimate=limit, ci_low=float(low), ci_high=float(high), n=n, level=level, method=method
    )


def _proportional(means: FloatArray, differences: FloatArray) -> HypothesisTest:
    n = means.size
    method = "slope of the difference on the mean, t test"
    if np.ptp(means) == 0 or np.ptp(differences) == 0:
        return HypothesisTest(
            statistic=0.0,
            df=n - 2,
            p_value=1.0,
            n=n,
            method=method,
            warnings=("means or differences do not vary: p is 1 by convention",),
        )
    result = stats.linregress(means, differences)
    flat = not math.isfinite(result.pvalue) or result.stderr == 0
    return HypothesisTest(
        statistic=math.nan if flat else float(result.slope / result.stderr),
        df=n - 2,
        p_value=0.0 if flat else float(result.pvalue),
        n=n,
        method=method,
        warnings=("the difference is a straight line in the mean",) if flat else (),
    )
