"""Calibration of predicted risks, for an outcome known in all and for survival at a horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    FloatArray,
    IntArray,
    as_binary,
    as_survival,
)
from dlild_analysis.stats.brier import brier_binary, brier_survival, check_horizon, checked_risks
from dlild_analysis.stats.calibration_curves import lowess_curve, spline_curve
from dlild_analysis.stats.calibration_slopes import (
    cox_slope,
    hazard_intercept,
    logistic_intercept,
    logistic_slope,
)
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.survival import kaplan_meier, survival_at

__all__ = [
    "Calibration",
    "brier_binary",
    "brier_survival",
    "calibrate_binary",
    "calibrate_survival",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration(Result):
    """How predicted risks agree with what happened.

    Attributes
    ----------
    slope
        1 is right; below 1 the predictions are too extreme.
    intercept
        Calibration in the large: 0 is right; above 0 risks are under-estimated. Log-odds scale
        for a binary outcome, log cumulative-hazard scale for survival.
    observed, expected
        Share with the event (Kaplan-Meier's for survival), and mean predicted risk.
    ici, e50, e90, e_max
        Mean, median, 90th percentile and maximum of |smoothed observed - predicted|.
    brier
        Mean squared error of the risks; lower is better. IPCW for survival.
    brier_scaled
        1 - Brier / Brier of predicting the mean risk; 1 is perfect, 0 useless.
    curve_predicted, curve_observed
        Shape (k,): the smooth calibration curve.
    horizon
        ``None`` for a binary outcome.
    """

    slope: Estimate
    intercept: Estimate
    observed: float
    expected: float
    ici: float
    e50: float
    e90: float
    e_max: float
    brier: Estimate
    brier_scaled: float
    curve_predicted: FloatArray
    curve_observed: FloatArray
    horizon: float | None
    n: int
    events: int
    method: str
    warnings: tuple[str, ...] = ()


def calibrate_binary(outcome: ArrayLike, risk: ArrayLike, *, level: float = 0.95) -> Calibration:
    """Calibration of risks for an outcome known in every patient.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    risk
        Shape (n,), in [0, 1].
    level
        Coverage of the intervals.

    Returns
    -------
    Calibration
        Smoothed by lowess (span 2/3, no robustness iterations).

    Raises
    ------
    StatisticsError
        Risks outside [0, 1], one class only.

    References
    ----------
    .. [1] Van Calster B et al. A calibration hierarchy for risk models. J Clin Epidemiol
       2016;74:167-176.
    .. [2] Austin PC, Steyerberg EW. The Integrated Calibration Index (ICI) and related metrics.
       Stat Med 2019;38:4051-4065.
    """
    event = as_binary(outcome)
    risks, warnings = checked_risks(risk, event.size)
    logit = np.log(risks) - np.log1p(-risks)
    slope = logistic_slope(event, logit, level)
    intercept = logistic_intercept(event, logit, level)
    smooth = lowess_curve(risks, event.astype(np.float64))
    gap, kept = np.abs(smooth - risks), _points(risks)
    brier = brier_binary(event, risk, level=level)
    observed = float(event.mean())
    return Calibration(
        slope=slope,
        intercept=intercept,
        observed=observed,
        expected=float(risks.mean()),
        ici=float(gap.mean()),
        e50=float(np.quantile(gap, 0.5)),
        e90=float(np.quantile(gap, 0.9)),
        e_max=float(gap.max()),
        brier=brier,
        brier_scaled=1 - brier.estimate / (observed * (1 - observed)),
        curve_predicted=risks[kept],
        curve_observed=smooth[kept],
        horizon=None,
        n=event.size,
        events=int(event.sum()),
        method="calibration of a binary outcome; lowess, span 2/3",
        warnings=tuple(dict.fromkeys(warnings + slope.warnings)),
    )


def calibrate_survival(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, *, level: float = 0.95
) -> Calibration:
    """Calibration of risks of the event by a horizon, under censoring.

    Parameters
    ----------
    time, event
        Shape (n,).
    risk
        Shape (n,): predicted probability of the event by the horizon, in [0, 1].
    horizon
        In the unit of time.
    level
        Coverage of the intervals.

    Returns
    -------
    Calibration
        Slope: of log(-log(1 - risk)) in a Cox model. Curve: Cox model with a restricted cubic
        spline of it, read at the horizon. Intercept: log of observed over expected cumulative
        hazard, by Poisson's variance.

    Raises
    ------
    StatisticsError
        Risks outside [0, 1], no event by, or nobody followed to, the horizon.

    References
    ----------
    .. [1] Austin PC, Harrell FE, van Klaveren D. Graphical calibration curves and the integrated
       calibration index (ICI) for survival models. Stat Med 2020;39:2714-2742.
    .. [2] Graf E, Schmoor C, Sauerbrei W, Schumacher M. Assessment and comparison of prognostic
       classification schemes for survival data. Stat Med 1999;18:2529-2545.
    .. [3] Crowson CS, Atkinson EJ, Therneau TM. Assessing calibration of prognostic risk scores.
       Stat Methods Med Res 2016;25:1692-1706.
    """
    times, events = as_survival(time, event)
    horizon = check_horizon(times, events, horizon)
    risks, warnings = checked_risks(risk, times.size)
    scale = np.log(-np.log1p(-risks))
    slope = cox_slope(times, events, scale, level)
    overall = survival_at(kaplan_meier(times, events, level=level), [horizon])[0]
    smooth, told = spline_curve(times, events, scale, horizon)
    gap, kept = np.abs(smooth - risks), _points(risks)
    brier = brier_survival(times, events, risk, horizon, level=level)
    nothing = np.full(times.size, 1 - overall.estimate)
    useless = brier_survival(times, events, nothing, horizon).estimate
    return Calibration(
        slope=slope,
        intercept=hazard_intercept(times, events, risks, horizon, level),
        observed=1 - overall.estimate,
        expected=float(risks.mean()),
        ici=float(gap.mean()),
        e50=float(np.quantile(gap, 0.5)),
        e90=float(np.quantile(gap, 0.9)),
        e_max=float(gap.max()),
        brier=brier,
        brier_scaled=1 - brier.estimate / useless if useless > 0 else math.nan,
        curve_predicted=risks[kept],
        curve_observed=smooth[kept],
        horizon=horizon,
        n=times.size,
        events=int((events & (times <= horizon)).sum()),
        method="calibration of survival risks; Cox model with a spline of log(-log(1 - risk))",
        warnings=tuple(dict.fromkeys(warnings + slope.warnings + told)),
    )


def _points(risks: FloatArray, most: int = 200) -> IntArray:
    """Choose patients of rising, distinct risk: what a figure needs of the curve."""
    distinct, first = np.unique(risks, return_index=True)
    kept = np.unique(np.linspace(0, distinct.size - 1, min(most, distinct.size)).astype(int))
    points: IntArray = first[kept].astype(np.int64)
    return points
