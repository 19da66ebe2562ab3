"""Time-dependent AUC (cumulative cases, dynamic controls) with IPCW.

A **higher score means the event comes sooner**.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
from dlild_analysis.stats.survival.risk_table import censoring_curve


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


def _method(horizon: float) -> str:
    return f"cumulative/dynamic AUC at {horizon:g}, IPCW, influence-function interval"


def _standard_error(influence: FloatArray) -> float:
    error = float(influence.std(ddof=1)) / math.sqrt(influence.size)
    return error if error > 1e-12 else 0.0


def _parts(
    time: ArrayLike, event: ArrayLike, score: ArrayLike, horizon: float
) -> tuple[float, FloatArray]:
    """AUC, and the influence of each patient on it, that through the weights included."""
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
    curve = censoring_curve(times, events)
    weight = np.where(case, 1 / np.where(case, curve.before(times), 1.0), 0.0)
    ordered = np.sort(scores[control])
    below = np.searchsorted(ordered, scores, side="left")
    level_with = np.searchsorted(ordered, scores, side="right") - below
    beaten = (below + level_with / 2) / n
    beating = _weight_above(scores, weight) / n
    cases, controls = weight.sum() / n, control.sum() / n
    auc = float(weight @ beaten / n / (cases * controls))
    direct = weight * (beaten - auc * controls) + control * (beating - auc * cases)
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
