"""Repeated stratified cross-validation; knots, cut-offs and selection inside the folds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import resampling, roc
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import OPTIONAL
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, estimate, number
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.step import OWN, Analysis, Step
from dlild_analysis.steps.validation.models import (
    Refused,
    auc_metric,
    cut_fitter,
    labelled,
    random_stream,
    recipes,
    youden,
)
from dlild_analysis.steps.validation.optimism import OPTIMISM, CorrectedModel, unstable


@dataclass(frozen=True)
class ValidatedModel:
    """One model; without columns where it could not be fitted."""

    name: str
    label: str
    n: int
    auc: resampling.CrossValidation | NotDone
    columns: tuple[str, ...] = field(default=(), metadata=OPTIONAL)


@dataclass(frozen=True)
class ValidatedCutoff:
    """A cut-off chosen anew in each fold, and the Youden index where it was chosen."""

    youden_index: resampling.CrossValidation
    apparent: float | None


@dataclass(frozen=True)
class CrossValidated:
    """What the step found."""

    folds: int
    repeats: int
    models: tuple[ValidatedModel, ...]
    cutoff: ValidatedCutoff | NotDone

    def predictions(self, name: str) -> FloatArray | None:
        """Take the cross-validated risks of a model, mean over repeats; None without them."""
        found = next((model.auc for model in self.models if model.name == name), None)
        if found is None or isinstance(found, NotDone):
            return None
        return np.clip(found.predictions, 0.0, 1.0)


def cross_validate(data: Data, progress: Progress) -> CrossValidated:
    """Cross-validate every model, and the choice of the cut-off."""
    data.sample((), "binary")
    plan = data.study.plan
    models = []
    for index, item in enumerate(recipes(data)):
        if isinstance(item, Refused):
            models.append(ValidatedModel(item.name, item.label, 0, item.because))
            continue
        recipe, sample = item
        found = attempt(
            _cross_validate,
            recipe.label,
            recipe.fitter(sample),
            auc_metric(sample),
            sample.progressed,
            data,
            stream=100 + index,
            progress=progress.bar(f"cross-validation: {recipe.label}"),
        )
        models.append(ValidatedModel(recipe.name, recipe.label, sample.n, found, recipe.columns))
    if not models:
        raise NotDoneError("no model could be made")
    cutoff = attempt(_cutoff, data, progress)
    return CrossValidated(plan.folds, plan.repeats, tuple(models), cutoff)


def _cross_validate(
    label: str,
    fit: resampling.Fit,
    metric: resampling.Metric,
    outcome: FloatArray,
    data: Data,
    *,
    stream: int,
    progress: resampling.Progress,
) -> resampling.CrossValidation:
    plan = data.study.plan
    found = resampling.cross_validate(
        fit,
        metric,
        outcome,
        rng=random_stream(data, stream),
        folds=plan.folds,
        repeats=plan.repeats,
        progress=progress,
    )
    return labelled(label, replace(found, performance=labelled(label, found.performance)))


def _cutoff(data: Data, progress: Progress) -> ValidatedCutoff:
    sample = data.sample(("score",), "binary")
    found = _cross_validate(
        "cut-off chosen in each fold",
        cut_fitter(sample, sample.design.columns[0]),
        lambda index, called: youden(sample.progressed[index], np.asarray(called, np.float64)),
        sample.progressed,
        data,
        stream=190,
        progress=progress.bar("cross-validation: cut-off"),
    )
    values = sample.design.iloc[:, 0].to_numpy(dtype=np.float64)
    apparent = attempt(roc.youden_cutoff, sample.progressed, values)
    return ValidatedCutoff(found, None if isinstance(apparent, NotDone) else apparent.point.youden)


def sentences(result: CrossValidated, _data: Data) -> list[str]:
    """Report the cross-validated performance."""
    found = [
        f"{item.label}: cross-validated AUC {estimate(item.auc.performance, 3)}."
        for item in result.models
        if not isinstance(item.auc, NotDone)
    ]
    if not isinstance(result.cutoff, NotDone):
        found.append(
            "A cut-off chosen anew in each fold had a Youden index of "
            f"{estimate(result.cutoff.youden_index.performance)}, against "
            f"{number(result.cutoff.apparent)} in the patients that chose it."
        )
    return found


def table(analysis: Analysis) -> Table | None:
    """Cross-validated and optimism-corrected performance."""
    crossed, boot = analysis.of(CROSS_VALIDATION), analysis.of(OPTIMISM)
    validated = () if isinstance(crossed, NotDone) else crossed.models
    corrected = () if isinstance(boot, NotDone) else boot.logistic
    by_name = {item.name: item for item in corrected}
    rows = [row for item in validated for row in _rows(item, item.auc, by_name.get(item.name))]
    known = {item.name for item in validated}
    rows += [row for item in corrected if item.name not in known for row in _rows(item, None, item)]
    if not isinstance(crossed, NotDone) and not isinstance(crossed.cutoff, NotDone):
        index = crossed.cutoff.youden_index.performance
        rows.append(
            (
                "Youden index of a cut-off chosen in each fold",
                str(index.n),
                number(crossed.cutoff.apparent, 3),
                estimate(index, 3),
                DASH,
            )
        )
    for item in () if isinstance(boot, NotDone) else boot.cox:
        part = item.harrell_c
        label = f"{item.label}: Harrell's C (Cox)"
        if isinstance(part, NotDone):
            rows.append((label, DASH, DASH, DASH, DASH))
            continue
        n, apparent = str(part.corrected.n), number(part.apparent, 3)
        rows.append((label, n, apparent, DASH, estimate(part.corrected, 3)))
    if not rows:
        return None
    plan = analysis.data.study.plan
    return Table(
        "validation",
        "Internal validation",
        (
            "Model and measure",
            "n",
            "Apparent",
            "Cross-validated (95 % CI)",
            "Optimism-corrected (95 % CI)",
        ),
        rows,
        f"{plan.folds}-fold stratified cross-validation, {plan.repeats} repeats, interval by "
        f"Nadeau and Bengio; {plan.bootstraps} bootstraps. Spline, selection and cut-off were "
        "chosen anew in every fold and bootstrap.",
    )


def _rows(
    item: ValidatedModel | CorrectedModel,
    crossed: resampling.CrossValidation | NotDone | None,
    boot: CorrectedModel | None,
) -> list[tuple[str, ...]]:
    """Write the AUC of a model, and its calibration slope where it was bootstrapped."""
    auc = None if boot is None or isinstance(boot.auc, NotDone) else boot.auc
    performance = None if isinstance(crossed, NotDone) or crossed is None else crossed.performance
    rows: list[tuple[str, ...]] = [
        (
            f"{item.label}: AUC",
            str(item.n),
            number(None if auc is None else auc.apparent, 3),
            estimate(performance, 3),
            estimate(None if auc is None else auc.corrected, 3),
        )
    ]
    slope = None if boot is None else boot.calibration_slope
    if slope is not None:
        label = f"{item.label}: calibration slope"
        apparent = DASH if isinstance(slope, NotDone) else number(slope.apparent, 3)
        rows.append((label, str(item.n), apparent, DASH, _slope(slope)))
    return rows


def _slope(slope: resampling.Optimism | NotDone) -> str:
    """Write a corrected slope, or its range where the mean is no result."""
    if isinstance(slope, NotDone):
        return DASH
    if not unstable(slope):
        return estimate(slope.corrected, 3)
    return f"not stable ({number(slope.lowest, 2)} to {number(slope.highest, 2)})"


CROSS_VALIDATION: Step[CrossValidated] = Step(
    "cross_validation",
    "Cross-validation",
    compute=lambda analysis, progress: cross_validate(analysis.data, progress),
    sentences=sentences,
    joint_tables=(table,),
    libraries=(*OWN, "scikit-learn"),
)
