"""Rubin's rules: one estimate out of several imputed tables."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import as_vector, check_lengths
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate


def pool_estimates(
    estimates: ArrayLike,
    std_errors: ArrayLike,
    n: int,
    *,
    parameters: int = 1,
    level: float = 0.95,
) -> Estimate:
    """Pool estimates over imputations, on a scale where they are about normal.

    Parameters
    ----------
    estimates, std_errors
        Shape (m,): one for each imputed table, m >= 2 (log odds ratios, say, not odds ratios).
    n
        Patients.
    parameters
        Of the model, for Barnard and Rubin's degrees of freedom.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        Mean, total standard error, t interval, p against zero.

    Raises
    ------
    StatisticsError
        Fewer than two imputations, a standard error that is not positive.

    References
    ----------
    .. [1] Rubin DB. Multiple Imputation for Nonresponse in Surveys. Wiley 1987.
    .. [2] Barnard J, Rubin DB. Small-sample degrees of freedom with multiple imputation.
       Biometrika 1999;86:948-955.
    """
    values = as_vector(estimates, "estimates", at_least=2)
    errors = as_vector(std_errors, "std_errors", at_least=2)
    check_lengths(estimates=values, std_errors=errors)
    if errors.min() <= 0:
        raise StatisticsError(f"std_errors: found {errors.min():g}; they must be positive")
    m = values.size
    mean, within = float(values.mean()), float(np.mean(errors**2))
    between = float(values.var(ddof=1))
    total = within + (1 + 1 / m) * between
    missing = (1 + 1 / m) * between / total
    complete = max(n - parameters, 1)
    observed = (complete + 1) / (complete + 3) * complete * (1 - missing)
    # With no spread between imputations only the observed-data term is left.
    df = observed if missing == 0 else 1 / (missing**2 / (m - 1) + 1 / observed)
    error = math.sqrt(total)
    half = float(stats.t.ppf(0.5 + level / 2, df)) * error
    return Estimate(
        estimate=mean,
        ci_low=mean - half,
        ci_high=mean + half,
        p_value=float(2 * stats.t.sf(abs(mean) / error, df)),
        std_error=error,
        n=n,
        level=level,
        method=f"Rubin's rules over {m} imputations, t with {df:.1f} degrees of freedom, "
        f"{100 * missing:.0f} % of the variance due to missing data",
    )
