"""Validation: cross-validation, optimism, calibration, decision curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from dlild_analysis.errors import NotDoneError
from dlild_analysis.faults import FloatArray
from dlild_analysis.pipeline.data import Data, Sample
from dlild_analysis.pipeline.models import Recipe, cox_fitter, cut_fitter, fit_quickly, youden
from dlild_analysis.pipeline.progress import Progress
from dlild_analysis.pipeline.step import attempt, failed
from dlild_analysis.stats import calibration, concordance, cox, decision, resampling, roc
from dlild_analysis.stats.errors import StatisticsError

THRESHOLDS: FloatArray = np.round(np.arange(0.05, 0.651, 0.01), 4)


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

    def recipes(self, data: Data) -> list[tuple[Recipe, Sample]]:
        """List the models that are validated, each with its patients."""
        found = []
        plan = data.study.plan
        wanted: list[tuple[str, str, tuple[str, ...], bool, bool]] = [
            ("score", f"{data.label('score')} alone", ("score",), False, False),
            ("score_spline", f"{data.label('score')}, straight or spline", ("score",), True, False),
            ("visual", f"{data.label('visual')} alone", ("visual",), False, False),
            ("full", _joint_label(data), plan.adjust, False, False),
            (
                "full_selected",
                f"{_joint_label(data)}, backward elimination",
                plan.adjust,
                False,
                True,
            ),
        ]
        for name, label, names, spline, select in wanted:
            there = data.available(names)
            if not there or (name.startswith("full") and len(there) < 2):
                continue
            sample = attempt(data.sample, there, "binary")
            if failed(sample):
                continue
            columns = tuple(sample.design.columns)
            found.append(
                (Recipe(name, label, columns, columns[0] if spline else None, select), sample)
            )
        return found

    def cross_validation(self, data: Data) -> dict[str, Any]:
        """Repeated stratified cross-validation; knots, cut-offs and selection inside the folds."""
        data.sample((), "binary")
        plan = data.study.plan
        models = []
        for index, (recipe, sample) in enumerate(self.recipes(data)):
            models.append(
                {
                    "name": recipe.name,
                    "label": recipe.label,
                    "columns": list(recipe.columns),
                    "n": sample.n,
                    "auc": attempt(
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
        found = resampling.cross_validate(
            cut_fitter(sample, sample.design.columns[0]),
            lambda index, called: youden(sample.progressed[index], called),
            sample.progressed,
            rng=self.rng(190),
            folds=plan.folds,
            repeats=plan.repeats,
            progress=self.progress.bar("cross-validation: cut-off"),
        )
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
        for index, (recipe, sample) in enumerate(self.recipes(data)):
            if recipe.name == "full_selected" and sample.n > 5_000:
                continue
            models.append(
                {
                    "name": recipe.name,
                    "label": recipe.label,
                    "n": sample.n,
                    "auc": self._optimism(
                        recipe.fitter(sample),
                        auc_metric(sample),
                        sample.n,
                        200 + index,
                        plan.bootstraps,
                        f"bootstrap AUC: {recipe.label}",
                        sample.progressed,
                    ),
                }
            )
            if recipe.name in ("score", "full"):
                models[-1]["calibration_slope"] = self._optimism(
                    recipe.fitter(sample),
                    slope_metric(sample),
                    sample.n,
                    240 + index,
                    plan.bootstraps,
                    f"bootstrap slope: {recipe.label}",
                    sample.progressed,
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
                    ("full", _joint_label(data), plan.adjust),
                )
            )
        ]
        return {"bootstraps": plan.bootstraps, "logistic": models, "cox": survival}

    def _cox_optimism(self, data: Data, names: tuple[str, ...], stream: int, label: str) -> Any:
        there = data.available(names)
        if not there:
            raise NotDoneError("the cohort has none of its covariates")
        sample = data.sample(there, "survival")

        def metric(index: np.ndarray, prediction: FloatArray) -> float:
            return concordance.concordance_value(
                sample.time[index], sample.event[index], prediction
            )

        return self._optimism(
            cox_fitter(sample),
            metric,
            sample.n,
            stream,
            data.study.plan.bootstraps,
            f"bootstrap C: {label}",
            sample.event,
        )

    def _optimism(
        self, fit: Any, metric: Any, n: int, stream: int, bootstraps: int, label: str, strata: Any
    ) -> Any:
        return attempt(
            resampling.optimism_bootstrap,
            fit,
            metric,
            n,
            rng=self.rng(stream),
            bootstraps=bootstraps,
            strata=strata,
            progress=self.progress.bar(label),
        )

    def calibrated(self, data: Data, cross_validated: dict[str, Any]) -> dict[str, Any]:
        """Calibrate cross-validated risks, and the Cox model's risks at each horizon."""
        by_name = {model["name"]: model for model in cross_validated.get("models", [])}
        binary = []
        for recipe, sample in self.recipes(data):
            result = by_name.get(recipe.name, {}).get("auc")
            if recipe.name not in ("score", "full") or result is None or failed(result):
                continue
            binary.append(
                {
                    "name": recipe.name,
                    "label": recipe.label,
                    "risks": "cross-validated, mean over repeats",
                    "result": attempt(
                        calibration.calibrate_binary, sample.progressed, _inside(result.predictions)
                    ),
                }
            )
        survival = [
            {
                "horizon_months": horizon,
                "label": f"Cox model, {horizon:g} months",
                "risks": "apparent",
                "result": attempt(_calibrate_cox, data, horizon),
            }
            for horizon in data.study.plan.horizons_months
        ]
        if not binary and all(failed(item["result"]) for item in survival):
            raise NotDoneError("no model gave risks")
        return {"binary": binary, "survival": survival}

    def decisions(self, data: Data, cross_validated: dict[str, Any]) -> dict[str, Any]:
        """Decision curves of cross-validated risks."""
        by_name = {model["name"]: model for model in cross_validated.get("models", [])}
        curves = []
        for recipe, sample in self.recipes(data):
            result = by_name.get(recipe.name, {}).get("auc")
            if recipe.name not in ("score", "visual", "full") or result is None or failed(result):
                continue
            curves.append(
                {
                    "name": recipe.name,
                    "label": recipe.label,
                    "n": sample.n,
                    "result": attempt(
                        decision.decision_curve,
                        sample.progressed,
                        _inside(result.predictions),
                        THRESHOLDS,
                    ),
                }
            )
        if not curves:
            raise NotDoneError("no model gave cross-validated risks")
        return {"risks": "cross-validated, mean over repeats", "curves": curves}


