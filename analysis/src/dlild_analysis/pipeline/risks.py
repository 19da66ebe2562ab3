"""Calibration and decision curves of risks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import Data
from dlild_analysis.pipeline.recipes import recipes
from dlild_analysis.pipeline.step import attempt, failed
from dlild_analysis.stats import calibration, cox
from dlild_analysis.stats.arrays import FloatArray

THRESHOLDS: FloatArray = np.round(np.arange(0.05, 0.651, 0.01), 4)


def calibrated(data: Data, cross_validated: dict[str, Any]) -> dict[str, Any]:
    """Calibrate cross-validated risks, and the Cox model's risks at each horizon."""
    by_name = {model["name"]: model for model in cross_validated.get("models", [])}
    binary = []
    for recipe, sample in recipes(data):
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


def decisions(data: Data, cross_validated: dict[str, Any]) -> dict[str, Any]:
    """Decision curves of cross-validated risks."""
    by_name = {model["name"]: model for model in cross_validated.get("models", [])}
    curves = []
    for recipe, sample in recipes(data):
        result = by_name.get(recipe.name, {}).get("auc")
        if recipe.name not in ("score", "visual", "full") or result is None or failed(result):
            continue
        curves.append(
            {
                "name": recipe.name,
                "label": recipe.label,
                "n": sample.n,
                "result": attempt(
                    calibration.decision_curve,
                    sample.progressed,
                    _inside(result.predictions),
                    THRESHOLDS,
                ),
            }
        )
    if not curves:
        raise NotDoneError("no model gave cross-validated risks")
    return {"risks": "cross-validated, mean over repeats", "curves": curves}


def _inside(risk: FloatArray) -> FloatArray:
    return np.clip(risk, 0.0, 1.0)


def _calibrate_cox(data: Data, horizon: float) -> Any:
    names = data.available(data.study.plan.adjust) or data.available(("score",))
    sample = data.sample(names, "survival")
    fit = cox.fit_cox(sample.design, sample.time, sample.event)
    risk = cox.predict_cox(fit, sample.design, horizon).risk
    return calibration.calibrate_survival(sample.time, sample.event, risk, horizon)
