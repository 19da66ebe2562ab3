"""Validation: cross-validation, optimism, calibration, decision curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logit

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import Data, Sample
from dlild_analysis.pipeline.models import (
    cox_fitter,
    cut_fitter,
    fit_quickly,
    remembered,
    youden,
)
from dlild_analysis.pipeline.progress import Progress
from dlild_analysis.pipeline.recipes import Refused, all_recipes, joint_label
from dlild_analysis.pipeline.step import attempt, failed
from dlild_analysis.stats import resampling, roc, survival
from dlild_analysis.stats.arrays import FloatArray, IntArray, check_regressors
from dlild_analysis.stats.arrays import FloatArray as StatsArray
from dlild_analysis.stats.errors import StatisticsError

# Refitting splines and eliminations in every bootstrap of more patients takes hours.
CROWD = 5_000
WIDEST_SLOPE = 2.0


@dataclass
class Validation:
    """The validation steps of one run; they share cross-validated predictions.

    Attributes
    ----------
    seed : int
        Every step draws from its own stream of it, so that leaving one out changes no other.
    """

    seed: int
    progress: Progress

    def rng(self, stream: int) -> np.random.Generator:
        """Source of chance of one stream."""
        return np.random.default_rng([self.seed, stream])

    def cross_validation(self, data: Data) -> dict[str, Any]:
        """Repeated stratified cross-validation; knots, cut-offs and selection inside the folds."""
        data.sample((), "binary")
        plan = data.study.plan
        models: list[dict[str, Any]] = []
        for index, item in enumerate(all_recipes(data)):
            if isinstance(item, Refused):
                models.append(item.as_dict("auc"))
                continue
            recipe, sample = item
            models.append(
                {
                    "name": recipe.name,
                    "label": recipe.label,
                    "columns": list(recipe.columns),
                    "n": sample.n,
                    "auc": _named(
                        recipe.label,
                        resampling.cross_validate,
                        recipe.fitter(sample),
                        auc_metric(sample),
                        sample.progressed,
                        rng=self.rng(100 + index),
                        folds=plan.folds,
                        repeats=plan.repeats,
                        progress=self.progress.bar(f"cross-validation: {recipe.label}"),
                    ),
                }
            )
        if not models:
            raise NotDoneError("no model could be made")
        return {
            "folds": plan.folds,
            "repeats": plan.repeats,
            "models": models,
            "cutoff": attempt(self._cross_validated_cutoff, data),
        }

    def _cross_validated_cutoff(self, data: Data) -> dict[str, Any]:
        sample = data.sample(("score",), "binary")
        plan = data.study.plan
        found = _named(
            "cut-off chosen in each fold",
            resampling.cross_validate,
            cut_fitter(sample, sample.design.columns[0]),
            lambda index, called: youden(sample.progressed[index], np.asarray(called, np.float64)),
            sample.progressed,
            rng=self.rng(190),
            folds=plan.folds,
            repeats=plan.repeats,
            progress=self.progress.bar("cross-validation: cut-off"),
        )
        if failed(found):
            raise NotDoneError(found["not_done_because"])
        values = sample.design.iloc[:, 0].to_numpy(dtype=np.float64)
        apparent = attempt(roc.youden_cutoff, sample.progressed, values)
        return {
            "youden_index": found,
            "apparent": None if failed(apparent) else apparent.point.youden,
        }

    def optimism(self, data: Data) -> dict[str, Any]:
        """Bootstrap the optimism of AUC, calibration slope and Harrell's C."""
        plan = data.study.plan
        models: list[dict[str, Any]] = []
        for index, item in enumerate(all_recipes(data)):
            if isinstance(item, Refused):
                models.append(item.as_dict("auc"))
                continue
            recipe, sample = item
            if recipe.name in ("full_selected", "score_spline") and sample.n > CROWD:
                because = (
                    f"above {CROWD:,} patients the bootstrap leaves out models that choose splines "
                    "or covariates, for want of time; their cross-validation is complete"
                )
                models.append(
                    {
                        "name": recipe.name,
                        "label": recipe.label,
                        "n": sample.n,
                        "auc": {"not_done_because": because},
                    }
                )
                continue
            fit = remembered(recipe.fitter(sample))
            models.append(
                {
                    "name": recipe.name,
                    "label": recipe.label,
                    "n": sample.n,
                    "auc": self._optimism(
                        fit,
                        auc_metric(sample),
                        sample.n,
                        stream=200 + index,
                        bootstraps=plan.bootstraps,
                        label=f"bootstrap AUC: {recipe.label}",
                        strata=sample.progressed,
                    ),
                }
            )
            if recipe.name in ("score", "full"):
                models[-1]["calibration_slope"] = _with_range(
                    recipe.label,
                    self._optimism(
                        fit,
                        slope_metric(sample),
                        sample.n,
                        stream=200 + index,
                        bootstraps=plan.bootstraps,
                        label=f"bootstrap slope: {recipe.label}",
                        strata=sample.progressed,
                        shifted_interval=False,
                    ),
                )
        survival = [
            {
                "name": name,
                "label": label,
                "harrell_c": attempt(self._cox_optimism, data, names, 280 + index, label),
            }
            for index, (name, label, names) in enumerate(
                (
                    ("score", f"{data.label('score')} alone", ("score",)),
                    ("full", joint_label(data), plan.adjust),
                )
            )
        ]
        return {"bootstraps": plan.bootstraps, "logistic": models, "cox": survival}

    def _cox_optimism(self, data: Data, names: tuple[str, ...], stream: int, label: str) -> Any:
        there = data.available(names)
        if not there:
            raise NotDoneError("the cohort has none of its covariates")
        sample = data.sample(there, "survival")
        if sample.event.sum() < sample.design.shape[1]:
            raise NotDoneError(
                f"{sample.event.sum()} events are too few for {sample.design.shape[1]} parameters"
            )
        check_regressors(sample.design.to_numpy(dtype=np.float64), tuple(sample.design.columns))

        def metric(index: np.ndarray, prediction: FloatArray) -> float:
            return survival.concordance_value(sample.time[index], sample.event[index], prediction)

        return self._optimism(
            cox_fitter(sample),
            metric,
            sample.n,
            stream=stream,
            bootstraps=data.study.plan.bootstraps,
            label=f"bootstrap C: {label}",
            strata=sample.event,
        )

    def _optimism(
        self,
        fit: Any,
        metric: Any,
        n: int,
        *,
        stream: int,
        bootstraps: int,
        label: str,
        strata: Any,
        shifted_interval: bool = True,
    ) -> Any:
        return _named(
            label,
            resampling.optimism_bootstrap,
            fit,
            metric,
            n,
            rng=self.rng(stream),
            bootstraps=bootstraps,
            strata=strata,
            shifted_interval=shifted_interval,
            progress=self.progress.bar(label),
        )


