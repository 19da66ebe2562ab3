"""Restricted mean survival time: what to report where hazards cross."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    as_binary,
    as_survival,
    check_lengths,
    horizon_among,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.intervals import normal_difference
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.survival.risk_table import product_limit, risk_table


@dataclass(frozen=True, kw_only=True)
class RmstComparison(Result):
    """Restricted mean survival times of two groups.

    Attributes
    ----------
    reference, other
        Group 0 and group 1, in the unit of time.
    difference
        ``other - reference`` with interval and p-value.
    horizon
        Up to which time the mean is restricted.
    """

    reference: Estimate
    other: Estimate
    difference: Estimate
    horizon: float
    warnings: tuple[str, ...] = ()


def rmst(time: ArrayLike, event: ArrayLike, horizon: float, *, level: float = 0.95) -> Estimate:
    """Mean event-free time up to a horizon: the area under Kaplan-Meier.

    Parameters
    ----------
    time, event
        Shape (n,).
    horizon
        In the unit of time; not beyond the longest follow-up unless survival reached zero.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        Time without the event, in the unit of ``time``.

    Raises
    ------
    StatisticsError
        A horizon that is not positive or lies beyond follow-up.

    References
    ----------
    .. [1] Royston P, Parmar MKB. Restricted mean survival time. BMC Med Res Methodol 2013;13:152.
    .. [2] Klein JP, Moeschberger ML. Survival Analysis. 2nd ed. Springer 2003, section 4.5.
    """
    times, events = as_survival(time, event)
    if not (math.isfinite(horizon) and horizon > 0):
        raise StatisticsError(f"horizon: {horizon}; give a positive time")
    horizon = horizon_among(horizon, times)
    table = risk_table(times, events)
    survival = product_limit(table)
    if horizon > table.times[-1] and survival[-1] > 0:
        raise StatisticsError(
            f"horizon: {horizon:g} lies beyond the longest follow-up, {table.times[-1]:g}; choose"
            " an earlier one"
        )
    inside = table.times < horizon
    edges = np.concatenate([[0.0], table.times[inside], [horizon]])
    steps = np.concatenate([[1.0], survival[inside]])
    areas = steps * np.diff(edges)
    mean = float(areas.sum())
    # Area that lies beyond each time: what an event there costs.
    beyond = np.cumsum(areas[::-1])[::-1][1:]
    d, y = table.events[inside], table.at_risk[inside]
    left = np.maximum(y - d, 1)
    variance = float(np.sum(np.where(y > d, beyond**2 * d / (y * left), 0.0)))
    error = math.sqrt(variance)
    half = normal_quantile(level) * error
    return Estimate(
        estimate=mean,
        ci_low=max(0.0, mean - half),
        ci_high=min(horizon, mean + half),
        std_error=error,
        n=times.size,
        level=level,
        method=f"restricted mean survival time to {horizon:g}, Greenwood variance",
        warnings=("no event before the horizon: the interval has no width",) if error == 0 else (),
    )


def rmst_difference(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, horizon: float, *, level: float = 0.95
) -> RmstComparison:
    """Compare restricted mean survival times of two groups.

    Parameters
    ----------
    time, event
        Shape (n,).
    group
        Shape (n,), 0 (reference) or 1.
    horizon
        In the unit of time.
    level
        Coverage of the intervals.

    Returns
    -------
    RmstComparison
        Both means and group 1 minus group 0.

    Raises
    ------
    StatisticsError
        As :func:`rmst`, or one group only.
    """
    times, events = as_survival(time, event)
    member = as_binary(group, "group")
    check_lengths(time=times, group=member)
    reference = rmst(times[~member], events[~member], horizon, level=level)
    other = rmst(times[member], events[member], horizon, level=level)
    difference = normal_difference(
        other.estimate - reference.estimate,
        (reference.std_error or 0.0) ** 2 + (other.std_error or 0.0) ** 2,
        n=times.size,
        level=level,
        method=f"difference of restricted mean survival times to {horizon:g}, normal test",
        warnings=tuple(dict.fromkeys(reference.warnings + other.warnings)),
    )
    return RmstComparison(
        reference=reference,
        other=other,
        difference=difference,
        horizon=horizon,
        warnings=difference.warnings,
    )
