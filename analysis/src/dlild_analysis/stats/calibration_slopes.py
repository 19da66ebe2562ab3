"""Slope and intercept of calibration."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    normal_quantile,
)
from dlild_analysis.stats.logistic_likelihood import Likelihood, maximise_logistic
from dlild_analysis.stats.partial_likelihood import maximise
from dlild_analysis.stats.results import Estimate


def _wald(
    estimate: float, error: float, null: float, n: int, *, level: float, method: str
) -> Estimate:
    half = normal_quantile(level) * error
    return Estimate(
        estimate=estimate,
        ci_low=estimate - half,
        ci_high=estimate + half,
        p_value=float(2 * stats.norm.sf(abs(estimate - null) / error)),
        std_error=error,
        n=n,
        level=level,
        method=f"{method}, Wald interval, p against {null:g}",
    )


def _no_slope(n: int, level: float, why: str) -> Estimate:
    return Estimate(
        estimate=math.nan,
        ci_low=math.nan,
        ci_high=math.nan,
        n=n,
        level=level,
        method="calibration slope",
        warnings=(f"calibration slope: {why}",),
    )


def logistic_slope(event: BoolArray, logit: FloatArray, level: float) -> Estimate:
    """Regress the outcome on the logit of the risk."""
    if np.ptp(logit) == 0:
        return _no_slope(event.size, level, "all risks are equal")
    cases, controls = logit[event], logit[~event]
    if cases.min() > controls.max() or cases.max() < controls.min():
        return _no_slope(event.size, level, "the risks separate the classes, it is infinite")
    x = np.column_stack([np.ones(event.size), logit])
    likelihood = Likelihood(x, event.astype(np.float64), firth=False)
    beta, _ = maximise_logistic(likelihood, np.array([0.0, 1.0]), np.array([True, True]))
    error = math.sqrt(np.linalg.inv(likelihood.parts(beta)[2])[1, 1])
    return _wald(
        float(beta[1]), error, 1.0, event.size, level=level, method="logistic calibration slope"
    )


def logistic_intercept(event: BoolArray, logit: FloatArray, level: float) -> Estimate:
    """Fit an intercept with the logit of the risk as offset."""
    x = np.column_stack([np.ones(event.size), logit])
    likelihood = Likelihood(x, event.astype(np.float64), firth=False)
    beta, _ = maximise_logistic(likelihood, np.array([0.0, 1.0]), np.array([True, False]))
    error = 1 / math.sqrt(likelihood.parts(beta)[2][0, 0])
    method = "calibration in the large (log odds, slope held at 1)"
    return _wald(float(beta[0]), error, 0.0, event.size, level=level, method=method)


def cox_slope(times: FloatArray, events: BoolArray, scale: FloatArray, level: float) -> Estimate:
    """Regress the hazard on log(-log(1 - risk))."""
    if np.ptp(scale) == 0:
        return _no_slope(times.size, level, "all risks are equal")
    fitted = maximise(scale[:, None], times, events)
    if fitted.infinite.any():
        return _no_slope(times.size, level, "the risks rank all events first, it is infinite")
    error = math.sqrt(fitted.covariance[0, 0])
    return _wald(
        float(fitted.beta[0]), error, 1.0, times.size, level=level, method="Cox calibration slope"
    )


def hazard_intercept(
    times: FloatArray, events: BoolArray, risks: FloatArray, horizon: float, level: float
) -> Estimate:
    """Take the log of observed over expected events, hazards constant up to the horizon."""
    lived = np.minimum(times, horizon)
    expected = float(np.sum(-np.log1p(-risks) * lived / horizon))
    observed = int((events & (times <= horizon)).sum())
    return _wald(
        math.log(observed / expected),
        1 / math.sqrt(observed),
        0.0,
        times.size,
        level=level,
        method="log of observed over expected events by the horizon, Poisson",
    )
