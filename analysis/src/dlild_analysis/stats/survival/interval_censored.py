"""Weibull regression where the time of the event is known only to lie between two visits."""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import WeibullAFTFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    as_design,
    as_vector,
    check_lengths,
    check_regressors,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result


@dataclass(frozen=True, kw_only=True, eq=False)
class IntervalCensoredFit(Result):
    """A Weibull proportional-hazards model of interval-censored times.

    Attributes
    ----------
    names
        Covariates.
    hazard_ratios
        Per unit of each.
    log_hazard_ratios, std_errors
        Shape (p,).
    shape
        Of the Weibull distribution: above 1 the hazard rises.
    n, events, exact
        Patients, those with the event, and those of them whose time is known exactly.
    """

    names: tuple[str, ...]
    hazard_ratios: tuple[Estimate, ...]
    log_hazard_ratios: FloatArray
    std_errors: FloatArray
    shape: float
    log_likelihood: float
    n: int
    events: int
    exact: int
    method: str
    warnings: tuple[str, ...] = ()


def fit_interval_censored(
    design: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> IntervalCensoredFit:
    """Fit a Weibull model to events that lie in an interval each.

    Parameters
    ----------
    design
        Shape (n, p).
    lower, upper
        Shape (n,): the event lies after `lower` and at or before `upper`. Equal where the time is
        known exactly, `upper` infinite where there was no event up to `lower`.
    names
        Of the columns; taken from a DataFrame when left out.
    level
        Coverage of the intervals (delta method).

    Returns
    -------
    IntervalCensoredFit
        lifelines' ``WeibullAFTFitter``, its time ratios turned into hazard ratios, as R's
        ``survreg(Surv(lower, upper, type = "interval2") ~ x)``.

    Raises
    ------
    StatisticsError
        Intervals that end before they begin, no events, constant or collinear columns, no
        convergence.

    References
    ----------
    .. [1] Lindsey JC, Ryan LM. Tutorial in biostatistics: methods for interval-censored data. Stat
       Med 1998;17:219-238.
    """
    x, columns = as_design(design, names)
    begin = as_vector(lower, "lower")
    end = np.asarray(upper, dtype=np.float64)
    check_lengths(design=x, lower=begin, upper=end)
    check_regressors(x, columns)
    if np.isnan(end).any() or (end < begin).any() or begin.min() < 0 or (end <= 0).any():
        raise StatisticsError("upper: each must be above 0 and not below lower, nor missing")
    events = np.isfinite(end)
    if not events.any():
        raise StatisticsError("upper: 0 events; all are infinite")
    mean, sd, unit = x.mean(axis=0), x.std(axis=0), float(np.median(end[events]))
    keys = [f"x{index}" for index in range(x.shape[1])]
    frame = pd.DataFrame((x - mean) / sd, columns=keys).assign(lower=begin / unit, upper=end / unit)
    # Nothing is known of a patient censored at 0; lifelines takes the logarithm of the time.
    frame = frame[events | (begin > 0)]
    with python_warnings.catch_warnings(), np.errstate(all="ignore"):
        python_warnings.simplefilter("ignore")
        try:
            fit = WeibullAFTFitter(alpha=1 - level).fit_interval_censoring(
                frame, lower_bound_col="lower", upper_bound_col="upper"
            )
        except (ConvergenceError, ValueError, np.linalg.LinAlgError) as error:
            raise StatisticsError(
                f"the model did not converge ({' '.join(str(error).split())[:120]})"
            ) from None
    log_shape = float(fit.params_[("rho_", "Intercept")])
    covariance = fit.variance_matrix_
    ratios, betas, errors = [], [], []
    for index, name in enumerate(columns):
        key, scale = ("lambda_", keys[index]), ("rho_", "Intercept")
        time_ratio = float(fit.params_[key])
        gradient = np.array([1.0, time_ratio])
        parts = np.array(
            [[covariance.loc[a, b] for b in (key, scale)] for a in (key, scale)], dtype=np.float64
        )
        factor = -math.exp(log_shape) / float(sd[index])
        betas.append(factor * time_ratio)
        errors.append(abs(factor) * math.sqrt(float(gradient @ parts @ gradient)))
        ratios.append(_ratio(name, betas[-1], errors[-1], len(frame), level))
    return IntervalCensoredFit(
        names=columns,
        hazard_ratios=tuple(ratios),
        log_hazard_ratios=np.array(betas),
        std_errors=np.array(errors),
        shape=math.exp(log_shape),
        log_likelihood=float(fit.log_likelihood_),
        n=len(frame),
        events=int(events.sum()),
        exact=int((begin == end).sum()),
        method="Weibull regression of interval-censored times",
    )


def _ratio(name: str, beta: float, error: float, n: int, level: float) -> Estimate:
    half = normal_quantile(level) * error
    return Estimate(
        estimate=math.exp(beta),
        ci_low=math.exp(beta - half),
        ci_high=math.exp(beta + half),
        p_value=float(2 * stats.norm.sf(abs(beta) / error)),
        std_error=error,
        n=n,
        level=level,
        method=f"hazard ratio of {name}, Weibull, interval-censored; standard error of its log",
    )
