"""Repeated stratified K-fold cross-validation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.model_selection import StratifiedKFold

from dlild_analysis.stats.arrays import FloatArray, IntArray
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.resampling.bootstrap import (
    Fit,
    Metric,
    Progress,
    failure,
    keep_finite,
    report_progress,
)
from dlild_analysis.stats.results import Estimate, Result


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossValidation(Result):
    """Repeated stratified K-fold cross-validation.

    Attributes
    ----------
    performance
        Mean over folds and repeats, with Nadeau and Bengio's corrected interval.
    fold_values
        Shape (repeats, folds); NaN where a fold failed.
    predictions
        Shape (n,): mean out-of-fold prediction of every patient.
    failures
        Folds in which the model or the metric failed.
    """

    performance: Estimate
    fold_values: FloatArray
    predictions: FloatArray
    folds: int
    repeats: int
    failures: int
    method: str
    warnings: tuple[str, ...] = ()


def cross_validate(
    fit: Fit,
    metric: Metric,
    strata: ArrayLike,
    *,
    rng: np.random.Generator,
    folds: int = 5,
    repeats: int = 20,
    level: float = 0.95,
    progress: Progress | None = None,
) -> CrossValidation:
    """Repeated stratified K-fold cross-validation with every choice inside the folds.

    Parameters
    ----------
    fit, metric
        See the module.
    strata
        Shape (n,): the outcome, or any label to keep in proportion over the folds.
    rng
        Source of the folds.
    folds
        At least 2; fewer than asked, with a warning, when the rarest stratum is smaller.
    repeats
        How often the folds are redrawn.
    level
        Coverage of the interval.
    progress
        Called with (done, total).

    Returns
    -------
    CrossValidation
        Mean performance, fold by fold, and out-of-fold predictions.

    Raises
    ------
    StatisticsError
        A stratum of one patient, or more than half of the folds failing.

    References
    ----------
    .. [1] Nadeau C, Bengio Y. Inference for the generalization error. Mach Learn 2003;52:239-281.
    """
    labels = np.unique(np.asarray(strata).astype(str), return_inverse=True)[1]
    folds, warnings = _possible_folds(labels, folds, repeats)
    values = np.full((repeats, folds), math.nan)
    reasons: Counter[str] = Counter()
    total, seen = np.zeros(labels.size), np.zeros(labels.size)
    for repeat in range(repeats):
        fold_of = _assign_folds(labels, folds, rng)
        for fold in range(folds):
            held = np.flatnonzero(fold_of == fold)
            try:
                predicted = fit(np.flatnonzero(fold_of != fold))(held)
                values[repeat, fold] = metric(held, predicted)
            except (StatisticsError, np.linalg.LinAlgError) as error:
                reasons[failure(error)] += 1
                continue
            finally:
                report_progress(progress, repeat * folds + fold + 1, repeats * folds)
            total[held] += predicted
            seen[held] += 1
    kept, remarks = keep_finite(values.ravel(), "folds", reasons)
    warnings += remarks
    method = f"{folds}-fold stratified cross-validation, {repeats} repeats"
    return CrossValidation(
        performance=_corrected(kept, folds, labels.size, level, (method, warnings)),
        fold_values=values,
        predictions=np.divide(total, seen, out=np.full(labels.size, math.nan), where=seen > 0),
        folds=folds,
        repeats=repeats,
        failures=int((~np.isfinite(values)).sum()),
        method=method,
        warnings=warnings,
    )


def _possible_folds(labels: IntArray, folds: int, repeats: int) -> tuple[int, tuple[str, ...]]:
    if folds < 2 or repeats < 1:
        raise StatisticsError(f"folds: {folds}, repeats: {repeats}; at least 2 folds, 1 repeat")
    rarest = int(np.bincount(labels).min())
    if rarest < 2:
        raise StatisticsError(
            "strata: a stratum of one patient cannot be in training and test; merge it or validate"
            " by bootstrap"
        )
    if rarest < folds:
        return rarest, (f"{rarest} folds instead of {folds}: the rarest stratum has {rarest}",)
    return folds, ()


def _assign_folds(labels: IntArray, folds: int, rng: np.random.Generator) -> IntArray:
    splitter = StratifiedKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    fold_of = np.empty(labels.size, dtype=np.int64)
    for fold, (_, held) in enumerate(splitter.split(labels, labels)):
        fold_of[held] = fold
    return fold_of


def _corrected(
    values: FloatArray, folds: int, n: int, level: float, remarks: tuple[str, tuple[str, ...]]
) -> Estimate:
    """Mean over folds; the variance allows for training sets that overlap."""
    spread = float(values.var(ddof=1))
    error = math.sqrt(spread * (1 / values.size + 1 / (folds - 1)))
    mean = float(values.mean())
    half = float(stats.t.ppf(0.5 + level / 2, values.size - 1)) * error
    return Estimate(
        estimate=mean,
        ci_low=mean - half,
        ci_high=mean + half,
        std_error=error,
        n=n,
        level=level,
        method=f"{remarks[0]}, Nadeau-Bengio interval",
        warnings=remarks[1],
    )