def _named(label: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call as `attempt` does, and say in every warning which model it speaks of."""
    found = attempt(call, *args, **kwargs)
    if failed(found):
        return found
    part = "corrected" if isinstance(found, resampling.Optimism) else "performance"
    inner = getattr(found, part)
    return replace(
        found,
        warnings=tuple(f"{label}: {text}" for text in found.warnings),
        **{part: replace(inner, warnings=tuple(f"{label}: {text}" for text in inner.warnings))},
    )


def _with_range(label: str, slope: Any) -> Any:
    """Warn of a corrected slope that ranges widely over the bootstraps."""
    if failed(slope) or not unstable(slope):
        return slope
    told = (
        f"{label}: the corrected calibration slope ranges from {slope.lowest:.3g} to "
        f"{slope.highest:.3g} over the bootstraps; its mean is no result"
    )
    return replace(slope, warnings=(*slope.warnings, told))


def unstable(slope: Any) -> bool:
    """Whether a corrected calibration slope ranges too widely for its mean to be a result.

    A slope of 0 or less means risks that rank patients the wrong way round.
    """
    return bool(slope.lowest <= 0 or slope.highest - slope.lowest > WIDEST_SLOPE)


def auc_metric(sample: Sample) -> resampling.Metric:
    """AUC of predictions."""
    return lambda index, prediction: roc.auc_value(sample.progressed[index], prediction)


def slope_metric(sample: Sample) -> resampling.Metric:
    """Slope of the outcome on the log odds of the prediction."""

    def metric(index: IntArray, prediction: StatsArray) -> float:
        odds = logit(np.clip(np.asarray(prediction, np.float64), 1e-9, 1 - 1e-9))
        if np.ptp(odds) == 0:
            raise StatisticsError("calibration slope: all predictions are equal")
        return float(fit_quickly(odds[:, None], sample.progressed[index]).beta[0])

    return metric
