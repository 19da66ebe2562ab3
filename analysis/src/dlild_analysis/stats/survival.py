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
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    FloatArray,
    IntArray,
    as_survival,
    as_vector,
    horizon_among,
    merge_tied_times,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logrank import LogRank, log_rank
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.risktable import product_limit, risk_table
from dlild_analysis.stats.survival_limits import greenwood, pointwise_limits, time_at_half

ConfType = Literal["log-log", "log", "plain"]

__all__ = [
    "ConfType",
    "KaplanMeier",
    "LogRank",
    "kaplan_meier",
    "log_rank",
    "numbers_at_risk",
    "survival_at",
]


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
