"""Cox regression, ties by Efron."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_design,
    as_survival,
    check_lengths,
)
from dlild_analysis.stats.concordance import harrell_c
from dlild_analysis.stats.cox_prediction import linear_predictor, predict_cox
from dlild_analysis.stats.cox_results import CoxFit, HazardTerm, make_hazard_term
from dlild_analysis.stats.designs import check_regressors
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.partial_likelihood import PartialFit, maximise
from dlild_analysis.stats.proportional_hazards import ProportionalHazards, proportional_hazards_test
from dlild_analysis.stats.results import HypothesisTest

__all__ = [
    "CoxFit",
    "HazardTerm",
    "ProportionalHazards",
    "cox_coefficients",
    "fit_cox",
    "fit_cox_univariable",
    "linear_predictor",
    "predict_cox",
    "proportional_hazards_test",
]


def fit_cox(
    design: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> CoxFit:
    """Fit a Cox model by maximum partial likelihood, ties by Efron.

    Parameters
    ----------
    design
        Shape (n, p): DataFrame or array.
    time, event
        Shape (n,).
    names
        Of the columns; taken from a DataFrame when left out.
    level
        Coverage of the (Wald) intervals.

    Returns
    -------
    CoxFit
        Where the likelihood has no maximum (a covariate ranks all events first), the coefficient
        is infinite, its interval NaN, and a warning says so; the likelihood-ratio test holds.

    Raises
    ------
    StatisticsError
        No events, a constant or collinear column, values that are not finite.

    References
    ----------
    .. [1] Cox DR. Regression models and life-tables. J R Stat Soc B 1972;34:187-220.
    .. [2] Efron B. The efficiency of Cox's likelihood function for censored data. J Am Stat Assoc
       1977;72:557-565.
    """
    x, columns, times, events = _inputs(design, time, event, names)
    partial = maximise(x, times, events)
    beta, covariance = partial.beta, partial.covariance
    warnings = _reservations(partial, columns, int(events.sum()))
    p_values = _p_values((x, times, events), partial)
    sd = x.std(axis=0, ddof=1)
    n = times.size
    terms = tuple(
        make_hazard_term(
            name,
            float(beta[k]),
            math.sqrt(covariance[k, k]),
            float(sd[k]),
            p_value=p_values[k],
            n=n,
            level=level,
            finite=not partial.infinite[k],
        )
        for k, name in enumerate(columns)
    )
    ratio = 2 * (partial.log_likelihood - partial.log_likelihood_null)
    wald = math.nan if partial.infinite.any() else float(beta @ np.linalg.solve(covariance, beta))
    concordance = harrell_c(times, events, (x - x.mean(axis=0)) @ partial.beta, level=level)
    return CoxFit(
        terms=terms,
        covariance=covariance,
        log_likelihood=partial.log_likelihood,
        log_likelihood_null=partial.log_likelihood_null,
        likelihood_ratio=_chi2_test(ratio, len(columns), n, "likelihood-ratio test"),
        wald=_chi2_test(wald, len(columns), n, "Wald test"),
        score=_chi2_test(partial.score_statistic, len(columns), n, "score (log-rank) test"),
        concordance=concordance,
        **_baseline(partial),
        lower=x.min(axis=0),
        upper=x.max(axis=0),
        last_time=float(times.max()),
        events_per_parameter=float(events.sum() / len(columns)),
        n=n,
        events=int(events.sum()),
        level=level,
        method="Cox proportional hazards, Efron ties, Wald intervals",
        warnings=warnings,
    )


def fit_cox_univariable(
    design: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> tuple[CoxFit, ...]:
    """Fit one Cox model for each column; parameters as :func:`fit_cox`.

    Parameters
    ----------
    design, time, event, names, level
        As :func:`fit_cox`.

    Returns
    -------
    tuple of CoxFit
        One for each column, in order.

    Raises
    ------
    StatisticsError
        As :func:`fit_cox`.
    """
    x, columns = as_design(design, names)
    return tuple(
        fit_cox(x[:, [k]], time, event, [name], level=level) for k, name in enumerate(columns)
    )


def cox_coefficients(design: ArrayLike, time: ArrayLike, event: ArrayLike) -> FloatArray:
    """Log hazard ratios alone: what a bootstrap repeats, several times faster than a whole fit.

    Parameters
    ----------
    design, time, event
        As :func:`fit_cox`.

    Returns
    -------
    ndarray
        Shape (p,), per unit; ``design @ beta`` ranks patients by hazard.

    Raises
    ------
    StatisticsError
        As :func:`fit_cox`, or a coefficient without a finite estimate.
    """
    x, columns, times, events = _inputs(design, time, event, None)
    partial = maximise(x, times, events)
    if partial.infinite.any():
        raise StatisticsError(f"design: no finite hazard ratio exists for one of {columns}")
    return partial.beta


def _inputs(
    design: ArrayLike, time: ArrayLike, event: ArrayLike, names: Sequence[str] | None
) -> tuple[FloatArray, tuple[str, ...], FloatArray, BoolArray]:
    x, columns = as_design(design, names)
    times, events = as_survival(time, event)
    check_lengths(design=x, time=times)
    check_regressors(x, columns)
    return x, columns, times, events


def _reservations(partial: PartialFit, names: Sequence[str], events: int) -> tuple[str, ...]:
    told = [
        f"{name}: the likelihood rises without end (the covariate ranks the events perfectly); the"
        " hazard ratio is infinite or zero and has no interval"
        for name, flag in zip(names, partial.infinite, strict=True)
        if flag
    ]
    if events / len(names) < 10:
        told.append(f"{events / len(names):.1f} events per parameter: fewer than the customary 10")
    return tuple(told)


def _p_values(
    survival: tuple[FloatArray, FloatArray, BoolArray],
    partial: PartialFit,
) -> list[float]:
    x, time, event = survival
    values = []
    for k, infinite in enumerate(partial.infinite):
        if infinite:
            rest = np.delete(x, k, axis=1)
            without = partial.log_likelihood_null
            if rest.shape[1]:
                without = maximise(rest, time, event).log_likelihood
            values.append(float(stats.chi2.sf(2 * (partial.log_likelihood - without), 1)))
        else:
            values.append(
                float(2 * stats.norm.sf(abs(partial.beta[k]) / math.sqrt(partial.covariance[k, k])))
            )
    return values


def _chi2_test(statistic: float, df: int, n: int, method: str) -> HypothesisTest:
    undefined = math.isnan(statistic)
    return HypothesisTest(
        statistic=statistic,
        df=df,
        p_value=math.nan if undefined else float(stats.chi2.sf(max(statistic, 0.0), df)),
        n=n,
        method=method,
        warnings=("a coefficient is infinite: Wald's test does not exist",) if undefined else (),
    )


def _baseline(partial: PartialFit) -> dict[str, FloatArray]:
    """Cumulative hazard at the covariate means, its variance and its gradient."""
    sets, moments = partial.sets, partial.moments
    step = 1 / moments.weight
    parts = np.column_stack([step, step**2, -moments.mean * sets.scale * step[:, None]])
    by_time = np.zeros((sets.event_times.size, parts.shape[1]))
    np.add.at(by_time, sets.tie, parts)
    total = np.cumsum(by_time, axis=0)
    return {
        "centre": sets.centre,
        "baseline_times": sets.event_times,
        "baseline_hazard": total[:, 0],
        "baseline_variance": total[:, 1],
        "baseline_gradient": total[:, 2:],
    }
