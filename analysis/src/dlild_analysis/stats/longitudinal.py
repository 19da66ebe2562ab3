"""Change of a serial measurement over time: linear mixed models and a pattern-mixture average.

One row a measurement: ``outcome`` in its unit, ``time`` in the unit that slopes are wanted per,
``patient`` any label. Every patient has an intercept and a slope of their own, normal and
correlated, beside the fixed effects [1]_. The fit is statsmodels' ``MixedLM`` by restricted
maximum likelihood; tests hold it against R's ``nlme`` and ``lme4``.

References
----------
.. [1] Laird NM, Ware JH. Random-effects models for longitudinal data. Biometrics 1982;38:963-974.
"""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.generalized_estimating_equations import GEE
from statsmodels.regression.mixed_linear_model import MixedLM

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
FALLBACK = "generalised estimating equations, exchangeable correlation, robust variance"
OPTIMISERS: tuple[tuple[str, dict[str, float]], ...] = (
    ("bfgs", {"gtol": 1e-7}),
    ("lbfgs", {}),
    ("cg", {}),
    ("powell", {}),
)
SINGULAR = 1e-6  # smallest eigenvalue of the random effects' covariance, relative to the residual


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
        Of the random effects; NaN after the fallback.
    sd_residual
        Of a measurement about its patient's line; NaN after the fallback.
    log_likelihood
        Restricted log-likelihood; NaN after the fallback.
    n, measurements
        Patients and rows.
    converged
        Whether the mixed model converged; if not, ``method`` names what was fitted instead.
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
    converged: bool
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
        Where no optimiser converges, the fixed effects are those of generalised estimating
        equations, and `method` and a warning say so.

    Raises
    ------
    StatisticsError
        Lengths that differ, values that are not finite, constant or collinear columns, fewer than
        3 patients with 2 measurements, or no spread of time within patients.

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
    # The optimisers stop by absolute gradients: outcome and columns are brought to unit size.
    size, shift = float(y.std()), float(y.mean())
    scale = np.concatenate([[1.0], x[:, 1:].std(axis=0)])
    unit = float(t.std())
    back = np.diag(size / scale)
    random = np.column_stack([np.ones(y.size), t / unit])
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        model = MixedLM((y - shift) / size, x / scale, groups=member, exog_re=random)
        fit = None
        for method, options in OPTIMISERS:
            try:
                tried = model.fit(reml=True, method=method, maxiter=500, **options)
            except (np.linalg.LinAlgError, ValueError):
                continue
            if tried.converged and np.isfinite(tried.fe_params).all():
                fit = tried
                break
        if fit is None:
            return _fallback(x, names, y, member, n)
    beta = back @ np.asarray(fit.fe_params)
    beta[0] += shift
    spread = np.asarray(fit.cov_re) * np.outer([size, size / unit], [size, size / unit])
    residual = float(fit.scale)
    warnings: tuple[str, ...] = ()
    if np.linalg.eigvalsh(np.asarray(fit.cov_re)).min() < SINGULAR * residual:
        warnings = (
            (
                "the fit is singular: the random intercept or slope varies by less than can be"
                " estimated, or they are perfectly correlated"
            ),
        )
    sds = np.sqrt(np.diag(spread))
    # The likelihood of the outcome in its own unit and of the columns in theirs.
    jacobian = -(y.size - len(names)) * math.log(size) - float(np.log(scale).sum())
    return LinearMixedModel(
        names=names,
        beta=beta,
        covariance=_covariance(x, random * [1.0, unit], member, n, spread, residual * size**2),
        sd_intercept=float(sds[0]),
        sd_slope=float(sds[1]),
        correlation=float(spread[0, 1] / (sds[0] * sds[1])) if sds.all() else math.nan,
        sd_residual=math.sqrt(residual) * size,
        log_likelihood=float(fit.llf) + jacobian,
        n=n,
        measurements=y.size,
        converged=True,
        method=REML,
        warnings=warnings,
    )


def _covariance(
    x: FloatArray, z: FloatArray, member: IntArray, n: int, spread: FloatArray, residual: float
) -> FloatArray:
    """Invert X'V^-1 X at the estimated variances, as R's lme4 and nlme do.

    statsmodels inverts the observed information of all parameters, which R does not. V^-1 of a
    patient is (I - Z D (residual I + Z'Z D)^-1 Z') / residual, with D the covariance of the random
    effects.
    """

    def by_patient(rows: FloatArray) -> FloatArray:
        sums = np.zeros((n, rows.shape[1]))
        np.add.at(sums, member, rows)
        return sums

    width = x.shape[1]
    zz = by_patient((z[:, :, None] * z[:, None, :]).reshape(-1, 4)).reshape(n, 2, 2)
    zx = by_patient((z[:, :, None] * x[:, None, :]).reshape(-1, 2 * width)).reshape(n, 2, width)
    inner = spread @ np.linalg.inv(residual * np.eye(2) + zz @ spread)
    information = (x.T @ x - np.einsum("nip,nij,njq->pq", zx, inner, zx)) / residual
    inverse: FloatArray = np.linalg.inv(information)
    return inverse


def _fallback(
    x: FloatArray, names: tuple[str, ...], y: FloatArray, member: IntArray, n: int
) -> LinearMixedModel:
    fit = GEE(y, x, groups=member, cov_struct=Exchangeable()).fit(maxiter=200)
    beta, covariance = np.asarray(fit.params), np.asarray(fit.cov_robust)
    if not (np.isfinite(beta).all() and np.isfinite(covariance).all()):
        raise StatisticsError("the mixed model did not converge, nor did its fallback")
    return LinearMixedModel(
        names=names,
        beta=beta,
        covariance=covariance,
        sd_intercept=math.nan,
        sd_slope=math.nan,
        correlation=math.nan,
        sd_residual=math.nan,
        log_likelihood=math.nan,
        n=n,
        measurements=y.size,
        converged=False,
        method=FALLBACK,
        warnings=(
            (
                "the mixed model did not converge; given are generalised estimating equations with"
                " an exchangeable correlation, valid only where dropout is completely at random"
            ),
        ),
    )


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
