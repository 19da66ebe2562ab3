"""Time-dependent AUC (cumulative cases, dynamic controls) with IPCW.

A **higher score means the event comes sooner**.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    as_survival,
    as_vector,
    check_lengths,
    horizon_among,
    merge_near_ties,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.intervals import normal_difference
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.survival.risk_table import (
    CensoringCurve,
    censoring_curve,
    product_limit,
    risk_table,
)


@dataclass(frozen=True, kw_only=True)
class TimeAucComparison(Result):
    """Two scores' AUC at one horizon; ``difference`` is ``a - b``."""

    a: Estimate
    b: Estimate
    difference: Estimate
    horizon: float
    warnings: tuple[str, ...] = ()


def time_auc(
    time: ArrayLike, event: ArrayLike, score: ArrayLike, horizon: float, *, level: float = 0.95
) -> Estimate:
    """AUC between patients with the event by the horizon and those free of it beyond.

    Estimand: P(score of a case > score of a control), ties one half, cases having the event in
    (0, horizon] and controls none up to the horizon, to which they were followed: one censored
    exactly there is a control, since events come before censorings at equal times. Patients
    censored before are made up for by weighting cases with 1 / G(t-), G the Kaplan-Meier estimate
    of censoring.

    Parameters
    ----------
    time, event
        Shape (n,).
    score
        Shape (n,); higher means the event comes sooner.
    horizon
        In the unit of time.
    level
        Coverage of the interval, clipped to [0, 1].

    Returns
    -------
    Estimate
        AUC; p tests 0.5. The variance includes the estimation of G.

    Raises
    ------
    StatisticsError
        No case by the horizon, or no patient followed to it without the event.

    References
    ----------
    .. [1] Uno H, Cai T, Tian L, Wei LJ. Evaluating prediction rules for t-year survivors with
       censored regression models. J Am Stat Assoc 2007;102:527-537.
    .. [2] Blanche P, Dartigues JF, Jacqmin-Gadda H. Estimating and comparing time-dependent areas
       under ROC curves for censored event times with competing risks. Stat Med
       2013;32:5381-5397.
    """
    return _estimate(_parts(time, event, score, horizon), horizon, level)


def time_auc_curve(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    horizons: Sequence[float],
    *,
    level: float = 0.95,
) -> tuple[Estimate, ...]:
    """AUC at several horizons.

    Parameters
    ----------
    time, event, score, level
        As :func:`time_auc`.
    horizons
        In the unit of time.

    Returns
    -------
    tuple of Estimate
        One for each horizon; NaN with a warning where it cannot be computed.

    Raises
    ------
    StatisticsError
        Values that are not finite.
    """
    estimates = []
    times, events = as_survival(time, event)
    scores = merge_near_ties(as_vector(score, "score"))
    check_lengths(time=times, score=scores)
    for horizon in horizons:
        try:
            estimates.append(time_auc(times, events, scores, horizon, level=level))
        except StatisticsError as error:
            estimates.append(
                Estimate(
                    estimate=math.nan,
                    ci_low=math.nan,
                    ci_high=math.nan,
                    p_value=math.nan,
                    n=times.size,
                    level=level,
                    method=_method(horizon),
                    warnings=(str(error),),
                )
            )
    return tuple(estimates)


