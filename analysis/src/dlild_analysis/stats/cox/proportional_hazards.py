"""The test of proportional hazards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_design,
    as_survival,
    check_lengths,
    check_regressors,
)
from dlild_analysis.stats.cox.partial_likelihood import maximise, sum_of_variances
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import HypothesisTest, Result
from dlild_analysis.stats.survival.risk_table import product_limit, risk_table

Transform = Literal["km", "identity", "rank", "log"]


@dataclass(frozen=True, kw_only=True)
class ProportionalHazards(Result):
    """Score tests of proportional hazards; a small p speaks against it.

    Attributes
    ----------
    terms
        One-degree test by covariate.
    overall
        All covariates together.
    transform
        Of time, as in R's ``cox.zph``.
    """

    terms: dict[str, HypothesisTest]
    overall: HypothesisTest
    transform: str
    warnings: tuple[str, ...] = ()


def proportional_hazards_test(
    design: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    transform: Transform = "km",
) -> ProportionalHazards:
    """Score test of time-varying coefficients, as ``cox.zph`` of R's survival 3.

    Parameters
    ----------
    design, time, event, names
        As :func:`fit_cox`.
    transform
        Of time: "km" (1 - Kaplan-Meier), "identity", "rank" or "log".

    Returns
    -------
    ProportionalHazards
        One test for each covariate and one for all.

    Raises
    ------
    StatisticsError
        As :func:`fit_cox`, or a likelihood without a maximum.

    References
    ----------
    .. [1] Grambsch PM, Therneau TM. Proportional hazards tests and diagnostics based on weighted
       residuals. Biometrika 1994;81:515-526.
    """
    if transform not in ("km", "identity", "rank", "log"):
        raise StatisticsError(f"transform: {transform!r}; use 'km', 'identity', 'rank' or 'log'")
    x, columns = as_design(design, names)
    times, events = as_survival(time, event)
    check_lengths(design=x, time=times)
    check_regressors(x, columns)
    partial = maximise(x, times, events)
    if partial.infinite.any():
        raise StatisticsError(
            "design: a hazard ratio is infinite; proportional hazards cannot be tested"
        )
    sets, moments = partial.sets, partial.moments
    clock = _transformed(transform, times, events, sets.event_times)[sets.tie]
    method = f"score test of proportional hazards, time on the {transform} scale"
    if np.ptp(clock) == 0:
        return _nothing_to_test(columns, transform, times.size, method)
    clock = (clock - clock.mean()) / clock.std()
    score = clock @ (sets.x[sets.dead] - moments.mean)
    cross = sum_of_variances(sets, moments, clock)
    square = sum_of_variances(sets, moments, clock**2)
    # Information on the drift once the constant coefficients are allowed for.
    left = square - cross @ np.linalg.pinv(moments.information, hermitian=True) @ cross
    terms = {
        name: _chi2(float(score[k] ** 2 / left[k, k]), 1, times.size, method)
        for k, name in enumerate(columns)
    }
    overall = float(score @ np.linalg.pinv(left, hermitian=True) @ score)
    return ProportionalHazards(
        terms=terms,
        overall=_chi2(overall, len(columns), times.size, method),
        transform=transform,
    )


def _transformed(
    transform: str, times: FloatArray, events: BoolArray, event_times: FloatArray
) -> FloatArray:
    """Return the scale on which coefficients may drift, at each event time."""
    if transform == "log":
        if event_times[0] <= 0:
            raise StatisticsError("time: an event at time 0 has no logarithm; use another scale")
        logarithms: FloatArray = np.log(event_times)
        return logarithms
    if transform == "rank":
        ordered = np.sort(times)
        first = np.searchsorted(ordered, event_times, side="left")
        last = np.searchsorted(ordered, event_times, side="right")
        return (first + last + 1) / 2.0
    if transform == "km":
        table = risk_table(times, events)
        before = np.concatenate([[1.0], product_limit(table)])
        return 1 - before[np.searchsorted(table.times, event_times)]
    return event_times


def _chi2(statistic: float, df: int, n: int, method: str) -> HypothesisTest:
    if not math.isfinite(statistic):
        return HypothesisTest(
            statistic=math.nan,
            df=df,
            p_value=math.nan,
            n=n,
            method=method,
            warnings=(
                "too few events to distinguish a drift from a constant: no test is possible",
            ),
        )
    return HypothesisTest(
        statistic=statistic, df=df, p_value=float(stats.chi2.sf(statistic, df)), n=n, method=method
    )


def _nothing_to_test(
    columns: tuple[str, ...], transform: str, n: int, method: str
) -> ProportionalHazards:
    none = HypothesisTest(
        statistic=0.0,
        df=1,
        p_value=1.0,
        n=n,
        method=method,
        warnings=("all events happen at one time: nothing can drift; p is 1 by convention",),
    )
    return ProportionalHazards(
        terms=dict.fromkeys(columns, none),
        overall=none,
        transform=transform,
        warnings=none.warnings,
    )
