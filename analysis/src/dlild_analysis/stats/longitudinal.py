"""Change of a serial measurement over time: linear mixed models and a pattern-mixture average.

One row a measurement: ``outcome`` in its unit, ``time`` in the unit that slopes are wanted per,
``patient`` any label. Every patient has an intercept and a slope of their own, normal and
correlated, beside the fixed effects [1]_. Restricted maximum likelihood is
profiled to the three parameters of the random effects, as in lme4 [2]_; tests hold it against
statsmodels' ``MixedLM``, whose optimisers stop short of the maximum at the edge, and R's ``nlme``
and ``lme4``.

References
----------
.. [1] Laird NM, Ware JH. Random-effects models for longitudinal data. Biometrics 1982;38:963-974.
.. [2] Bates D, Mächler M, Bolker B, Walker S. Fitting linear mixed-effects models using lme4. J
   Stat Softw 2015;67(1):1-48.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    IntArray,
    as_design,
    as_vector,
    check_lengths,
    check_regressors,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result

REML = "linear mixed model, random intercept and slope, restricted maximum likelihood"
STARTS = ((1.0, 0.0, 1.0), (5.0, 0.0, 2.0), (0.3, 0.0, 0.1))
"""Of the random effects' Cholesky factor over the residual standard deviation."""
ROUGH = {"xatol": 1e-3, "fatol": 1e-4, "maxiter": 500}
FINE = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 400}
"""Below these, differences of the likelihood are rounding errors, and a simplex goes on and on."""
LARGEST = 1e5
SINGULAR = 1e-6
"""Smallest eigenvalue of the random effects' covariance, relative to the residual variance."""
SINGULAR_WORDS = (
    "the fit is singular: the random intercept or slope varies by less than can be estimated, or "
    "they are perfectly correlated"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearMixedModel(Result):
    """A fitted linear mixed model.

    Attributes
    ----------
    names
        Fixed effects; the first is the intercept.
    beta
        Shape (p,): fixed effects, in the unit of the outcome.
    covariance
        Shape (p, p): of the fixed effects.
    sd_intercept, sd_slope, correlation
        Of the random effects.
    sd_residual
        Of a measurement about its patient's line.
    log_likelihood
        Restricted log-likelihood.
    n, measurements
        Patients and rows.
    """

    names: tuple[str, ...]
    beta: FloatArray
    covariance: FloatArray
    sd_intercept: float
    sd_slope: float
    correlation: float
    sd_residual: float
    log_likelihood: float
    n: int
    measurements: int
    method: str
    warnings: tuple[str, ...] = ()

    @property
    def df(self) -> int:
        """Degrees of freedom of tests and intervals: patients beyond the fixed effects."""
        return max(self.n - len(self.names), 1)

    def combine(self, weights: Sequence[float], *, level: float = 0.95) -> Estimate:
        """Estimate a linear combination of the fixed effects, with Wald's interval and test.

        Parameters
        ----------
        weights
            Shape (p,): one for each name.
        level
            Coverage of the interval.

        Returns
        -------
        Estimate
            In the unit of the outcome, referred to a t distribution with as many degrees of freedom
            as there are patients beyond the fixed effects: patients, not measurements, tell slopes
            apart. The normal distribution would make the intervals of 100 patients too short.
        """
        w = np.asarray(weights, dtype=np.float64)
        value, error = float(w @ self.beta), math.sqrt(float(w @ self.covariance @ w))
        half = float(stats.t.ppf(0.5 + level / 2, self.df)) * error
        return Estimate(
            estimate=value,
            ci_low=value - half,
            ci_high=value + half,
            p_value=float(2 * stats.t.sf(abs(value) / error, self.df)),
            std_error=error,
            n=self.n,
            level=level,
            method=self.method,
            warnings=self.warnings,
        )

    def effect(self, name: str, *, level: float = 0.95) -> Estimate:
        """Estimate one fixed effect; see :meth:`combine`."""
        return self.combine([float(item == name) for item in self.names], level=level)


@dataclass(frozen=True, kw_only=True)
class PatternMixture(Result):
    """Slopes by pattern of follow-up, and their mean over the patterns.

    Attributes
    ----------
    patterns, patients
        Names, and patients of each.
    slopes
        Of each pattern.
    mean
        Weighted by the patterns' shares, whose sampling error is in the interval.
    """

    patterns: tuple[str, ...]
    patients: tuple[int, ...]
    slopes: tuple[Estimate, ...]
    mean: Estimate
    warnings: tuple[str, ...] = field(default=())


def fit_mixed_slopes(
    design: ArrayLike,
    outcome: ArrayLike,
    time: ArrayLike,
    patient: ArrayLike,
    *,
    names: Sequence[str] | None = None,
) -> LinearMixedModel:
    """Fit a linear mixed model with a random intercept and slope for every patient.

    Parameters
    ----------
    design
        Shape (m, p): fixed effects without the intercept; time among them where a mean slope is
        wanted.
    outcome, time
        Shape (m,): the measurement, and when it was taken.
    patient
        Shape (m,): whose it is.
    names
        Of the columns of `design`; by default those of a DataFrame.

    Returns
    -------
    LinearMixedModel
        A fit at the edge, where a random effect does not vary, has a warning.

    Raises
    ------
    StatisticsError
        Lengths that differ, values that are not finite, constant or collinear columns, fewer than
        3 patients with 2 measurements, no spread of time within patients, or no residual.

    Notes
    -----
    Patients with one measurement inform the intercept only. The estimates stand under dropout
    that depends on what was measured before (missing at random), not on what was not.
    """
    x, labels = as_design(design, names)
    y, t = as_vector(outcome, "outcome"), as_vector(time, "time")
    owner = np.asarray(patient)
    check_lengths(design=x, outcome=y, time=t, patient=owner)
    groups, member, counts = np.unique(owner, return_inverse=True, return_counts=True)
    if (counts > 1).sum() < 3:
        raise StatisticsError(
            f"patient: {int((counts > 1).sum())} with two measurements or more; a slope needs at"
            " least 3 such patients"
        )
    if np.ptp(y) == 0:
        raise StatisticsError(f"outcome: all {y.size} values are {y[0]:g}; there is no change")
    within = t - (np.bincount(member, t) / counts)[member]
    if np.abs(within).max() <= 1e-9 * np.abs(t).max():
        raise StatisticsError("time: the measurements of each patient have one time; no slope")
    check_regressors(x, labels)
    x = np.column_stack([np.ones(y.size), x])
    return _fit(x, ("intercept", *labels), y, t, member.astype(np.int64), groups.size)


def _fit(
    x: FloatArray, names: tuple[str, ...], y: FloatArray, t: FloatArray, member: IntArray, n: int
) -> LinearMixedModel:
    # Outcome and columns are brought to unit size, so that one start and one tolerance suit all.
    size, shift = float(y.std()), float(y.mean())
    scale = np.concatenate([[1.0], x[:, 1:].std(axis=0)])
    unit = float(t.std())
    sums = _Sums(x / scale, np.column_stack([np.ones(y.size), t / unit]), (y - shift) / size)
    sums.by_patient(member, n)
    found = _maximise(sums)
    beta = found.beta * size / scale
    beta[0] += shift
    spread = found.spread * np.outer([size, size / unit], [size, size / unit])
    sds = np.sqrt(np.diag(spread))
    # The likelihood of the outcome in its own unit and of the columns in theirs.
    jacobian = -(y.size - len(names)) * math.log(size) - float(np.log(scale).sum())
    return LinearMixedModel(
        names=names,
        beta=beta,
        covariance=found.covariance * np.outer(size / scale, size / scale),
        sd_intercept=float(sds[0]),
        sd_slope=float(sds[1]),
        correlation=float(spread[0, 1] / (sds[0] * sds[1])) if sds.all() else math.nan,
        sd_residual=math.sqrt(found.residual) * size,
        log_likelihood=found.log_likelihood + jacobian,
        n=n,
        measurements=y.size,
        method=REML,
        warnings=(SINGULAR_WORDS,) if found.singular else (),
    )


class _Sums:
    """Cross products of the fixed effects x, the random effects' columns z and the outcome y."""

    def __init__(self, x: FloatArray, z: FloatArray, y: FloatArray) -> None:
        self.rows = np.column_stack([x, y])
        self.z = z
        self.total = self.rows.T @ self.rows
        self.freedom = y.size - x.shape[1]

    def by_patient(self, member: IntArray, n: int) -> None:
        """Sum z'z, shape (n, 2, 2), and z'(x, y), shape (n, 2, p + 1), over each patient's rows."""
        parts = np.concatenate([self.z, self.rows], axis=1)
        products = (self.z[:, :, None] * parts[:, None, :]).reshape(len(parts), -1)
        sums = np.zeros((n, products.shape[1]))
        np.add.at(sums, member, products)
        sums = sums.reshape(n, 2, -1)
        self.zz, self.zr = sums[:, :, :2], sums[:, :, 2:]


@dataclass(frozen=True, eq=False)
class _Maximum:
    """The model at given random effects; shapes (p,), (p, p) and (2, 2)."""

    beta: FloatArray
    covariance: FloatArray
    spread: FloatArray
    residual: float
    log_likelihood: float
    singular: bool


def _at(sums: _Sums, theta: FloatArray) -> _Maximum:
    """Profile the restricted likelihood: fixed effects and residual variance at random effects.

    ``theta`` is the lower triangle of the Cholesky factor L of the random effects' covariance over
    the residual variance, as in lme4. V^-1 of a patient is I - Z L (I + L'Z'Z L)^-1 L'Z'.
    """
    factor = np.array([[theta[0], 0.0], [theta[1], theta[2]]])
    inner = np.eye(2) + factor.T @ sums.zz @ factor
    half = factor.T @ sums.zr
    weighted = sums.total - np.einsum("nip,niq->pq", half, np.linalg.solve(inner, half))
    information, right = weighted[:-1, :-1], weighted[:-1, -1]
    beta = np.linalg.solve(information, right)
    residual = float(weighted[-1, -1] - beta @ right) / sums.freedom
    if not residual > 0:
        raise np.linalg.LinAlgError("no residual variance")
    determinants = np.linalg.slogdet(inner)[1].sum() + np.linalg.slogdet(information)[1]
    relative = factor @ factor.T
    return _Maximum(
        beta=beta,
        covariance=residual * np.linalg.inv(information),
        spread=residual * relative,
        residual=residual,
        log_likelihood=-0.5
        * float(determinants + sums.freedom * (1 + math.log(2 * math.pi * residual))),
        singular=bool(np.linalg.eigvalsh(relative).min() < SINGULAR),
    )


def _maximise(sums: _Sums) -> _Maximum:
    """Maximise the restricted likelihood over the random effects' three parameters."""

    def loss(theta: FloatArray) -> float:
        try:
            return -_at(sums, theta).log_likelihood
        except np.linalg.LinAlgError:
            return math.inf

    def climb(theta: FloatArray, options: dict[str, float]) -> FloatArray:
        return np.asarray(optimize.minimize(loss, theta, method="Nelder-Mead", options=options).x)

    best = min((climb(np.asarray(start), ROUGH) for start in STARTS), key=loss)
    for _ in range(2):  # a simplex that has shrunk too early begins anew
        best = climb(best, FINE)
    if np.abs(best).max() > LARGEST:
        raise StatisticsError(
            "outcome: every patient's measurements lie on a line; there is no residual to tell"
            " chance from change"
        )
    return _at(sums, best)


def pattern_mixture_slope(
    outcome: ArrayLike,
    time: ArrayLike,
    patient: ArrayLike,
    pattern: ArrayLike,
    *,
    level: float = 0.95,
) -> PatternMixture:
    """Average the slopes of patterns of follow-up, such as completers, dropouts and deaths.

    Each pattern has its own mean intercept and slope in one mixed model; the mean slope is
    weighted by the patterns' shares of the patients. Its difference from the slope of a model
    without patterns is what dropout that depends on the slope itself would do.

    Parameters
    ----------
    outcome, time, patient
        As :func:`fit_mixed_slopes`.
    pattern
        Shape (m,): the patient's pattern, the same in all rows of a patient.
    level
        Coverage of the intervals.

    Returns
    -------
    PatternMixture
        Patterns in sorted order.

    Raises
    ------
    StatisticsError
        Fewer than two patterns; a pattern with fewer than 2 patients of 2 measurements.

    References
    ----------
    .. [1] Hedeker D, Gibbons RD. Application of random-effects pattern-mixture models for missing
       data in longitudinal studies. Psychol Methods 1997;2:64-78.
    .. [2] Little RJA. Modeling the drop-out mechanism in repeated-measures studies. J Am Stat
       Assoc 1995;90:1112-1121.
    """
    t, owner = as_vector(time, "time"), np.asarray(patient)
    labels = np.asarray(pattern).astype(str)
    check_lengths(time=t, patient=owner, pattern=labels)
    kinds, which = np.unique(labels, return_inverse=True)
    if kinds.size < 2:
        raise StatisticsError(f"pattern: only {kinds.tolist()}; two patterns are needed at least")
    sizes = []
    for index, kind in enumerate(kinds):
        _, counts = np.unique(owner[which == index], return_counts=True)
        sizes.append(int(counts.size))
        if (counts > 1).sum() < 2:
            raise StatisticsError(
                f"pattern: {kind!r} has {int((counts > 1).sum())} patients with two measurements;"
                " a slope of it needs 2 at least"
            )
    marks = (which[:, None] == np.arange(kinds.size)).astype(np.float64)
    design = np.column_stack([marks[:, 1:], marks * t[:, None]])
    names = [f"is {kind}" for kind in kinds[1:]] + [f"slope {kind}" for kind in kinds]
    fit = fit_mixed_slopes(design, outcome, t, owner, names=names)
    at = slice(kinds.size, 2 * kinds.size)
    slopes, covariance = fit.beta[at], fit.covariance[at, at]
    share = np.array(sizes) / sum(sizes)
    multinomial = (np.diag(share) - np.outer(share, share)) / sum(sizes)
    value = float(share @ slopes)
    variance = float(share @ covariance @ share + slopes @ multinomial @ slopes)
    error = math.sqrt(variance)
    half = float(stats.t.ppf(0.5 + level / 2, fit.df)) * error
    return PatternMixture(
        patterns=tuple(str(kind) for kind in kinds),
        patients=tuple(sizes),
        slopes=tuple(fit.effect(f"slope {kind}", level=level) for kind in kinds),
        mean=Estimate(
            estimate=value,
            ci_low=value - half,
            ci_high=value + half,
            p_value=float(2 * stats.t.sf(abs(value) / error, fit.df)),
            std_error=error,
            n=sum(sizes),
            level=level,
            method=f"pattern-mixture mean of slopes; {fit.method}",
            warnings=fit.warnings,
        ),
        warnings=fit.warnings,
    )
