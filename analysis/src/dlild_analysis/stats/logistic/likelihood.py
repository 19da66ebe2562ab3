"""The logistic likelihood, plain and with Firth's penalty, and its profile.

statsmodels fits the plain models that are reported; it keeps neither Firth's penalty nor profile
intervals. Designs here carry their column of ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit

from dlild_analysis.stats.arrays import BoolArray, FloatArray
from dlild_analysis.stats.errors import StatisticsError

_MAX_ITERATIONS = 200
_LONGEST_STEP = 5.0


@dataclass(frozen=True, eq=False)
class Likelihood:
    """A logistic likelihood in scaled columns.

    Attributes
    ----------
    x
        Shape (n, p), the column of ones included.
    y
        Shape (n,), 0 or 1.
    firth
        Whether half the log determinant of the information is added.
    """

    x: FloatArray
    y: FloatArray
    firth: bool

    def parts(self, beta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Value, gradient and Fisher information at ``beta``."""
        eta = self.x @ beta
        p = expit(eta)
        # log(1 + exp(eta)) without overflow.
        value = float(self.y @ eta - np.logaddexp(0.0, eta).sum())
        weight = p * (1 - p)
        information = self.x.T @ (self.x * weight[:, None])
        residual = self.y - p
        if self.firth:
            sign, log_determinant = np.linalg.slogdet(information)
            if sign <= 0:
                return -math.inf, np.zeros_like(beta), information
            value += log_determinant / 2
            leverage = np.einsum(
                "ij,jk,ik->i", self.x, np.linalg.inv(information), self.x, optimize=True
            )
            residual = residual + leverage * weight * (0.5 - p)
        return value, self.x.T @ residual, information


def maximise_logistic(
    likelihood: Likelihood, start: FloatArray, free: BoolArray
) -> tuple[FloatArray, float]:
    """Maximise over the free coefficients by Newton's method with step halving.

    Returns
    -------
    tuple
        Coefficients, and the (penalised) log-likelihood there.

    Raises
    ------
    StatisticsError
        No convergence, which under Firth's penalty means a design that is nearly collinear.
    """
    beta = start.copy()
    value, gradient, information = likelihood.parts(beta)
    if not free.any():
        return beta, value
    still = 0
    for _ in range(_MAX_ITERATIONS):
        step = np.zeros_like(beta)
        block = information[np.ix_(free, free)]
        step[free] = np.linalg.pinv(block, hermitian=True) @ gradient[free]
        step *= min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        trial = likelihood.parts(beta + step)
        while not trial[0] >= value - 1e-12 * (1 + abs(value)) and np.abs(step).max() > 1e-14:
            step = step / 2
            trial = likelihood.parts(beta + step)
        beta, gain = beta + step, trial[0] - value
        value, gradient, information = trial
        still = still + 1 if abs(gain) <= 1e-12 * (1 + abs(value)) else 0
        if np.abs(step).max() < 1e-9 or still > 3:
            return beta, value
    raise StatisticsError(
        "logistic model: no convergence; look for nearly collinear or badly scaled covariates"
    )


def profile_maximum(likelihood: Likelihood, at: FloatArray, k: int, fixed: float) -> float:
    """Highest log-likelihood with coefficient ``k`` held at a value."""
    start = at.copy()
    start[k] = fixed
    free = np.ones(start.size, dtype=np.bool_)
    free[k] = False
    return maximise_logistic(likelihood, start, free)[1]


def profile_interval(
    likelihood: Likelihood, beta: FloatArray, highest: float, k: int, *, error: float, level: float
) -> tuple[float, float]:
    """Limits at which twice the fall of the profile log-likelihood is the chi-squared quantile.

    A limit that the profile never reaches is infinite.
    """
    profile = _Profile(likelihood, k, highest - float(stats.chi2.ppf(level, 1)) / 2)
    return tuple(profile.limit(beta, side * error) for side in (-1, 1))  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class _Profile:
    """The profile of coefficient ``k``, and the height at which its interval ends."""

    likelihood: Likelihood
    k: int
    height: float

    def drop(self, value: float, near: FloatArray) -> tuple[float, FloatArray]:
        """How far the profile lies below the height, and where; starting from a maximum nearby."""
        start = near.copy()
        start[self.k] = value
        at, highest = maximise_logistic(self.likelihood, start, np.arange(start.size) != self.k)
        return self.height - highest, at

    def limit(self, beta: FloatArray, stride: float) -> float:
        """Walk outwards from the maximum until the profile falls below the height."""
        near, value = beta, float(beta[self.k])
        for step in range(40):
            further = value + stride / 2 * 1.1**step
            below, at = self.drop(further, near)
            if below > 0:
                low, high = sorted((value, further))
                return float(
                    brentq(lambda v, near=near: self.drop(v, near)[0], low, high, xtol=1e-10)
                )
            near, value = at, further
        return math.copysign(math.inf, stride)
