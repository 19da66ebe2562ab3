"""Decision curves: whether acting on the risks beats acting on all or on none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_risks,
    as_survival,
    as_vector,
    horizon_within,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Result
from dlild_analysis.stats.survival.risk_table import product_limit, risk_table


@dataclass(frozen=True, kw_only=True, eq=False)
class DecisionCurve(Result):
    """Net benefit over threshold probabilities, in true positives a patient.

    Attributes
    ----------
    thresholds
        Shape (k,): risk at or above which one acts.
    model, treat_all, treat_none
        Shape (k,): net benefit of acting by the model, on all, on none (zero).
    interventions_avoided
        Shape (k,): net interventions avoided for 100 patients, against acting on all.
    horizon
        ``None`` for a binary outcome.
    """

    thresholds: FloatArray
    model: FloatArray
    treat_all: FloatArray
    treat_none: FloatArray
    interventions_avoided: FloatArray
    horizon: float | None
    n: int
    method: str
    warnings: tuple[str, ...] = ()


def decision_curve(
    outcome: ArrayLike,
    risk: ArrayLike,
    thresholds: ArrayLike,
    *,
    prevalence: float | None = None,
) -> DecisionCurve:
    """Net benefit for an outcome known in every patient.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    risk
        Shape (n,), in [0, 1]; a patient at or above the threshold is acted on.
    thresholds
        Shape (k,), strictly inside (0, 1).
    prevalence
        Of the event in the patients to whom the risks will be applied, strictly inside (0, 1),
        where the patients here were sampled by their outcome (case-control). By default that of
        the patients here.

    Returns
    -------
    DecisionCurve
        TP/n - FP/n x threshold / (1 - threshold); with a given prevalence p, TP/n is sensitivity
        times p and FP/n is (1 - specificity)(1 - p).

    Raises
    ------
    StatisticsError
        Risks or thresholds outside their range.

    References
    ----------
    .. [1] Vickers AJ, Elkin EB. Decision curve analysis: a novel method for evaluating prediction
       models. Med Decis Making 2006;26:565-574.
    .. [2] Pfeiffer RM, Gail MH. Estimating the decision curve and its precision from three study
       designs. Biom J 2020;62:764-776.
    """
    event = as_binary(outcome, both=prevalence is not None)
    if prevalence is not None and not 0 < prevalence < 1:
        raise StatisticsError(f"prevalence: {prevalence:g}; it lies strictly between 0 and 1")
    risks, at = _inputs(risk, thresholds, event.size)
    order = np.argsort(risks)
    below = np.searchsorted(risks[order], at, side="left")
    cases = np.concatenate([[0], np.cumsum(event[order])])
    true_positive = (cases[-1] - cases[below]) / event.size
    false_positive = (event.size - below) / event.size - true_positive
    warnings = () if 0 < event.sum() < event.size else ("only one class occurs in the outcome",)
    own = float(event.mean())
    if prevalence is not None:
        true_positive = true_positive / own * prevalence
        false_positive = false_positive / (1 - own) * (1 - prevalence)
    curve = _assemble(
        at,
        true_positive,
        false_positive,
        own if prevalence is None else prevalence,
        n=event.size,
        warnings=warnings,
    )
    if prevalence is None:
        return curve
    return replace(curve, method=f"{curve.method} at a prevalence of {prevalence:g}")


def decision_curve_survival(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, thresholds: ArrayLike
) -> DecisionCurve:
    """Net benefit of acting on predicted risks of an event by a horizon, under censoring.

    At threshold t patients with a risk of t or more are acted on. With p their share and F their
    Kaplan-Meier risk by the horizon, the net benefit is p F - p (1 - F) x t / (1 - t). Where the
    outcome is known in every patient use :func:`decision_curve`.

    Parameters
    ----------
    time, event
        Shape (n,): follow-up, and 1 where it ended with the event, 0 where it was censored.
    risk
        Shape (n,): predicted probability of the event by the horizon, in [0, 1].
    horizon
        In the unit of time; not beyond the longest follow-up.
    thresholds
        Shape (k,), strictly inside (0, 1).

    Returns
    -------
    DecisionCurve
        True positives by Kaplan-Meier among those at or above the threshold. A threshold at which
        no patient called positive was followed to the horizon is NaN, with a warning.

    Raises
    ------
    StatisticsError
        As :func:`decision_curve`, or a horizon beyond follow-up.

    References
    ----------
    .. [1] Vickers AJ, Cronin AM, Elkin EB, Gonen M. Extensions to decision curve analysis, a novel
       method for evaluating diagnostic tests, prediction models and molecular markers. BMC Med
       Inform Decis Mak 2008;8:53.
    """
    times, events = as_survival(time, event)
    risks, at = _inputs(risk, thresholds, times.size)
    horizon = horizon_within(horizon, times)
    overall = _incidence(times, events, horizon)
    true_positive, false_positive = np.zeros(at.size), np.zeros(at.size)
    for k, threshold in enumerate(at):
        high = risks >= threshold
        share = float(high.mean())
        case = _incidence(times[high], events[high], horizon) if high.any() else 0.0
        true_positive[k], false_positive[k] = case * share, (1 - case) * share
    lost = at[np.isnan(true_positive)]
    warnings: tuple[str, ...] = ()
    if lost.size:
        remark = (
            f"{lost.size} thresholds, from {lost[0]:g} on: no patient above was followed to"
            f" {horizon:g}"
        )
        warnings = (remark,)
    return _assemble(
        at,
        true_positive,
        false_positive,
        overall,
        horizon=horizon,
        n=times.size,
        warnings=warnings,
    )


def _inputs(risk: ArrayLike, thresholds: ArrayLike, n: int) -> tuple[FloatArray, FloatArray]:
    risks, at = as_risks(risk, n), as_vector(thresholds, "thresholds")
    if at.min() <= 0 or at.max() >= 1:
        raise StatisticsError(
            f"thresholds: found {at.min():g} to {at.max():g}; they lie strictly between 0 and 1"
        )
    return risks, at


def _incidence(times: FloatArray, events: BoolArray, horizon: float) -> float:
    """Kaplan-Meier risk by the horizon; NaN where follow-up ends before it."""
    table = risk_table(times, events)
    survival = product_limit(table)
    step = int(np.searchsorted(table.times, horizon, side="right")) - 1
    if step < 0:
        return 0.0
    if table.times[-1] < horizon and survival[-1] > 0:
        return math.nan
    return float(1 - survival[step])


def _assemble(
    at: FloatArray,
    true_positive: FloatArray,
    false_positive: FloatArray,
    prevalence: float,
    *,
    horizon: float | None = None,
    n: int,
    warnings: tuple[str, ...],
) -> DecisionCurve:
    odds = at / (1 - at)
    model = true_positive - false_positive * odds
    treat_all = prevalence - (1 - prevalence) * odds
    when = "" if horizon is None else f" by {horizon:g}, Kaplan-Meier"
    return DecisionCurve(
        thresholds=at,
        model=model,
        treat_all=treat_all,
        treat_none=np.zeros(at.size),
        interventions_avoided=100 * (model - treat_all) / odds,
        horizon=horizon,
        n=n,
        method=f"net benefit{when}",
        warnings=warnings,
    )
