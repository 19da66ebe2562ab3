"""Smooth calibration curves."""

from __future__ import annotations

import numpy as np
from statsmodels.nonparametric.smoothers_lowess import lowess

from dlild_analysis.stats.arrays import BoolArray, FloatArray
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.partial_likelihood import maximise
from dlild_analysis.stats.splines import rcs_basis, rcs_knots

_SPAN = 2 / 3


def lowess_curve(risk: FloatArray, outcome: FloatArray) -> FloatArray:
    """Smooth the outcome over the risk by lowess, without robustness iterations.

    Parameters
    ----------
    risk
        Shape (n,), in [0, 1].
    outcome
        Shape (n,), 0 or 1.

    Returns
    -------
    ndarray
        Shape (n,): smoothed outcome at each risk, in [0, 1].
    """
    if np.ptp(risk) == 0:
        return np.full(risk.size, outcome.mean())
    # In large cohorts neighbouring risks are interpolated, which changes nothing visible.
    delta = 0.0 if risk.size <= 2000 else 0.005 * float(np.ptp(risk))
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth = lowess(outcome, risk, frac=_SPAN, it=0, delta=delta, return_sorted=False)
    lost = ~np.isfinite(smooth)
    # With heavy ties a window may have no width; the mean of the tied patients is its limit.
    for value in np.unique(risk[lost]):
        smooth[risk == value] = outcome[risk == value].mean()
    return np.clip(np.asarray(smooth, dtype=np.float64), 0.0, 1.0)


def spline_curve(
    time: FloatArray, event: BoolArray, scale: FloatArray, horizon: float
) -> tuple[FloatArray, tuple[str, ...]]:
    """Observed risk at the horizon as a smooth function of the predicted one.

    Parameters
    ----------
    time, event
        Shape (n,).
    scale
        Shape (n,): log(-log(1 - predicted risk)).
    horizon
        In the unit of time.

    Returns
    -------
    tuple
        Risks, shape (n,), of a Cox model with a restricted cubic spline (or a straight line,
        where there are too few distinct predictions or events); and what to warn of.
    """
    told: tuple[str, ...] = ()
    basis = scale[:, None]
    if np.ptp(scale) == 0:
        basis = np.empty((scale.size, 0))
        told = ("all risks are equal: the curve is a single point",)
    else:
        try:
            basis = rcs_basis(scale, rcs_knots(scale, 3 if event.sum() < 50 else 4))
        except StatisticsError:
            told = ("too few distinct risks for a spline: the curve is a straight line",)
    if basis.shape[1] == 0:
        return _risk_at(np.zeros(scale.size), time, event, horizon), told
    fitted = maximise(basis, time, event)
    if fitted.infinite.any() and basis.shape[1] > 1:
        fitted = maximise(basis[:, :1], time, event)
        told += ("the spline has no finite estimate: the curve is a straight line",)
    x = basis[:, : fitted.beta.size]
    score = (x - x.mean(axis=0)) @ fitted.beta
    if fitted.infinite.any():
        told += ("the risks rank all events first: the curve is a step",)
        score = np.clip(score, -30, 30)
    return _risk_at(score, time, event, horizon), told


def _risk_at(score: FloatArray, time: FloatArray, event: BoolArray, horizon: float) -> FloatArray:
    """Breslow's risk by the horizon for each linear predictor."""
    order = np.argsort(time, kind="stable")
    relative = np.exp(score - score.max())
    at_risk = np.cumsum(relative[order][::-1])[::-1]
    first = np.searchsorted(time[order], time, side="left")
    counted = event & (time <= horizon)
    baseline = float(np.sum(1 / at_risk[first[counted]]))
    risk: FloatArray = -np.expm1(-baseline * relative)
    return risk
