"""Optimism of AUC, calibration slope and Harrell's C by bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import logit

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import resampling, survival
from dlild_analysis.stats.arrays import FloatArray, IntArray, check_regressors
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import OPTIONAL
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cox.cox import check_events
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.presentation.text import estimate, joined, number
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.step import Step
from dlild_analysis.steps.validation.models import (
    Recipe,
    Refused,
    auc_metric,
    cox_fitter,
    fit_quickly,
    joint_label,
    labelled,
    random_stream,
    recipes,
    remembered,
)

LARGE_COHORT = 5_000
"""Patients above which no bootstrap refits splines and eliminations: it would take hours."""
WIDEST_SLOPE = 2.0


@dataclass(frozen=True)
class CorrectedModel:
    """A logistic model; the calibration slope of the main models only."""

    name: str
    label: str
    n: int
    auc: resampling.Optimism | NotDone
    calibration_slope: resampling.Optimism | NotDone | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class CorrectedCox:
    """A Cox model."""

    name: str
    label: str
    harrell_c: resampling.Optimism | NotDone


@dataclass(frozen=True)
class Corrected:
    """What the step found."""

    bootstraps: int
    logistic: tuple[CorrectedModel, ...]
    cox: tuple[CorrectedCox, ...]


def optimism(data: Data, progress: Progress) -> Corrected:
    """Bootstrap the optimism of AUC, calibration slope and Harrell's C."""
    score = f"{data.label('score')} alone"
    models = [
        CorrectedModel(item.name, item.label, 0, item.because)
        if isinstance(item, Refused)
        else _logistic(data, *item, 200 + index, progress)
        for index, item in enumerate(recipes(data))
    ]
    cox = [
        CorrectedCox(name, label, attempt(_cox, data, names, 280 + index, label, progress))
        for index, (name, label, names) in enumerate(
            (
                ("score", score, ("score",)),
                ("full", joint_label(data), data.study.plan.adjust),
            )
        )
    ]
    return Corrected(data.study.plan.bootstraps, tuple(models), tuple(cox))


def _logistic(
    data: Data, recipe: Recipe, sample: Sample, stream: int, progress: Progress
) -> CorrectedModel:
    if recipe.name in ("full_selected", "score_spline") and sample.n > LARGE_COHORT:
        because = (
            f"above {LARGE_COHORT:,} patients the bootstrap leaves out models that choose splines "
            "or covariates, for want of time; their cross-validation is complete"
        )
        return CorrectedModel(recipe.name, recipe.label, sample.n, NotDone(because))
    fit = remembered(recipe.fitter(sample))

    def corrected(
        metric: resampling.Metric, measure: str, shifted_interval: bool
    ) -> resampling.Optimism | NotDone:
        return attempt(
            _bootstrap,
            f"bootstrap {measure}: {recipe.label}",
            fit,
            metric,
            sample.progressed,
            data,
            stream=stream,
            progress=progress,
            shifted_interval=shifted_interval,
        )

    auc = corrected(auc_metric(sample), "AUC", True)
    slope = None
    if recipe.name in ("score", "full"):
        slope = _with_range(recipe.label, corrected(slope_metric(sample), "slope", False))
    return CorrectedModel(recipe.name, recipe.label, sample.n, auc, slope)


def _cox(
    data: Data, names: tuple[str, ...], stream: int, label: str, progress: Progress
) -> resampling.Optimism:
    there = data.available(names)
    if not there:
        raise NotDoneError("the cohort has none of its covariates")
    sample = data.sample(there, "survival")
    check_events(sample)
    check_regressors(sample.design.to_numpy(dtype=np.float64), tuple(sample.design.columns))
    return _bootstrap(
        f"bootstrap C: {label}",
        cox_fitter(sample),
        lambda index, prediction: survival.concordance_value(
            sample.time[index], sample.event[index], prediction
        ),
        sample.event,
        data,
        stream=stream,
        progress=progress,
    )


def _bootstrap(
    label: str,
    fit: resampling.Fit,
    metric: resampling.Metric,
    strata: np.ndarray,
    data: Data,
    *,
    stream: int,
    progress: Progress,
    shifted_interval: bool = True,
) -> resampling.Optimism:
    found = resampling.optimism_bootstrap(
        fit,
        metric,
        len(strata),
        rng=random_stream(data, stream),
        bootstraps=data.study.plan.bootstraps,
        strata=strata,
        shifted_interval=shifted_interval,
        progress=progress.bar(label),
    )
    return labelled(label, replace(found, corrected=labelled(label, found.corrected)))


def _with_range(label: str, slope: resampling.Optimism | NotDone) -> resampling.Optimism | NotDone:
    """Warn of a corrected slope that ranges widely over the bootstraps."""
    if isinstance(slope, NotDone) or not unstable(slope):
        return slope
    warning = (
        f"{label}: the corrected calibration slope ranges from {slope.lowest:.3g} to "
        f"{slope.highest:.3g} over the bootstraps; its mean is no result"
    )
    return replace(slope, warnings=(*slope.warnings, warning))


def unstable(slope: resampling.Optimism) -> bool:
    """Whether a corrected calibration slope ranges too widely for its mean to be a result.

    A slope of 0 or less means risks that rank patients the wrong way round.
    """
    return bool(slope.lowest <= 0 or slope.highest - slope.lowest > WIDEST_SLOPE)


def slope_metric(sample: Sample) -> resampling.Metric:
    """Slope of the outcome on the log odds of the prediction."""

    def metric(index: IntArray, prediction: FloatArray) -> float:
        odds = logit(np.clip(np.asarray(prediction, np.float64), 1e-9, 1 - 1e-9))
        if np.ptp(odds) == 0:
            raise StatisticsError("calibration slope: all predictions are equal")
        return float(fit_quickly(odds[:, None], sample.progressed[index]).beta[0])

    return metric


def sentences(result: Corrected, _data: Data) -> list[str]:
    """Report the corrected performance."""
    found = []
    for item in result.logistic:
        if item.name not in ("score", "full"):
            continue
        if not isinstance(item.auc, NotDone):
            found.append(_corrected(item.label, "AUC", item.auc))
        slope = item.calibration_slope
        if slope is not None and not isinstance(slope, NotDone):
            found.append(_corrected_slope(item.label, slope))
    found += [
        _corrected(item.label, "Harrell's C", item.harrell_c)
        for item in result.cox
        if not isinstance(item.harrell_c, NotDone)
    ]
    left_out: dict[str, list[str]] = {}
    for item in result.logistic:
        if isinstance(item.auc, NotDone):
            left_out.setdefault(item.auc.not_done_because, []).append(item.label)
    found += [f"Not bootstrapped: {joined(names)} ({why})." for why, names in left_out.items()]
    return found


def _corrected(label: str, measure: str, part: resampling.Optimism) -> str:
    return (
        f"{label}: {measure} {number(part.apparent, 3)} apparent, "
        f"{estimate(part.corrected, 3)} corrected."
    )


def _corrected_slope(label: str, part: resampling.Optimism) -> str:
    head = f"{label}: calibration slope {number(part.apparent, 3)} apparent, "
    spread = f"{number(part.lowest, 2)} to {number(part.highest, 2)} over the bootstraps"
    if unstable(part):
        return f"{head}corrected from {spread}: not stable, no mean is given."
    return f"{head}{estimate(part.corrected, 3)} corrected ({spread})."


OPTIMISM: Step[Corrected] = Step(
    "optimism",
    "Optimism by bootstrap",
    compute=lambda analysis, progress: optimism(analysis.data, progress),
    sentences=sentences,
)
