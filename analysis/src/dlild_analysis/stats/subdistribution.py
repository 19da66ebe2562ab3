"""The weighted partial likelihood of Fine and Gray, and its sandwich variance.

A patient with a competing event stays in the risk set, with weight G(t-) / G(X-). The weight is a
product of a function of t and one of the patient, so all risk-set sums are running sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlild_analysis.stats.arrays import BoolArray, FloatArray, IntArray
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.risktable import risk_table

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
