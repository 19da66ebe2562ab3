"""Cox regression, ties by Efron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    horizon_within,
    normal_quantile,
    outside_range,
)
from dlild_analysis.stats.cox.partial_likelihood import PartialFit, maximise
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.regression import Regression, Term, few_events, ratios, wald_p
from dlild_analysis.stats.results import Estimate, HypothesisTest, RiskPrediction
from dlild_analysis.stats.survival.concordance import harrell_c


@dataclass(frozen=True, kw_only=True)
class HazardTerm(Term):
    """One covariate of a Cox model.

    Attributes
    ----------
    hazard_ratio, hazard_ratio_per_sd
        Per unit and per standard deviation of the covariate.
    """

    hazard_ratio: Estimate
    hazard_ratio_per_sd: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class CoxFit(Regression):
    """A fitted Cox model, with what prediction needs.

    Attributes
    ----------
    terms
        One for each covariate, in the order given.
    covariance
        Shape (p, p), of the coefficients.
    log_likelihood, log_likelihood_null
        Partial.
    likelihood_ratio, wald, score
        The three global tests.
    concordance
        Harrell's C of the linear predictor in the fitting data (optimistic).
    centre
        Shape (p,): covariate means; the baseline is that of a patient at the means.
    lower, upper
        Shape (p,): range of each covariate in the data, for refusing to extrapolate.
    baseline_times, baseline_hazard, baseline_variance
        Shape (k,): event times; cumulative hazard of the patient at the means; and its variance,
        coefficients held fixed.
    baseline_gradient
        Shape (k, p): derivative of the baseline hazard by the coefficients.
    last_time
        Longest follow-up.
    """

    terms: tuple[HazardTerm, ...]
    covariance: FloatArray
    log_likelihood: float
    log_likelihood_null: float
    likelihood_ratio: HypothesisTest
    wald: HypothesisTest
    score: HypothesisTest
    concordance: Estimate
    centre: FloatArray
    lower: FloatArray
    upper: FloatArray
    baseline_times: FloatArray
    baseline_hazard: FloatArray
    baseline_variance: FloatArray
    baseline_gradient: FloatArray
    last_time: float
    events_per_parameter: float
    n: int
    events: int
    level: float
    method: str
    warnings: tuple[str, ...] = ()


def make_hazard_term(
    name: str,
    beta: float,
    error: float,
    sd: float,
    *,
    p_value: float,
    n: int,
    level: float,
    finite: bool = True,
    kind: str = "hazard ratio",
) -> HazardTerm:
    """Turn a log hazard ratio into its ratios per unit and per SD."""
    if not finite:
        beta, error = math.copysign(math.inf, beta), math.nan
    half = normal_quantile(level) * error
    per_unit, per_sd = ratios(
        beta,
        beta - half,
        beta + half,
        units=(1.0, sd),
        kind=kind,
        how="Wald interval and test" if finite else "likelihood-ratio test",
        p_value=p_value,
        n=n,
        level=level,
        warnings=() if finite else (f"{name}: no finite estimate exists",),
    )
    return HazardTerm(
        name=name,
        beta=beta,
        std_error=error,
        sd=sd,
        hazard_ratio=per_unit,
        hazard_ratio_per_sd=per_sd,
    )


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


def _inputs(
    design: ArrayLike, time: ArrayLike, event: ArrayLike, names: Sequence[str] | None
) -> tuple[FloatArray, tuple[str, ...], FloatArray, BoolArray]:
    x, columns = as_design(design, names)
    times, events = as_survival(time, event)
    check_lengths(design=x, time=times)
    check_regressors(x, columns)
    return x, columns, times, events


def _reservations(partial: PartialFit, names: Sequence[str], events: int) -> tuple[str, ...]:
    remarks = [
        f"{name}: the likelihood rises without end (the covariate ranks the events perfectly); the"
        " hazard ratio is infinite or zero and has no interval"
        for name, flag in zip(names, partial.infinite, strict=True)
        if flag
    ]
    return (*remarks, *few_events(events / len(names)))


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
            values.append(wald_p(partial.beta[k], math.sqrt(partial.covariance[k, k])))
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


def linear_predictor(fit: CoxFit, design: ArrayLike) -> FloatArray:
    """Log hazard relative to a patient at the means of the fitting data.

    Parameters
    ----------
    fit
        A fitted model.
    design
        Shape (m, p), columns in the order of ``fit.names``.

    Returns
    -------
    ndarray
        Shape (m,); higher means the event comes sooner.

    Raises
    ------
    StatisticsError
        A wrong number of columns or a value that is not finite.
    """
    x = fit.rows(design)
    return np.asarray((x - fit.centre) @ np.array([term.beta for term in fit.terms]))


def predict_cox(
    fit: CoxFit, design: ArrayLike, horizon: float, *, level: float = 0.95
) -> RiskPrediction:
    """Predict the risk of the event by a horizon.

    Intervals are formed on the log-log survival scale with the full variance, baseline hazard and
    coefficients together.

    Parameters
    ----------
    fit
        A fitted model.
    design
        Shape (m, p), columns in the order of ``fit.names``.
    horizon
        In the unit of the fitted times; not beyond the longest follow-up.
    level
        Coverage of the intervals.

    Returns
    -------
    RiskPrediction
        With a warning that counts the rows outside the range of the fitted data.

    Raises
    ------
    StatisticsError
        A horizon that is not positive or lies beyond follow-up; a wrong number of columns.

    References
    ----------
    .. [1] Tsiatis AA. A large sample study of Cox's regression model. Ann Stat 1981;9:93-108.
    """
    horizon = horizon_within(horizon, np.append(fit.baseline_times, fit.last_time))
    x = fit.rows(design)
    if not all(math.isfinite(term.beta) for term in fit.terms):
        raise StatisticsError("fit: a coefficient is infinite; this model predicts no risk")
    score = linear_predictor(fit, x)
    step = int(np.searchsorted(fit.baseline_times, horizon, side="right")) - 1
    warnings = outside_range(x, fit.lower, fit.upper)
    if step < 0:
        zero = np.zeros(x.shape[0])
        risk, low, high = zero, zero, zero
        warnings += (f"no event up to {horizon:g}: risks are zero, without interval",)
    else:
        hazard, error = _cumulative_hazard(fit, x, score, step)
        factor = np.exp(normal_quantile(level) * error / hazard)
        risk, low, high = (-np.expm1(-hazard * f) for f in (1.0, 1 / factor, factor))
    return RiskPrediction(
        risk=np.asarray(risk),
        ci_low=np.asarray(low),
        ci_high=np.asarray(high),
        level=level,
        method=f"Cox risk by {horizon:g}, log-log interval",
        warnings=warnings,
    )


def _cumulative_hazard(
    fit: CoxFit, x: FloatArray, score: FloatArray, step: int
) -> tuple[FloatArray, FloatArray]:
    """Cumulative hazard of each row at a step of the baseline, and its standard error."""
    relative = np.exp(score)
    base = fit.baseline_hazard[step]
    pull = fit.baseline_gradient[step] + (x - fit.centre) * base
    variance = fit.baseline_variance[step] + np.einsum("ij,jk,ik->i", pull, fit.covariance, pull)
    return relative * base, relative * np.sqrt(variance)
