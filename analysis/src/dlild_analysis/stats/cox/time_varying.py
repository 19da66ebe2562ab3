"""Cox regression with covariates that change during follow-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxTimeVaryingFitter
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    as_binary,
    as_design,
    as_vector,
    check_lengths,
    check_regressors,
)
from dlild_analysis.stats.cox.regression import HazardTerm
from dlild_analysis.stats.cox.standardised import fit_standardised
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Result


@dataclass(frozen=True, kw_only=True)
class TimeVaryingCox(Result):
    """A fitted Cox model with time-varying covariates.

    Attributes
    ----------
    terms
        One for each covariate, in the order given; SD over the rows.
    n, events, rows
        Patients, events and intervals.
    log_likelihood
        Partial.
    """

    terms: tuple[HazardTerm, ...]
    n: int
    events: int
    rows: int
    log_likelihood: float
    method: str
    warnings: tuple[str, ...] = ()


def fit_time_varying_cox(
    design: ArrayLike,
    patient: ArrayLike,
    start: ArrayLike,
    stop: ArrayLike,
    event: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> TimeVaryingCox:
    """Fit a Cox model on intervals in each of which the covariates keep their value.

    Parameters
    ----------
    design
        Shape (m, p): one row an interval (start, stop]; the values are those known at its start.
    patient
        Shape (m,): whose interval it is; the intervals of a patient do not overlap.
    start, stop
        Shape (m,), in one unit; start below stop.
    event
        Shape (m,): 1 where the interval ends with the event, at most once a patient.
    names
        Of the columns; taken from a DataFrame when left out.
    level
        Coverage of the (Wald) intervals.

    Returns
    -------
    TimeVaryingCox
        Fitted by lifelines, ties by Efron, as R's ``coxph(Surv(start, stop, event) ~ x)``.

    Raises
    ------
    StatisticsError
        Intervals that are empty or overlap, two events of a patient, no events, constant or
        collinear columns, or a likelihood without a maximum.

    References
    ----------
    .. [1] Andersen PK, Gill RD. Cox's regression model for counting processes: a large sample
       study. Ann Stat 1982;10:1100-1120.
    .. [2] Therneau TM, Grambsch PM. Modeling Survival Data: Extending the Cox Model. Springer
       2000, chapter 3.
    """
    x, columns = as_design(design, names)
    begin, end = as_vector(start, "start"), as_vector(stop, "stop")
    happened, owner = as_binary(event, "event", both=False), np.asarray(patient)
    check_lengths(design=x, patient=owner, start=begin, stop=end, event=happened)
    _check_intervals(owner, begin, end, happened)
    check_regressors(x, columns)

    def fit(frame: pd.DataFrame) -> CoxTimeVaryingFitter:
        rows = frame.assign(id=owner, start=begin, stop=end, event=happened.astype(int))
        return CoxTimeVaryingFitter(alpha=1 - level).fit(
            rows, id_col="id", event_col="event", start_col="start", stop_col="stop"
        )

    patients = np.unique(owner).size
    fitted, terms = fit_standardised(x, columns, fit, n=patients, level=level)
    return TimeVaryingCox(
        terms=terms,
        n=patients,
        events=int(happened.sum()),
        rows=begin.size,
        log_likelihood=float(fitted.log_likelihood_),
        method="Cox regression with time-varying covariates, ties by Efron",
    )


def _check_intervals(
    owner: np.ndarray, begin: np.ndarray, end: np.ndarray, happened: np.ndarray
) -> None:
    if (begin >= end).any():
        first = int(np.argmax(begin >= end))
        raise StatisticsError(
            f"start: {begin[first]:g} is not below stop, {end[first]:g}, at position {first}"
        )
    if not happened.any():
        raise StatisticsError("event: 0 events; Cox regression needs at least one")
    member = np.unique(owner, return_inverse=True)[1]
    order = np.lexsort((begin, member))
    same = np.diff(member[order]) == 0
    if (same & (begin[order][1:] < end[order][:-1])).any():
        raise StatisticsError("start: two intervals of a patient overlap")
    if np.bincount(member, weights=happened).max() > 1:
        raise StatisticsError("event: a patient has two events")
    if (same & happened[order][:-1]).any():
        raise StatisticsError("event: a patient has an interval after the event")
