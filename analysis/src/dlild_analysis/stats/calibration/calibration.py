"""Calibration of predicted risks, for an outcome known in all and for survival at a horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.nonparametric.smoothers_lowess import lowess

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    as_binary,
    as_survival,
    normal_quantile,
)
from dlild_analysis.stats.calibration.brier import (
    brier_binary,
    brier_survival,
    check_horizon,
    checked_risks,
)
from dlild_analysis.stats.cox.partial_likelihood import maximise
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic.likelihood import Likelihood, maximise_logistic
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.splines import rcs_basis, rcs_knots
from dlild_analysis.stats.survival.curves import kaplan_meier, survival_at


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
        Risks outside [0, 1]; no event by the horizon, or no patient followed to it.

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
    smooth, remarks = spline_curve(times, events, scale, horizon)
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
        warnings=tuple(dict.fromkeys(warnings + slope.warnings + remarks)),
    )


def _points(risks: FloatArray, most: int = 200) -> IntArray:
    """Choose patients of rising, distinct risk: what a figure needs of the curve."""
    distinct, first = np.unique(risks, return_index=True)
    kept = np.unique(np.linspace(0, distinct.size - 1, min(most, distinct.size)).astype(int))
    points: IntArray = first[kept].astype(np.int64)
    return points


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
    remarks: tuple[str, ...] = ()
    basis = scale[:, None]
    if np.ptp(scale) == 0:
        basis = np.empty((scale.size, 0))
        remarks = ("all risks are equal: the curve is a single point",)
    else:
        try:
            basis = rcs_basis(scale, rcs_knots(scale, 3 if event.sum() < 50 else 4))
        except StatisticsError:
            remarks = ("too few distinct risks for a spline: the curve is a straight line",)
    if basis.shape[1] == 0:
        return _risk_at(np.zeros(scale.size), time, event, horizon), remarks
    fitted = maximise(basis, time, event)
    if fitted.infinite.any() and basis.shape[1] > 1:
        fitted = maximise(basis[:, :1], time, event)
        remarks += ("the spline has no finite estimate: the curve is a straight line",)
    x = basis[:, : fitted.beta.size]
    score = (x - x.mean(axis=0)) @ fitted.beta
    if fitted.infinite.any():
        remarks += ("the risks rank all events first: the curve is a step",)
        score = np.clip(score, -30, 30)
    return _risk_at(score, time, event, horizon), remarks


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
