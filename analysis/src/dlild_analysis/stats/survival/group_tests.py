"""Weighted and stratified log-rank tests.

``time`` is follow-up since the origin, ``event`` 1 for the event and 0 for censoring. lifelines has
the weights but no strata; the tests hold this against R's ``survdiff`` and against lifelines.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    as_survival,
    check_lengths,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import HypothesisTest
from dlild_analysis.stats.survival.curves import LogRank
from dlild_analysis.stats.survival.risk_table import RiskTable, product_limit, risk_table

LogRankWeight = Literal["log-rank", "gehan", "tarone-ware", "fleming-harrington"]
_WEIGHTS = ("log-rank", "gehan", "tarone-ware", "fleming-harrington")


def weighted_log_rank(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    weight: LogRankWeight = "log-rank",
    rho: float = 0.0,
    gamma: float = 0.0,
) -> LogRank:
    """Compare the survival of groups by a log-rank test with weights, within strata.

    Parameters
    ----------
    time, event
        Shape (n,).
    group
        Shape (n,): any labels.
    strata
        Shape (n,): any labels, such as the centre; patients are compared within a stratum only.
    weight
        Of an event at time t: "log-rank" 1, "gehan" the number at risk, "tarone-ware" its root,
        "fleming-harrington" ``S(t-)**rho * (1 - S(t-))**gamma`` with S the Kaplan-Meier estimate of
        the stratum. With ``rho=1, gamma=0`` the last is Peto and Peto's test, R's
        ``survdiff(rho=1)``.
    rho, gamma
        Not negative; of "fleming-harrington" only.

    Returns
    -------
    LogRank
        Observed and expected events are not weighted; the test is chi-squared on groups - 1 degrees
        of freedom.

    Raises
    ------
    StatisticsError
        Fewer than two groups, no events, an unknown weight, negative exponents.

    References
    ----------
    .. [1] Fleming TR, Harrington DP. Counting Processes and Survival Analysis. Wiley 1991,
       chapter 7.
    .. [2] Gehan EA. A generalized Wilcoxon test for comparing arbitrarily singly-censored samples.
       Biometrika 1965;52:203-223.
    .. [3] Tarone RE, Ware J. On distribution-free tests for equality of survival distributions.
       Biometrika 1977;64:156-160.
    """
    if weight not in _WEIGHTS:
        raise StatisticsError(f"weight: {weight!r}; use one of {', '.join(_WEIGHTS)}")
    if rho < 0 or gamma < 0:
        raise StatisticsError(f"rho, gamma: {rho:g}, {gamma:g}; they are 0 or more")
    times, events = as_survival(time, event)
    labels = np.asarray(group).astype(str)
    layer = np.zeros(times.size) if strata is None else np.asarray(strata).astype(str)
    check_lengths(time=times, group=labels, strata=layer)
    groups, member = np.unique(labels, return_inverse=True)
    if groups.size < 2:
        raise StatisticsError(f"group: only {groups.tolist()}; the log-rank test needs two groups")
    if not events.any():
        raise StatisticsError("event: 0 events; the log-rank test needs at least one")
    observed, expected = np.zeros(groups.size), np.zeros(groups.size)
    excess, variance = np.zeros(groups.size), np.zeros((groups.size, groups.size))
    layers = np.unique(layer)
    for name in layers:
        inside = layer == name
        part = _stratum(
            times[inside], events[inside], member[inside], groups.size, (weight, rho, gamma)
        )
        observed += part[0]
        expected += part[1]
        excess += part[2]
        variance += part[3]
    return _result(
        tuple(str(name) for name in groups),
        np.bincount(member),
        (observed, expected, excess, variance),
        _words(weight, rho, gamma, 0 if strata is None else layers.size),
    )


def _stratum(
    times: FloatArray,
    events: BoolArray,
    member: IntArray,
    groups: int,
    weight: tuple[LogRankWeight, float, float],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Sum observed, expected, weighted excess and its hypergeometric variance over the times."""
    table = risk_table(times, events)
    shape = (table.times.size, groups)
    died, reach = np.zeros(shape), np.zeros(shape)
    np.add.at(died, (table.row, member), events)
    np.add.at(reach, (table.row, member), 1.0)
    at_risk = np.cumsum(reach[::-1], axis=0)[::-1]
    share = at_risk / table.at_risk[:, None]
    expected = share * table.events[:, None]
    w = _weights(table, *weight)
    # Of d events among n at risk; a single patient at risk has no variance.
    n, d = table.at_risk.astype(np.float64), table.events.astype(np.float64)
    spread = np.where(n > 1, w**2 * d * (n - d) / np.maximum(n - 1, 1), 0.0)
    variance = np.diag(spread @ share) - np.einsum("t,tg,th->gh", spread, share, share)
    return died.sum(axis=0), expected.sum(axis=0), w @ (died - expected), variance


def _weights(table: RiskTable, weight: LogRankWeight, rho: float, gamma: float) -> FloatArray:
    if weight == "gehan":
        return table.at_risk.astype(np.float64)
    if weight == "tarone-ware":
        return np.asarray(np.sqrt(table.at_risk), dtype=np.float64)
    if weight == "fleming-harrington":
        before = np.concatenate([[1.0], product_limit(table)[:-1]])
        return np.asarray(before**rho * (1 - before) ** gamma, dtype=np.float64)
    return np.ones(table.times.size)


def _words(weight: LogRankWeight, rho: float, gamma: float, strata: int) -> str:
    names = {
        "log-rank": "log-rank test",
        "gehan": "Gehan's test",
        "tarone-ware": "Tarone-Ware test",
    }
    words = names.get(weight, f"Fleming-Harrington test (rho {rho:g}, gamma {gamma:g})")
    return f"{words}, chi-squared" + (f", stratified by {strata} strata" if strata else "")


def _result(
    groups: tuple[str, ...],
    sizes: IntArray,
    sums: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    method: str,
) -> LogRank:
    observed, expected, excess, variance = sums
    statistic = p_value = math.nan
    warnings: tuple[str, ...] = ()
    inner = variance[:-1, :-1]
    # A group that is never at risk together with another has neither excess nor variance.
    if np.linalg.matrix_rank(inner) == len(groups) - 1:
        statistic = float(excess[:-1] @ np.linalg.solve(inner, excess[:-1]))
        p_value = float(stats.chi2.sf(statistic, len(groups) - 1))
    else:
        warnings = ("the variance of the log-rank statistic is zero: no test is possible",)
    return LogRank(
        groups=groups,
        sizes=tuple(int(count) for count in sizes),
        observed=tuple(int(count) for count in observed),
        expected=tuple(float(count) for count in expected),
        test=HypothesisTest(
            statistic=statistic,
            df=len(groups) - 1,
            p_value=p_value,
            n=int(sizes.sum()),
            method=method,
            warnings=warnings,
        ),
        warnings=warnings,
    )
