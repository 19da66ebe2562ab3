"""Fine and Gray's regression on the subdistribution hazard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    as_design,
    check_lengths,
    check_regressors,
)
from dlild_analysis.stats.competing_risks.incidence import as_causes
from dlild_analysis.stats.cox.regression import HazardTerm, make_hazard_term
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.regression import Regression, few_events, wald_p
from dlild_analysis.stats.survival.risk_table import risk_table


@dataclass(frozen=True, kw_only=True, eq=False)
class FineGrayFit(Regression):
    """A fitted Fine-Gray model.

    Attributes
    ----------
    terms
        Subdistribution hazard ratios, one for each covariate.
    covariance
        Shape (p, p): sandwich, including the estimation of the censoring weights.
    log_likelihood, log_likelihood_null
        Partial pseudo-likelihood.
    """

    terms: tuple[HazardTerm, ...]
    covariance: FloatArray
    log_likelihood: float
    log_likelihood_null: float
    n: int
    events: int
    competing_events: int
    level: float
    method: str
    warnings: tuple[str, ...] = ()


def fit_fine_gray(
    design: ArrayLike,
    time: ArrayLike,
    cause: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    of: int = 1,
    level: float = 0.95,
) -> FineGrayFit:
    """Fit the subdistribution hazard of one cause (ties by Breslow, as R's ``cmprsk::crr``).

    Parameters
    ----------
    design
        Shape (n, p): DataFrame or array.
    time
        Shape (n,), not negative.
    cause
        Shape (n,): 0 censored, 1, 2, ... kinds of event.
    names
        Of the columns; taken from a DataFrame when left out.
    of
        Cause of interest.
    level
        Coverage of the intervals.

    Returns
    -------
    FineGrayFit
        Ratios above 1 mean a higher incidence of the cause.

    Raises
    ------
    StatisticsError
        No event of the cause, a constant or collinear column, no convergence.

    References
    ----------
    .. [1] Fine JP, Gray RJ. A proportional hazards model for the subdistribution of a competing
       risk. J Am Stat Assoc 1999;94:496-509.
    """
    x, columns = as_design(design, names)
    times, causes = as_causes(time, cause)
    check_lengths(design=x, time=times)
    check_regressors(x, columns)
    mine, competing = causes == of, (causes > 0) & (causes != of)
    if not mine.any():
        raise StatisticsError(f"cause: no event of cause {of}; codes found: {np.unique(causes)}")
    scale = x.std(axis=0)
    data = Subdistribution.of((x - x.mean(axis=0)) / scale, times, mine, competing)
    beta, highest, lowest, information = maximise_subdistribution(data)
    covariance = sandwich(data, beta, information) / np.outer(scale, scale)
    coefficients = beta / scale
    events = int(mine.sum())
    warnings = _reservations(len(columns), events, competing)
    sd = x.std(axis=0, ddof=1)
    terms = []
    for k, name in enumerate(columns):
        error = math.sqrt(covariance[k, k])
        terms.append(
            make_hazard_term(
                name,
                float(coefficients[k]),
                error,
                float(sd[k]),
                p_value=wald_p(coefficients[k], error),
                n=times.size,
                level=level,
                kind="subdistribution hazard ratio",
            )
        )
    return FineGrayFit(
        terms=tuple(terms),
        covariance=covariance,
        log_likelihood=highest,
        log_likelihood_null=lowest,
        n=times.size,
        events=events,
        competing_events=int(competing.sum()),
        level=level,
        method=f"Fine-Gray subdistribution hazards of cause {of}, Breslow ties, sandwich variance",
        warnings=warnings,
    )


def _reservations(parameters: int, events: int, competing: BoolArray) -> tuple[str, ...]:
    remarks = list(few_events(events / parameters))
    if not competing.any():
        remarks.append("no competing event: the model is Cox's, with robust variance")
    return tuple(remarks)


_MAX_ITERATIONS = 50


@dataclass(frozen=True, eq=False)
class Subdistribution:
    """Data of a Fine-Gray model, with its censoring weights.

    Attributes
    ----------
    x
        Shape (n, p): centred and scaled covariates.
    row
        Shape (n,): index of each patient's time among the k distinct times.
    mine, competing, censored
        Shape (n,): how each patient's time ended.
    deaths
        Shape (k,): events of interest at each distinct time.
    g
        Shape (k,): probability of not being censored, just before each distinct time.
    hazard, at_risk
        Shape (k,): of censoring.
    """

    x: FloatArray
    row: IntArray
    mine: BoolArray
    competing: BoolArray
    censored: BoolArray
    deaths: FloatArray
    g: FloatArray
    hazard: FloatArray
    at_risk: FloatArray

    @classmethod
    def of(
        cls, x: FloatArray, time: FloatArray, mine: BoolArray, competing: BoolArray
    ) -> Subdistribution:
        """Prepare the weights."""
        censored = ~(mine | competing)
        table = risk_table(time, censored)
        hazard = table.events / table.at_risk
        deaths = np.bincount(table.row, mine.astype(np.float64), table.times.size)
        return cls(
            x=x,
            row=table.row,
            mine=mine,
            competing=competing,
            censored=censored,
            deaths=np.asarray(deaths, dtype=np.float64),
            g=np.concatenate([[1.0], np.cumprod(1 - hazard)[:-1]]),
            hazard=hazard,
            at_risk=table.at_risk.astype(np.float64),
        )

    def by_time(self, values: FloatArray) -> FloatArray:
        """Sum rows of patients by distinct time."""
        total = np.zeros((self.deaths.size, values.shape[1]))
        np.add.at(total, self.row, values)
        return total

    def competing_weight(self) -> FloatArray:
        """1 / G(X-) of those with a competing event, else 0; shape (n,)."""
        return np.where(self.competing, 1 / self.g[self.row], 0.0)


@dataclass(frozen=True, eq=False)
class _Sums:
    value: float
    score: FloatArray
    information: FloatArray
    relative: FloatArray
    weight: FloatArray
    mean: FloatArray


def _evaluate(data: Subdistribution, beta: FloatArray) -> _Sums:
    p = data.x.shape[1]
    eta = data.x @ beta
    shift = float(eta.max())
    relative = np.exp(eta - shift)
    row, column = np.triu_indices(p)
    parts = np.column_stack([np.ones(eta.size), data.x, data.x[:, row] * data.x[:, column]])
    parts = parts * relative[:, None]
    own = data.by_time(parts)
    stay = data.by_time(parts * data.competing_weight()[:, None])
    sums = np.cumsum(own[::-1], axis=0)[::-1]
    sums = sums + data.g[:, None] * (np.cumsum(stay, axis=0) - stay)
    used = data.deaths > 0
    weight = np.where(used, sums[:, 0], 1.0)
    mean = sums[:, 1 : p + 1] / weight[:, None]
    square = data.deaths @ (sums[:, p + 1 :] / weight[:, None] - mean[:, row] * mean[:, column])
    information = np.empty((p, p))
    information[row, column] = square
    information[column, row] = square
    value = float(eta[data.mine].sum() - data.deaths @ (np.log(weight) + shift))
    score = data.x[data.mine].sum(axis=0) - data.deaths @ mean
    return _Sums(value, score, information, relative, weight, mean)


def maximise_subdistribution(
    data: Subdistribution,
) -> tuple[FloatArray, float, float, FloatArray]:
    """Maximise by Newton's method with step halving.

    Returns
    -------
    tuple
        Coefficients, highest and null log-likelihood, information; of the scaled covariates.

    Raises
    ------
    StatisticsError
        The likelihood has no maximum.
    """
    beta = np.zeros(data.x.shape[1])
    now = _evaluate(data, beta)
    lowest = now.value
    for _ in range(_MAX_ITERATIONS):
        step = np.linalg.pinv(now.information, hermitian=True) @ now.score
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        trial = _evaluate(data, beta + step)
        while not trial.value >= now.value - 1e-10 and np.abs(step).max() > 1e-12:
            step = step / 2
            trial = _evaluate(data, beta + step)
        beta, now = beta + step, trial
        if np.abs(beta).max() > 25 or np.linalg.eigvalsh(now.information)[0] < 1e-4:
            break
        if np.abs(step).max() < 1e-9:
            return beta, now.value, lowest, now.information
    raise StatisticsError(
        "Fine-Gray model: no convergence (a covariate ranks the events perfectly, or there are too"
        " few of them); use fewer covariates or report cumulative incidence by group"
    )


def sandwich(data: Subdistribution, beta: FloatArray, information: FloatArray) -> FloatArray:
    """Variance that allows for the estimated censoring weights (Fine and Gray 1999, section 3).

    Returns
    -------
    ndarray
        Shape (p, p).
    """
    sums = _evaluate(data, beta)
    step = np.where(data.deaths > 0, data.deaths / sums.weight, 0.0)
    influence = _direct(data, sums, step) + _through_weights(data, sums, step)
    inverse = np.linalg.inv(information)
    covariance: FloatArray = inverse @ (influence.T @ influence) @ inverse
    return covariance


def _direct(data: Subdistribution, sums: _Sums, step: FloatArray) -> FloatArray:
    """Score residuals with the weights held fixed; shape (n, p)."""
    row, x = data.row, data.x
    drift, drift_mean = np.cumsum(step), np.cumsum(sums.mean * step[:, None], axis=0)
    later, later_mean = _later(data.g * step), _later(sums.mean * (data.g * step)[:, None])
    lived = x * drift[row, None] - drift_mean[row]
    weight = data.competing_weight()[:, None]
    lived = lived + weight * (x * later[row, None] - later_mean[row])
    jump = np.where(data.mine[:, None], x - sums.mean[row], 0.0)
    residuals: FloatArray = jump - sums.relative[:, None] * lived
    return residuals


def _through_weights(data: Subdistribution, sums: _Sums, step: FloatArray) -> FloatArray:
    """Influence of each patient through the censoring weights; shape (n, p).

    A censoring at u moves the weights, at times s >= u, of those with a competing event before u
    (the indicator that Fine and Gray print; strict and weak order matter for ties only).
    """
    stay = (sums.relative * data.competing_weight())[:, None]
    own, own_x = data.by_time(stay), data.by_time(stay * data.x)
    gone, gone_x = np.cumsum(own, axis=0) - own, np.cumsum(own_x, axis=0) - own_x
    step_g = (data.g * step)[:, None]
    later = _later(step_g) + step_g
    later_mean = _later(sums.mean * step_g) + sums.mean * step_g
    pull = (gone_x * later - gone * later_mean) / data.at_risk[:, None]
    drift = np.cumsum(pull * data.hazard[:, None], axis=0)
    jump = np.where(data.censored[:, None], pull[data.row], 0.0)
    result: FloatArray = jump - drift[data.row]
    return result


def _later(values: FloatArray) -> FloatArray:
    """Sum over strictly later times."""
    total: FloatArray = np.cumsum(values[::-1], axis=0)[::-1] - values
    return total