def _joint_label(data: Data) -> str:
    """Name the multivariable model by its covariates."""
    names = [data.label(name) for name in data.available(data.study.plan.adjust)]
    return (
        " + ".join(names) if len(names) <= 4 else f"{' + '.join(names[:3])} + {len(names) - 3} more"
    )


def _inside(risk: FloatArray) -> FloatArray:
    return np.clip(risk, 0.0, 1.0)


def auc_metric(sample: Sample) -> resampling.Metric:
    """AUC of predictions."""
    return lambda index, prediction: roc.auc_value(sample.progressed[index], prediction)


def slope_metric(sample: Sample) -> resampling.Metric:
    """Slope of the outcome on the log odds of the prediction."""

    def metric(index: np.ndarray, prediction: FloatArray) -> float:
        odds = logit(np.clip(prediction, 1e-9, 1 - 1e-9))
        if np.ptp(odds) == 0:
            raise StatisticsError("calibration slope: all predictions are equal")
        return float(fit_quickly(odds[:, None], sample.progressed[index]).beta[0])

    return metric


def _calibrate_cox(data: Data, horizon: float) -> Any:
    names = data.available(data.study.plan.adjust) or data.available(("score",))
    sample = data.sample(names, "survival")
    fit = cox.fit_cox(sample.design, sample.time, sample.event)
    risk = cox.predict_cox(fit, sample.design, horizon).risk
    return calibration.calibrate_survival(sample.time, sample.event, risk, horizon)
