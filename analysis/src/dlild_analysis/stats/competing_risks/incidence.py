"""Competing risks: Aalen-Johansen incidence, cause-specific Cox.

``cause`` is 0 for censoring and 1, 2, ... for the kinds of event.

lifelines moves tied times apart at random, which changes the curve from run to run, and has no
model of the subdistribution; both are written here and held against R.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    FloatArray,
    IntArray,
    as_survival,
    as_vector,
    horizon_among,
    normal_quantile,
)
from dlild_analysis.stats.cox.regression import CoxFit, fit_cox
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.survival.risk_table import RiskTable, product_limit, risk_table


@dataclass(frozen=True, kw_only=True, eq=False)
class CumulativeIncidence(Result):
    """Incidence of one cause in the presence of the others, as steps.

    Attributes
    ----------
    cause
        Its code.
    times
        Shape (k,), rising: every distinct time of an event of any cause.
    incidence, std_error, ci_low, ci_high
        Shape (k,); limits on the log(-log incidence) scale.
    """

    cause: int
    times: FloatArray
    incidence: FloatArray
    std_error: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    last_time: float
    n: int
    n_events: int
    level: float
    method: str
    warnings: tuple[str, ...] = ()


def aalen_johansen(
    time: ArrayLike, cause: ArrayLike, *, of: int = 1, level: float = 0.95
) -> CumulativeIncidence:
    """Aalen-Johansen cumulative incidence of one cause.

    Parameters
    ----------
    time
        Shape (n,), not negative.
    cause
        Shape (n,): 0 censored, 1, 2, ... kinds of event.
    of
        Whose incidence.
    level
        Coverage of the intervals.

    Returns
    -------
    CumulativeIncidence
        Variance by the infinitesimal jackknife, as R's multi-state ``survfit``.

    Raises
    ------
    StatisticsError
        Negative times, or causes that are not whole numbers from 0.

    References
    ----------
    .. [1] Aalen OO, Johansen S. An empirical transition matrix for non-homogeneous Markov chains
       based on censored observations. Scand J Stat 1978;5:141-150.
    .. [2] Choudhury JB. Non-parametric confidence interval estimation for competing risks
       analysis. Stat Med 2002;21:1129-1144.
    """
    times, causes = as_causes(time, cause)
    table = risk_table(times, causes > 0)
    flags = (causes == of).astype(np.float64)
    mine = np.asarray(np.bincount(table.row, flags, table.times.size), dtype=np.float64)
    before = np.concatenate([[1.0], product_limit(table)[:-1]])
    incidence = np.cumsum(before * mine / table.at_risk)
    kept = np.flatnonzero(table.events > 0)
    error = np.sqrt(_jackknife(table, mine, before, incidence))[kept]
    warnings = [] if mine.any() else [f"no event of cause {of}: its incidence is zero throughout"]
    if not kept.size:
        warnings.append("no events of any cause")
    low, high = _limits(incidence[kept], error, normal_quantile(level))
    return CumulativeIncidence(
        cause=of,
        times=table.times[kept],
        incidence=incidence[kept],
        std_error=error,
        ci_low=low,
        ci_high=high,
        last_time=float(times.max()),
        n=times.size,
        n_events=int(mine.sum()),
        level=level,
        method="Aalen-Johansen, infinitesimal-jackknife variance, log-log interval",
        warnings=tuple(warnings),
    )


def incidence_at(curve: CumulativeIncidence, times: Sequence[float]) -> tuple[Estimate, ...]:
    """Read incidence with its interval off a curve.

    Parameters
    ----------
    curve
        From :func:`aalen_johansen`.
    times
        Times in the unit of the curve.

    Returns
    -------
    tuple of Estimate
        NaN with a warning beyond the longest follow-up.

    Raises
    ------
    StatisticsError
        A negative time.
    """
    return tuple(_read(curve, float(at)) for at in as_vector(times, "times"))


def fit_cause_specific(
    design: ArrayLike,
    time: ArrayLike,
    cause: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    of: int = 1,
    level: float = 0.95,
) -> CoxFit:
    """Cox model of one cause's hazard, the other causes taken as censoring.

    Parameters
    ----------
    design, names, level
        As :func:`dlild_analysis.stats.cox.fit_cox`.
    time, cause, of
        As :func:`aalen_johansen`.

    Returns
    -------
    CoxFit
        Hazard ratios among those still free of any event: they speak of the cause's rate, not of
        its incidence.

    Raises
    ------
    StatisticsError
        As :func:`dlild_analysis.stats.cox.fit_cox`.
    """
    times, causes = as_causes(time, cause)
    if not (causes == of).any():
        raise StatisticsError(f"cause: no event of cause {of}; codes found: {np.unique(causes)}")
    fit = fit_cox(design, times, causes == of, names, level=level)
    return replace(fit, method=f"cause-specific {fit.method} (cause {of})")


def as_causes(time: ArrayLike, cause: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return times and whole-number causes of one length.

    Raises
    ------
    StatisticsError
        Negative times, or causes that are not whole numbers from 0.
    """
    values = as_vector(cause, "cause")
    odd = values[(values < 0) | (values != np.round(values))]
    if odd.size:
        raise StatisticsError(f"cause: found {odd[0]:g}; use 0 for censoring and 1, 2, ...")
    times, _ = as_survival(time, values > 0)
    return times, values.astype(np.int64)


