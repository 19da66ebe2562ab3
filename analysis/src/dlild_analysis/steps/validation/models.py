"""The models that are validated: whatever is chosen from data is chosen anew in every resample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.special import expit

from dlild_analysis.stats import resampling, roc, splines
from dlild_analysis.stats.arrays import FloatArray, IntArray
from dlild_analysis.stats.cox.partial_likelihood import maximise
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic.likelihood import Likelihood, maximise_logistic
from dlild_analysis.stats.resampling import Fit, Predict
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.logistic.logistic import fittable

FEW_EVENTS = 5
RUNAWAY = 12.0  # log odds per standard deviation: no real covariate does that


@dataclass(frozen=True)
class Recipe:
    """How one logistic model is made.

    Attributes
    ----------
    name, label : str
        For the files and for the reader.
    columns : tuple of str
        Columns of the design.
    spline : str or None
        A column that enters as a straight line or as a restricted cubic spline of three knots,
        whichever has the lower AIC in the training patients.
    select : bool
        Backward elimination by AIC in the training patients.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    spline: str | None = None
    select: bool = False

    def fitter(self, sample: Sample) -> Fit:
        """Make the function that resampling calls: indices of training patients to a predictor."""
        design = sample.design[list(self.columns)]
        matrix, outcome = design.to_numpy(dtype=np.float64), sample.progressed

        def fit(train: IntArray) -> Predict:
            shape, chosen = self._choose(matrix[train], outcome[train])
            model = fit_quickly(shape(matrix[train])[:, chosen], outcome[train])
            return lambda index: expit(model.line(shape(matrix[index])[:, chosen]))

        return fit

    def _choose(self, matrix: FloatArray, outcome: FloatArray) -> tuple[_Shape, list[int]]:
        plain = _Shape()
        shape = plain
        if self.spline is not None:
            column = self.columns.index(self.spline)
            knots = np.asarray(splines.rcs_knots(matrix[:, column], 3), dtype=np.float64)
            bent = _Shape(column, knots)
            if _aic(bent(matrix), outcome) < _aic(plain(matrix), outcome):
                shape = bent
        columns = list(range(shape(matrix).shape[1]))
        if self.select and len(columns) > 1:
            columns = _eliminate(shape(matrix), outcome, columns)
        return shape, columns


@dataclass(frozen=True)
class _Shape:
    """Adds the non-linear terms of a spline to a design."""

    column: int | None = None
    knots: FloatArray | None = None

    def __call__(self, matrix: FloatArray) -> FloatArray:
        if self.column is None or self.knots is None:
            return matrix
        return np.hstack([matrix, splines.rcs_basis(matrix[:, self.column], self.knots)[:, 1:]])


@dataclass(frozen=True)
class Quick:
    """A logistic model without intervals: what a resample needs of it."""

    intercept: float
    beta: FloatArray
    log_likelihood: float

    def line(self, matrix: FloatArray) -> FloatArray:
        """Log odds of each row."""
        return np.asarray(self.intercept + matrix @ self.beta)


def fit_quickly(matrix: FloatArray, outcome: FloatArray) -> Quick:
    """Fit a logistic model as `stats.logistic.fit_logistic` would, without its intervals.

    Firth's penalty is used where events per parameter are few, or where the plain likelihood runs
    away.
    """
    scale = matrix.std(axis=0, ddof=1)
    rare = min(outcome.sum(), (1 - outcome).sum())
    if rare == 0:
        raise StatisticsError("outcome: only one class in this resample")
    if not np.all(scale > 0):
        raise StatisticsError("design: a constant column in this resample")
    centre = matrix.mean(axis=0)
    scaled = np.column_stack([np.ones(len(matrix)), (matrix - centre) / scale])
    plain = None if rare / matrix.shape[1] < FEW_EVENTS else _newton(scaled, outcome)
    likelihood = Likelihood(scaled, outcome, firth=plain is None)
    if plain is None:
        free = np.ones(scaled.shape[1], dtype=np.bool_)
        found, highest = maximise_logistic(likelihood, np.zeros(free.size), free)
        beta = np.asarray(found, dtype=np.float64)
    else:
        beta, highest = plain, likelihood.parts(plain)[0]
    slopes = beta[1:] / scale
    return Quick(float(beta[0] - centre @ slopes), slopes, highest)


def _newton(scaled: FloatArray, outcome: FloatArray) -> FloatArray | None:
    """Maximise the plain likelihood; None where it runs away or breaks down."""
    beta = np.zeros(scaled.shape[1])
    for _ in range(40):
        risk = expit(scaled @ beta)
        information = scaled.T @ (scaled * (risk * (1 - risk))[:, None])
        try:
            step = np.linalg.solve(information, scaled.T @ (outcome - risk))
        except np.linalg.LinAlgError:
            return None
        beta = beta + step
        if not np.abs(beta).max() <= RUNAWAY:
            return None
        if np.abs(step).max() < 1e-9:
            return beta
    return None


