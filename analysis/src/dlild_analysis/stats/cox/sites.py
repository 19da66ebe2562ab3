"""Cox regression of patients from several sites: a baseline for each, or errors by cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import as_design, as_survival, check_lengths, check_regressors
from dlild_analysis.stats.cox.regression import HazardTerm
from dlild_analysis.stats.cox.standardised import fit_standardised
from dlild_analysis.stats.errors import StatisticsError


def fit_stratified_cox(
    design: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    strata: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> tuple[HazardTerm, ...]:
    """Fit a Cox model with a baseline hazard of its own for each stratum, such as a site.

    Parameters
    ----------
    design, time, event
        Shapes (n, p), (n,), (n,).
    strata
        Shape (n,): any labels.
    names
        Of the columns; taken from a DataFrame when left out.
    level
        Coverage of the (Wald) intervals.

    Returns
    -------
    tuple of HazardTerm
        As R's ``coxph(Surv(time, event) ~ x + strata(s))``, fitted by lifelines, ties by Efron.

    Raises
    ------
    StatisticsError
        One stratum only, no events, constant or collinear columns, an infinite coefficient.
    """
    return _fit(design, time, event, strata, names, level=level, clusters=False)


def fit_clustered_cox(
    design: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    cluster: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> tuple[HazardTerm, ...]:
    """Fit a Cox model whose standard errors allow for patients of a cluster being alike.

    Parameters
    ----------
    design, time, event, names, level
        As :func:`fit_stratified_cox`.
    cluster
        Shape (n,): any labels. With fewer than some 20 clusters the errors are too small.

    Returns
    -------
    tuple of HazardTerm
        As R's ``coxph(Surv(time, event) ~ x, cluster = s)``.

    Raises
    ------
    StatisticsError
        As :func:`fit_stratified_cox`.

    References
    ----------
    .. [1] Lin DY, Wei LJ. The robust inference for the Cox proportional hazards model. J Am Stat
       Assoc 1989;84:1074-1078.
    """
    return _fit(design, time, event, cluster, names, level=level, clusters=True)


def _fit(
    design: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    label: ArrayLike,
    names: Sequence[str] | None,
    *,
    level: float,
    clusters: bool,
) -> tuple[HazardTerm, ...]:
    x, columns = as_design(design, names)
    times, events = as_survival(time, event)
    groups, member = np.unique(np.asarray(label).astype(str), return_inverse=True)
    check_lengths(design=x, time=times, label=member)
    check_regressors(x, columns)
    if groups.size < 2:
        raise StatisticsError(f"site: only {groups.tolist()}; two are needed")
    if not events.any():
        raise StatisticsError("event: 0 events; Cox regression needs at least one")
    options = {"cluster_col": "site", "robust": True} if clusters else {"strata": ["site"]}

    def fit(frame: pd.DataFrame) -> CoxPHFitter:
        rows = frame.assign(time=times, event=events.astype(int), site=member)
        return CoxPHFitter(alpha=1 - level).fit(rows, "time", "event", **options)

    _, terms = fit_standardised(
        x,
        columns,
        fit,
        n=times.size,
        level=level,
        kind="hazard ratio, errors by cluster" if clusters else "hazard ratio, stratified",
    )
    return terms