def compare_time_auc(
    time: ArrayLike,
    event: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    horizon: float,
    *,
    level: float = 0.95,
) -> TimeAucComparison:
    """Compare two scores' AUC at one horizon in the same patients.

    Parameters
    ----------
    time, event, horizon, level
        As :func:`time_auc`.
    score_a, score_b
        Shape (n,); higher means the event comes sooner.

    Returns
    -------
    TimeAucComparison
        Both, and ``a - b``.

    Raises
    ------
    StatisticsError
        As :func:`time_auc`.
    """
    a = _parts(time, event, score_a, horizon)
    b = _parts(time, event, score_b, horizon)
    first, second = _estimate(a, horizon, level), _estimate(b, horizon, level)
    difference = normal_difference(
        a[0] - b[0],
        _standard_error(a[1] - b[1]) ** 2,
        n=first.n,
        level=level,
        method=f"difference of two dependent time-dependent AUC at {horizon:g}",
    )
    return TimeAucComparison(
        a=first,
        b=second,
        difference=difference,
        horizon=horizon,
        warnings=tuple(dict.fromkeys(first.warnings + second.warnings + difference.warnings)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegratedAuc(Result):
    """Time-dependent AUC over a range of horizons, and its mean.

    Attributes
    ----------
    horizons, auc, weights
        Shape (k,): the horizons, the AUC at each, and its weight in the mean.
    mean
        The integrated AUC.
    """

    horizons: FloatArray
    auc: FloatArray
    weights: FloatArray
    mean: Estimate
    warnings: tuple[str, ...] = ()


def integrated_time_auc(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    horizons: Sequence[float],
    *,
    training: tuple[ArrayLike, ArrayLike] | None = None,
    level: float = 0.95,
) -> IntegratedAuc:
    """Average the time-dependent AUC over horizons, weighted by the events that fall between them.

    The weight of a horizon is the fall of the Kaplan-Meier curve since the horizon before it (since
    0 for the first), as a share of the whole fall. Censoring and survival curves are those of the
    training set where one is given. The AUC at each horizon is that of R's ``survAUC::AUC.uno``;
    its mean interpolates between horizons and differs in the third digit.

    Parameters
    ----------
    time, event, score, level
        As :func:`time_auc`.
    horizons
        Rising; in the unit of time.
    training
        Times and events of the patients whom the score was fitted to.

    Returns
    -------
    IntegratedAuc
        The interval takes the weights of the horizons as known.

    Raises
    ------
    StatisticsError
        As :func:`time_auc`; horizons that do not rise; no event in the training set up to the last.

    References
    ----------
    .. [1] Uno H, Cai T, Tian L, Wei LJ. Evaluating prediction rules for t-year survivors with
       censored regression models. J Am Stat Assoc 2007;102:527-537.
    .. [2] Heagerty PJ, Zheng Y. Survival model predictive accuracy and ROC curves. Biometrics
       2005;61:92-105.
    """
    at = as_vector(horizons, "horizons")
    if (np.diff(at) <= 0).any():
        raise StatisticsError("horizons: they must rise, each once")
    times, events = as_survival(*(training if training is not None else (time, event)))
    table = risk_table(times, events)
    survival = np.concatenate([[1.0], product_limit(table)])
    reached = [horizon_among(float(value), table.times) for value in at]
    steps = survival[np.searchsorted(table.times, reached, side="right")]
    fall = -np.diff(np.concatenate([[1.0], steps]))
    if fall.sum() <= 0:
        raise StatisticsError(f"horizons: no event up to the last, {at[-1]:g}")
    weights = fall / fall.sum()
    curve = None if training is None else censoring_curve(times, events)
    parts = [_parts(time, event, score, float(value), curve) for value in at]
    influence = np.asarray(weights @ np.array([part[1] for part in parts]), dtype=np.float64)
    auc = np.array([part[0] for part in parts])
    words = "own" if training is None else "training set's"
    mean = _estimate((float(weights @ auc), influence), float(at[-1]), level)
    return IntegratedAuc(
        horizons=at,
        auc=auc,
        weights=weights,
        mean=replace(
            mean,
            method=f"cumulative/dynamic AUC integrated up to {at[-1]:g}, {words} Kaplan-Meier"
            " weights, influence-function interval",
        ),
        warnings=mean.warnings,
    )


def _method(horizon: float) -> str:
    return f"cumulative/dynamic AUC at {horizon:g}, IPCW, influence-function interval"


def _standard_error(influence: FloatArray) -> float:
    error = float(influence.std(ddof=1)) / math.sqrt(influence.size)
    return error if error > 1e-12 else 0.0


def _parts(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    horizon: float,
    training: CensoringCurve | None = None,
) -> tuple[float, FloatArray]:
    """AUC, and the influence of each patient on it.

    That through the weights is included, unless these come from a training set.
    """
    times, events = as_survival(time, event)
    scores = merge_near_ties(as_vector(score, "score"))
    check_lengths(time=times, score=scores)
    horizon = horizon_among(horizon, times)
    case = events & (times <= horizon)
    control = (times >= horizon) & ~case
    if not case.any() or not control.any():
        raise StatisticsError(
            f"horizon: {horizon:g} leaves {case.sum()} events by then and {control.sum()} patients"
            " followed to it without; both are needed"
        )
    n = times.size
    curve = censoring_curve(times, events) if training is None else training
    left = np.where(case, curve.before(times), 1.0)
    if not left.all():
        raise StatisticsError(
            f"training: every patient was censored before {times[left == 0].min():g}, when a"
            " patient here had the event; use earlier horizons"
        )
    weight = np.where(case, 1 / left, 0.0)
    ordered = np.sort(scores[control])
    below = np.searchsorted(ordered, scores, side="left")
    level_with = np.searchsorted(ordered, scores, side="right") - below
    beaten = (below + level_with / 2) / n
    beating = _weight_above(scores, weight) / n
    cases, controls = weight.sum() / n, control.sum() / n
    auc = float(weight @ beaten / n / (cases * controls))
    direct = weight * (beaten - auc * controls) + control * (beating - auc * cases)
    if training is not None:
        return auc, direct / (cases * controls)
    loads = np.bincount(
        curve.table.row, weights=weight * (beaten - auc * controls), minlength=curve.at_risk.size
    )
    through_weights = curve.martingale_pull(~events, loads / n)
    return auc, (direct + through_weights) / (cases * controls)


def _weight_above(scores: FloatArray, weight: FloatArray) -> FloatArray:
    """Sum the weight of those who score higher, equals counting one half."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    low = np.searchsorted(ordered, scores, side="left")
    high = np.searchsorted(ordered, scores, side="right")
    above: FloatArray = total[-1] - (total[low] + total[high]) / 2
    return above


def _estimate(parts: tuple[float, FloatArray], horizon: float, level: float) -> Estimate:
    auc, influence = parts
    error = _standard_error(influence)
    half = normal_quantile(level) * error
    p_value, warnings = math.nan, ["the variance is zero: the interval has no width"]
    if error > 0:
        p_value, warnings = float(2 * stats.norm.sf(abs(auc - 0.5) / error)), []
    return Estimate(
        estimate=auc,
        ci_low=max(0.0, auc - half),
        ci_high=min(1.0, auc + half),
        p_value=p_value,
        std_error=error,
        n=influence.size,
        level=level,
        method=_method(horizon),
        warnings=tuple(warnings),
    )
