"""Risks predicted by a Cox model, with intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    FloatArray,
    as_design,
    horizon_among,
    normal_quantile,
)
from dlild_analysis.stats.cox_results import CoxFit
from dlild_analysis.stats.designs import outside_range
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic_results import RiskPrediction


def linear_predictor(fit: CoxFit, design: ArrayLike) -> FloatArray:
    """Log hazard relative to a patient at the means of the fitting data.

    Parameters
    ----------
    fit
        A fitted model.
    design
        Shape (m, p), columns in the order of ``fit.names``.

    Returns
    -------
    ndarray
        Shape (m,); higher means the event comes sooner.

    Raises
    ------
    StatisticsError
        A wrong number of columns or a value that is not finite.
    """
    x = _new_rows(fit, design)
    return np.asarray((x - fit.centre) @ np.array([term.beta for term in fit.terms]))


def predict_cox(
    fit: CoxFit, design: ArrayLike, horizon: float, *, level: float = 0.95
) -> RiskPrediction:
    """Predict the risk of the event by a horizon.

    Intervals are formed on the log-log survival scale with the full variance, baseline hazard and
    coefficients together.

    Parameters
    ----------
    fit
        A fitted model.
    design
        Shape (m, p), columns in the order of ``fit.names``.
    horizon
        In the unit of the fitted times; not beyond the longest follow-up.
    level
        Coverage of the intervals.

    Returns
    -------
    RiskPrediction
        With a warning that counts the rows outside the range of the fitted data.

    Raises
    ------
    StatisticsError
        A horizon that is not positive or lies beyond follow-up; a wrong number of columns.

    References
    ----------
    .. [1] Tsiatis AA. A large sample study of Cox's regression model. Ann Stat 1981;9:93-108.
    """
    horizon = horizon_among(horizon, np.append(fit.baseline_times, fit.last_time))
    if not 0 < horizon <= fit.last_time:
        raise StatisticsError(
            f"horizon: {horizon:g}; it must lie above 0 and not beyond the longest follow-up,"
            f" {fit.last_time:g}"
        )
    x = _new_rows(fit, design)
    if not all(math.isfinite(term.beta) for term in fit.terms):
        raise StatisticsError("fit: a coefficient is infinite; this model predicts no risk")
    score = linear_predictor(fit, x)
    step = int(np.searchsorted(fit.baseline_times, horizon, side="right")) - 1
    warnings = outside_range(x, fit.lower, fit.upper)
    if step < 0:
        zero = np.zeros(x.shape[0])
        risk, low, high = zero, zero, zero
        warnings += (f"no event up to {horizon:g}: risks are zero, without interval",)
    else:
        hazard, error = _cumulative_hazard(fit, x, score, step)
        factor = np.exp(normal_quantile(level) * error / hazard)
        risk, low, high = (-np.expm1(-hazard * f) for f in (1.0, 1 / factor, factor))
    return RiskPrediction(
        risk=np.asarray(risk),
        ci_low=np.asarray(low),
        ci_high=np.asarray(high),
        level=level,
        method=f"Cox risk by {horizon:g}, log-log interval",
        warnings=warnings,
    )


def _new_rows(fit: CoxFit, design: ArrayLike) -> FloatArray:
    x, _ = as_design(design, None)
    if x.shape[1] != len(fit.terms):
        raise StatisticsError(
            f"design: {x.shape[1]} columns; the model has {len(fit.terms)}: {', '.join(fit.names)}"
        )
    return x


def _cumulative_hazard(
    fit: CoxFit, x: FloatArray, score: FloatArray, step: int
) -> tuple[FloatArray, FloatArray]:
    """Cumulative hazard of each row at a step of the baseline, and its standard error."""
    relative = np.exp(score)
    base = fit.baseline_hazard[step]
    pull = fit.baseline_gradient[step] + (x - fit.centre) * base
    variance = fit.baseline_variance[step] + np.einsum("ij,jk,ik->i", pull, fit.covariance, pull)
    return relative * base, relative * np.sqrt(variance)