def _aic(matrix: FloatArray, outcome: FloatArray) -> float:
    return float(-2 * fit_quickly(matrix, outcome).log_likelihood + 2 * matrix.shape[1])


def _eliminate(matrix: FloatArray, outcome: FloatArray, columns: list[int]) -> list[int]:
    best = _aic(matrix[:, columns], outcome)
    while len(columns) > 1:
        trials = [
            (_aic(matrix[:, [c for c in columns if c != drop]], outcome), drop) for drop in columns
        ]
        value, drop = min(trials)
        if value >= best:
            break
        best = value
        columns = [c for c in columns if c != drop]
    return columns


def remembered(fit: Fit) -> Fit:
    """Keep the models of every resample, so that a second measure need not fit them again."""
    kept: dict[bytes, Predict] = {}

    def once(train: IntArray) -> Predict:
        key = hashlib.blake2b(np.ascontiguousarray(train).tobytes(), digest_size=16).digest()
        if key not in kept:
            kept[key] = fit(train)
        return kept[key]

    return once


def cut_fitter(sample: Sample, column: str) -> Fit:
    """Make a rule that calls high or low by the best cut-off of the training patients."""
    values, outcome = sample.design[column].to_numpy(dtype=np.float64), sample.progressed

    def fit(train: IntArray) -> Predict:
        cutoff = roc.youden_cutoff(outcome[train], values[train]).cutoff
        return lambda index: (values[index] >= cutoff).astype(np.float64)

    return fit


def cox_fitter(sample: Sample) -> Fit:
    """Make a Cox model of all columns; it predicts the linear predictor."""
    matrix = sample.design.to_numpy(dtype=np.float64)

    def fit(train: IntArray) -> Predict:
        model = maximise(matrix[train], sample.time[train], sample.event[train].astype(np.bool_))
        if np.any(model.infinite):
            raise StatisticsError("Cox model: a coefficient is infinite in this resample")
        return lambda index: np.asarray(matrix[index] @ model.beta)

    return fit


def youden(outcome: FloatArray, called: FloatArray) -> float:
    """Sensitivity + specificity - 1 of a two-way call."""
    if not outcome.any() or outcome.all():
        raise StatisticsError("outcome: only one class in this fold")
    return float(called[outcome == 1].mean() + (1 - called[outcome == 0]).mean() - 1)


@dataclass(frozen=True)
class Refused:
    """A model that cannot be validated, since it cannot be fitted.

    Attributes
    ----------
    name, label : str
        As of its recipe.
    because : NotDone
        What the fit complains of.
    """

    name: str
    label: str
    because: NotDone


def fittable_recipes(data: Data) -> list[tuple[Recipe, Sample]]:
    """List the models that are validated, each with its patients."""
    return [item for item in recipes(data) if not isinstance(item, Refused)]


def recipes(data: Data) -> list[tuple[Recipe, Sample] | Refused]:
    """List the models that were asked for: those to validate, and those that were refused.

    What the regression refuses in all patients is not validated in parts of them: too few events
    for its parameters, a constant covariate, one that the others determine.
    """
    found: list[tuple[Recipe, Sample] | Refused] = []
    adjust, score, joint = data.study.plan.adjust, data.label("score"), joint_label(data)
    wanted: list[tuple[str, str, tuple[str, ...], bool, bool]] = [
        ("score", f"{score} alone", ("score",), False, False),
        ("score_spline", f"{score}, straight or spline", ("score",), True, False),
        ("visual", f"{data.label('visual')} alone", ("visual",), False, False),
        ("full", joint, adjust, False, False),
        ("full_selected", f"{joint}, backward elimination", adjust, False, True),
    ]
    for name, label, names, spline, select in wanted:
        there = data.available(names)
        if not there or (name.startswith("full") and len(there) < 2):
            continue
        sample = attempt(fittable, data, there)
        if isinstance(sample, NotDone):
            found.append(Refused(name, label, sample))
            continue
        columns = tuple(sample.design.columns)
        found.append((Recipe(name, label, columns, columns[0] if spline else None, select), sample))
    return found


def joint_label(data: Data) -> str:
    """Name the multivariable model by its covariates."""
    names = [data.label(name) for name in data.available(data.study.plan.adjust)]
    return (
        " + ".join(names) if len(names) <= 4 else f"{' + '.join(names[:3])} + {len(names) - 3} more"
    )


def random_stream(data: Data, stream: int) -> np.random.Generator:
    """Make the random numbers of one stream of the study's seed.

    Every part draws from its own stream, so that leaving one out changes no other.
    """
    return np.random.default_rng([data.study.plan.seed, stream])


W = TypeVar("W", Estimate, resampling.CrossValidation, resampling.Optimism)


def labelled(label: str, found: W) -> W:
    """Name the model in every warning of a result."""
    return replace(found, warnings=tuple(f"{label}: {text}" for text in found.warnings))


def auc_metric(sample: Sample) -> resampling.Metric:
    """AUC of predictions."""
    return lambda index, prediction: roc.auc_value(sample.progressed[index], prediction)
