"""The log-rank test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from lifelines.statistics import multivariate_logrank_test
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    as_survival,
    check_lengths,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import HypothesisTest, Result
from dlild_analysis.stats.risktable import risk_table


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
