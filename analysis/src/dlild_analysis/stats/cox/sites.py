"""Cox regression of patients from several sites: a baseline for each, or errors by cluster."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import as_design, as_survival, check_lengths, check_regressors
from dlild_analysis.stats.cox.regression import HazardTerm, make_hazard_term
from dlild_analysis.stats.errors import StatisticsError

LARGEST_ERROR = 100.0  # per standard deviation; beyond it the likelihood has no maximum


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
    sd = x.std(axis=0, ddof=1)
    keys = [f"x{index}" for index in range(x.shape[1])]
    frame = pd.DataFrame(x / sd, columns=keys)
    frame = frame.assign(time=times, event=events.astype(int), site=member)
    options = {"cluster_col": "site", "robust": True} if clusters else {"strata": ["site"]}
    with python_warnings.catch_warnings(), np.errstate(all="ignore"):
        python_warnings.simplefilter("ignore")
        try:
            fit = CoxPHFitter(alpha=1 - level).fit(frame, "time", "event", **options)
        except (ConvergenceError, ValueError, np.linalg.LinAlgError) as error:
            raise StatisticsError(
                f"the model did not converge ({' '.join(str(error).split())[:120]})"
            ) from None
    beta, spread = fit.params_.loc[keys].to_numpy(), fit.standard_errors_.loc[keys].to_numpy()
    if not np.isfinite(spread).all() or spread.max() > LARGEST_ERROR:
        raise StatisticsError("a coefficient is infinite: a covariate ranks all events first")
    return tuple(
        make_hazard_term(
            name,
            float(beta[k] / sd[k]),
            float(spread[k] / sd[k]),
            float(sd[k]),
            p_value=float(2 * stats.norm.sf(abs(beta[k] / spread[k]))),
            n=times.size,
            level=level,
            kind="hazard ratio, errors by cluster" if clusters else "hazard ratio, stratified",
        )
        for k, name in enumerate(columns)
    )
