"""Kaplan-Meier and numbers at risk.

``time`` is follow-up since the origin, any unit, not negative; ``event`` is 1 for the event and 0
for censoring. At equal times, events come before censorings.

lifelines keeps one scale of interval and no standard error, so the estimator, one cumulative
product, is written here; the tests hold it against R and lifelines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from lifelines.statistics import multivariate_logrank_test
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    FloatArray,
    IntArray,
    as_survival,
    as_vector,
    check_lengths,
    horizon_among,
    merge_tied_times,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, HypothesisTest, Result
from dlild_analysis.stats.survival.risk_table import RiskTable, product_limit, risk_table

ConfType = Literal["log-log", "log", "plain"]


@dataclass(frozen=True, kw_only=True, eq=False)
class KaplanMeier(Result):
    """A survival curve as steps.

    Attributes
    ----------
    times
        Shape (k,), rising: every distinct follow-up time.
    at_risk, events, censored
        Shape (k,): at risk just before, events at, censored at each time.
    survival
        Shape (k,): probability of no event up to and including each time.
    std_error
        Shape (k,): Greenwood's, on the survival scale.
    ci_low, ci_high
        Shape (k,): pointwise limits.
    median
        First time at which survival is at or below one half; NaN with a warning if never.
    last_time
        Longest follow-up.
    """

    times: FloatArray
    at_risk: IntArray
    events: IntArray
    censored: IntArray
    survival: FloatArray
    std_error: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    median: Estimate
    last_time: float
    n: int
    n_events: int
    level: float
    conf_type: str
    method: str
    warnings: tuple[str, ...] = ()


def kaplan_meier(
    time: ArrayLike, event: ArrayLike, *, conf_type: ConfType = "log-log", level: float = 0.95
) -> KaplanMeier:
    """Kaplan-Meier estimate with Greenwood's variance.

    Parameters
    ----------
    time, event
        Shape (n,).
    conf_type
        Scale of the interval: "log-log" (R's ``conf.type="log-log"``), "log" (R's default),
        "plain".
    level
        Coverage of the intervals.

    Returns
    -------
    KaplanMeier
        The curve; no events at all gives a flat curve and a warning.

    Raises
    ------
    StatisticsError
        Negative or missing times, events other than 0/1, an unknown ``conf_type``.

    References
    ----------
    .. [1] Kalbfleisch JD, Prentice RL. The Statistical Analysis of Failure Time Data. 2nd ed.
       Wiley 2002, section 1.4.
    """
    if conf_type not in ("log-log", "log", "plain"):
        raise StatisticsError(f"conf_type: {conf_type!r}; use 'log-log', 'log' or 'plain'")
    times, events = as_survival(time, event)
    table = risk_table(times, events)
    survival = product_limit(table)
    error = np.full_like(survival, np.nan)
    alive = survival > 0
    error[alive] = survival[alive] * np.sqrt(greenwood(table)[alive])
    low, high = pointwise_limits(survival, error, conf_type, normal_quantile(level))
    steps = {"times": table.times, "survival": survival, "low": low, "high": high}
    warnings: tuple[str, ...] = ()
    if not events.any():
        warnings = ("no events: survival is 1 throughout and has no interval",)
    elif not alive.all():
        warnings = ("survival reaches zero: there it has no interval",)
    method = f"Kaplan-Meier, Greenwood variance, {conf_type} interval"
    return KaplanMeier(
        times=table.times,
        at_risk=table.at_risk,
        events=table.events,
        censored=table.censored,
        survival=survival,
        std_error=error,
        ci_low=low,
        ci_high=high,
        median=_median(steps, times.size, level),
        last_time=float(table.times[-1]),
        n=times.size,
        n_events=int(events.sum()),
        level=level,
        conf_type=conf_type,
        method=method,
        warnings=warnings,
    )


def survival_at(curve: KaplanMeier, times: Sequence[float]) -> tuple[Estimate, ...]:
    """Read survival with its interval off a curve.

    Parameters
    ----------
    curve
        From :func:`kaplan_meier`.
    times
        Times in the unit of the curve.

    Returns
    -------
    tuple of Estimate
        One for each time; ``n`` is the number still at risk. Beyond the longest follow-up the
        estimate is NaN with a warning, unless survival had already reached zero.

    Raises
    ------
    StatisticsError
        A negative time.
    """
    return tuple(_read(curve, float(at)) for at in as_vector(times, "times"))


def risk_influence(time: ArrayLike, event: ArrayLike, horizon: float) -> FloatArray:
    """Give the influence of each patient on the Kaplan-Meier risk by a horizon.

    Parameters
    ----------
    time, event
        Shape (n,).
    horizon
        In the unit of time.

    Returns
    -------
    ndarray
        Shape (n,); its mean is zero, and its standard deviation over the root of n is Greenwood's
        standard error of the risk. It is the derivative of the product-limit estimate
        by the weight of each patient, as ``influence`` of ``survfit`` in R's ``survival``.

    Raises
    ------
    StatisticsError
        As :func:`kaplan_meier`.
    """
    times, events = as_survival(time, event)
    table = risk_table(times, events)
    by = table.times <= horizon_among(horizon, table.times)
    survival = product_limit(table)[by]
    left = float(survival[-1]) if survival.size else 1.0
    if left == 0:
        return np.zeros(times.size)
    share = table.at_risk / times.size
    hazard = np.where(by, table.events / table.at_risk, 0.0)
    step = 1 / (share * (1 - hazard))
    lived = np.cumsum(hazard * step)[table.row]
    jump = np.where(events & by[table.row], step[table.row], 0.0)
    influence: FloatArray = left * (jump - lived)
    return influence


def numbers_at_risk(time: ArrayLike, times: Sequence[float]) -> tuple[int, ...]:
    """Count patients whose follow-up reaches each time (time >= t).

    Parameters
    ----------
    time
        Shape (n,).
    times
        Where to count.

    Returns
    -------
    tuple of int
        Counts.

    Raises
    ------
    StatisticsError
        Times that are not finite.
    """
    ordered = np.sort(merge_tied_times(as_vector(time, "time")))
    asked = np.array([horizon_among(float(at), ordered) for at in as_vector(times, "times")])
    left = ordered.size - np.searchsorted(ordered, asked, side="left")
    return tuple(int(count) for count in left)


def _median(curve: dict[str, FloatArray], n: int, level: float) -> Estimate:
    estimate = time_at_half(curve["times"], curve["survival"])
    limits = [time_at_half(curve["times"], curve[name]) for name in ("low", "high")]
    warnings = []
    if math.isnan(estimate):
        warnings.append("survival stays above one half: the median was not reached")
    elif any(math.isnan(limit) for limit in limits):
        warnings.append("a confidence limit of the median was not reached")
    return Estimate(
        estimate=estimate,
        ci_low=limits[0],
        ci_high=limits[1],
        n=n,
        level=level,
        method="median of Kaplan-Meier, interval by inversion",
        warnings=tuple(warnings),
    )


def _read(curve: KaplanMeier, at: float) -> Estimate:
    if at < 0:
        raise StatisticsError(f"times: {at:g}; give times from 0 on")
    at = horizon_among(at, curve.times)
    step = int(np.searchsorted(curve.times, at, side="right")) - 1
    reached = int(np.searchsorted(curve.times, at, side="left"))
    still = int(curve.at_risk[reached]) if reached < curve.times.size else 0
    values = (1.0, 1.0, 1.0, 0.0)
    if step >= 0:
        columns = (curve.survival, curve.ci_low, curve.ci_high, curve.std_error)
        values = tuple(float(column[step]) for column in columns)  # type: ignore[assignment]
    warnings: list[str] = []
    if at > curve.last_time and values[0] > 0:
        values = (math.nan, math.nan, math.nan, math.nan)
        warnings.append(f"time {at:g} lies beyond the longest follow-up, {curve.last_time:g}")
    elif values[0] == 0:
        warnings.append(f"survival at {at:g} is zero: there is no interval")
    elif values[0] == 1:
        warnings.append(f"no event up to {at:g}: the interval has no width")
    return Estimate(
        estimate=values[0],
        ci_low=values[1],
        ci_high=values[2],
        std_error=values[3],
        n=still,
        level=curve.level,
        method=f"survival at {at:g}: {curve.method}",
        warnings=tuple(warnings),
    )


def greenwood(table: RiskTable) -> FloatArray:
    """Variance of log survival; infinite once survival is zero."""
    left = table.at_risk - table.events
    with np.errstate(divide="ignore"):
        steps = np.where(table.events > 0, table.events / (table.at_risk * left), 0.0)
    return np.cumsum(steps)


def pointwise_limits(
    survival: FloatArray, error: FloatArray, conf_type: str, quantile: float
) -> tuple[FloatArray, FloatArray]:
    """Pointwise limits; (1, 1) before the first event and NaN once survival is zero, as in R."""
    low, high = np.ones_like(survival), np.ones_like(survival)
    inner = (survival > 0) & (survival < 1)
    s, se = survival[inner], error[inner]
    if conf_type == "log-log":
        half = quantile * se / (s * np.abs(np.log(s)))
        low[inner], high[inner] = s ** np.exp(half), s ** np.exp(-half)
    elif conf_type == "log":
        half = quantile * se / s
        low[inner], high[inner] = s * np.exp(-half), np.minimum(1.0, s * np.exp(half))
    else:
        low[inner] = np.maximum(0.0, s - quantile * se)
        high[inner] = np.minimum(1.0, s + quantile * se)
    low[survival == 0], high[survival == 0] = np.nan, np.nan
    return low, high


def time_at_half(times: FloatArray, values: FloatArray) -> float:
    """First time at or below one half; midway to the next drop where it equals one half."""
    below = np.flatnonzero(np.nan_to_num(values, nan=1.0) <= 0.5 + 1e-12)
    if below.size == 0:
        return math.nan
    first = below[0]
    if abs(values[first] - 0.5) < 1e-12:
        lower = np.flatnonzero(values < 0.5 - 1e-12)
        last = lower[0] if lower.size else values.size - 1
        return float(times[first] + times[last]) / 2
    return float(times[first])


@dataclass(frozen=True, kw_only=True)
class LogRank(Result):
    """The log-rank test with what it compares.

    Attributes
    ----------
    groups
        Labels as text, in sorted order.
    sizes, observed, expected
        Patients, events and events expected under equal hazards, by group.
    test
        Chi-squared on groups - 1 degrees of freedom.
    """

    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    observed: tuple[int, ...]
    expected: tuple[float, ...]
    test: HypothesisTest
    warnings: tuple[str, ...] = ()


def log_rank(time: ArrayLike, event: ArrayLike, group: ArrayLike) -> LogRank:
    """Log-rank test of two or more groups.

    Parameters
    ----------
    time, event
        Shape (n,).
    group
        Shape (n,): any labels.

    Returns
    -------
    LogRank
        Observed, expected and the test.

    Raises
    ------
    StatisticsError
        Fewer than two groups, or no events.
    """
    times, events = as_survival(time, event)
    labels = np.asarray(group).astype(str)
    check_lengths(time=times, group=labels)
    groups, member = np.unique(labels, return_inverse=True)
    if groups.size < 2:
        raise StatisticsError(f"group: only {groups.tolist()}; the log-rank test needs two groups")
    if not events.any():
        raise StatisticsError("event: 0 events; the log-rank test needs at least one")
    table = risk_table(times, events)
    # Expected events of a group are the summed hazards that its patients lived through.
    lived = np.cumsum(table.events / table.at_risk)[table.row]
    result = multivariate_logrank_test(times, member, events)
    warnings: tuple[str, ...] = ()
    statistic, p_value = float(result.test_statistic), float(result.p_value)
    if not math.isfinite(statistic):
        warnings = ("the variance of the log-rank statistic is zero: no test is possible",)
    return LogRank(
        groups=tuple(str(g) for g in groups),
        sizes=tuple(int(c) for c in np.bincount(member)),
        observed=tuple(int(o) for o in np.bincount(member, weights=events)),
        expected=tuple(float(e) for e in np.bincount(member, weights=lived)),
        test=HypothesisTest(
            statistic=statistic,
            df=groups.size - 1,
            p_value=p_value,
            n=times.size,
            method="log-rank test, chi-squared",
            warnings=warnings,
        ),
        warnings=warnings,
    )