def _jackknife(
    table: RiskTable, mine: FloatArray, before: FloatArray, incidence: FloatArray
) -> FloatArray:
    """Variance of the incidence at each distinct time: the sum of squared influences.

    The influence at t of a patient whose time has passed is a + F(t) b, with a and b fixed by its
    time and kind of end; so the squares need only running sums. All patients still at risk have
    one influence.
    """
    y = table.at_risk.astype(np.float64)
    left = y - table.events
    # Once no patient is at risk, incidence no longer moves and the second term vanishes.
    drain = np.divide(1.0, left, out=np.zeros_like(y), where=left > 0)
    hazard = table.events / y
    gain = np.cumsum(before * mine / y**2)
    loss = np.cumsum(hazard * drain)
    moved = np.cumsum(incidence * hazard * drain)
    ends = (
        (mine, before / y + incidence * drain, -drain),
        (table.events - mine, incidence * drain, -drain),
        (table.censored, np.zeros_like(y), np.zeros_like(y)),
    )
    squares, cross, slopes = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
    for count, jump, turn in ends:
        a, b = jump - gain - moved, loss + turn
        squares += count * a**2
        cross += count * a * b
        slopes += count * b**2
    gone = np.cumsum(squares) + 2 * incidence * np.cumsum(cross) + incidence**2 * np.cumsum(slopes)
    still = y - table.events - table.censored
    staying = still * (incidence * loss - gain - moved) ** 2
    variance: FloatArray = np.maximum(gone + staying, 0.0)
    return variance


def _limits(
    incidence: FloatArray, error: FloatArray, quantile: float
) -> tuple[FloatArray, FloatArray]:
    low, high = incidence.copy(), incidence.copy()
    inner = (incidence > 0) & (incidence < 1)
    f, se = incidence[inner], error[inner]
    half = quantile * se / (f * np.abs(np.log(f)))
    low[inner], high[inner] = f ** np.exp(half), f ** np.exp(-half)
    return low, high


def _read(curve: CumulativeIncidence, at: float) -> Estimate:
    if at < 0:
        raise StatisticsError(f"times: {at:g}; give times from 0 on")
    at = horizon_among(at, np.append(curve.times, curve.last_time))
    step = int(np.searchsorted(curve.times, at, side="right")) - 1
    values = [0.0, 0.0, 0.0, 0.0]
    warnings: list[str] = []
    if step >= 0:
        columns = (curve.incidence, curve.ci_low, curve.ci_high, curve.std_error)
        values = [float(column[step]) for column in columns]
    if at > curve.last_time:
        values = [math.nan] * 4
        warnings.append(f"time {at:g} lies beyond the longest follow-up, {curve.last_time:g}")
    elif values[0] == 0:
        warnings.append(f"no event of cause {curve.cause} up to {at:g}: no interval")
    return Estimate(
        estimate=values[0],
        ci_low=values[1],
        ci_high=values[2],
        std_error=values[3],
        n=curve.n,
        level=curve.level,
        method=f"incidence of cause {curve.cause} at {at:g}: {curve.method}",
        warnings=tuple(warnings),
    )
