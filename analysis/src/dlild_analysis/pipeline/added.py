"""Discrimination over time, concordance, and what the score adds to what was known."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.binary import signed
from dlild_analysis.pipeline.data import MEASURES, Data, Sample
from dlild_analysis.pipeline.step import attempt
from dlild_analysis.stats import cox, incremental, logistic, survival
from dlild_analysis.stats.arrays import FloatArray, horizon_among


def time_dependent_auc(data: Data) -> dict[str, Any]:
    """AUC over time of each measure, weighted for censoring, and the comparison at each horizon."""
    sample = data.sample((), "survival")
    names = data.available(MEASURES)
    if not names:
        raise NotDoneError("there is no score and no lung function")
    last = float(sample.time.max())
    grid = _grid(sample)
    curves = [
        {
            "name": name,
            "label": data.label(name),
            "months": grid,
            "auc": attempt(_auc_curve, data, name, grid),
        }
        for name in names
    ]
    horizons = [h for h in data.study.plan.horizons_months if horizon_among(h, sample.time) <= last]
    at = [
        {
            "horizon_months": h,
            "measures": [
                {"name": name, "label": data.label(name), "auc": attempt(_auc_at, data, name, h)}
                for name in names
            ],
        }
        for h in horizons
    ]
    comparisons = [
        {
            "horizon_months": h,
            "label": f"{data.label('score')} minus {data.label(name)}",
            "result": attempt(_compare_auc, data, name, h),
        }
        for h in horizons
        for name in names
        if name != "score" and "score" in names
    ]
    return {"at": at, "comparisons": comparisons, "curves": curves}


def _grid(sample: Sample) -> list[float]:
    """Choose up to twelve months between the early events and the end of most follow-up."""
    events = sample.time[sample.event == 1]
    low, high = (
        float(np.quantile(events, 0.1)),
        float(min(np.quantile(events, 0.95), sample.time.max() * 0.999)),
    )
    if high <= low:
        return [low]
    return [float(value) for value in np.unique(np.round(np.linspace(low, high, 12), 4))]


def _measure(data: Data, name: str) -> tuple[Sample, FloatArray]:
    sample = data.sample((name,), "survival")
    return sample, signed(data, sample, name)


def _auc_curve(data: Data, name: str, grid: list[float]) -> Any:
    sample, values = _measure(data, name)
    return list(survival.time_auc_curve(sample.time, sample.event, values, grid))


def _auc_at(data: Data, name: str, horizon: float) -> Any:
    sample, values = _measure(data, name)
    return survival.time_auc(sample.time, sample.event, values, horizon)


def _compare_auc(data: Data, name: str, horizon: float) -> Any:
    sample = data.sample(("score", name), "survival")
    a, b = signed(data, sample, "score"), signed(data, sample, name)
    return survival.compare_time_auc(sample.time, sample.event, a, b, horizon)


def concordances(data: Data) -> dict[str, Any]:
    """Harrell's and Uno's C of each measure, and the comparison with the score."""
    data.sample((), "survival")
    names = data.available(MEASURES)
    if not names:
        raise NotDoneError("there is no score and no lung function")
    return {
        "measures": [
            {
                "name": name,
                "label": data.label(name),
                "harrell": attempt(_c, data, name, "harrell"),
                "uno": attempt(_c, data, name, "uno"),
            }
            for name in names
        ],
        "comparisons": [
            {
                "label": f"{data.label('score')} minus {data.label(name)}",
                "harrell": attempt(_compare_c, data, name, "harrell"),
                "uno": attempt(_compare_c, data, name, "uno"),
            }
            for name in names
            if name != "score" and "score" in names
        ],
    }


def _c(data: Data, name: str, weight: str) -> Any:
    sample, values = _measure(data, name)
    if weight == "harrell":
        return survival.harrell_c(sample.time, sample.event, values)
    return survival.uno_c(sample.time, sample.event, values, horizon=_uno_limit(data, sample))


def _uno_limit(data: Data, sample: Sample) -> float:
    return min(data.study.plan.horizon, float(sample.time.max()))


def _compare_c(data: Data, name: str, weight: survival.Weight) -> Any:
    sample = data.sample(("score", name), "survival")
    a, b = signed(data, sample, "score"), signed(data, sample, name)
    limit = _uno_limit(data, sample) if weight == "uno" else None
    return survival.compare_concordance(
        sample.time, sample.event, a, b, weight=weight, horizon=limit
    )


def incremental_value(data: Data) -> dict[str, Any]:
    """Work out what the score adds to each model that was there before."""
    if not data.available(("score",)):
        raise NotDoneError("there is no score")
    covariates = tuple(data.study.plan.base)
    bases: list[tuple[str | None, tuple[str, ...]]] = [
        ("visual score", ("visual",)),
        ("lung function", ("fvc_percent", "dlco_percent")),
        ("clinical covariates", covariates),
        ("GAP points", ("gap",)),
        (None, ("visual", "fvc_percent", "dlco_percent", *covariates)),
    ]
    found = []
    for label, names in bases:
        there = tuple(dict.fromkeys(name for name in data.available(names) if name != "score"))
        if there and (label is not None or len(there) > 1):
            found.append(
                {
                    "base": label or f"all of these: {', '.join(map(data.label, there))}",
                    "columns": [data.label(name) for name in there],
                    "time_to_event": attempt(_added_survival, data, there),
                    "two_way": attempt(_added_binary, data, there),
                }
            )
    if not found:
        raise NotDoneError("there is nothing to add the score to")
    return {"models": found}


def _enough(events: float, parameters: int) -> None:
    if events < parameters:
        raise NotDoneError(f"{events:.0f} events are too few for {parameters} parameters")


def _added_survival(data: Data, base: tuple[str, ...]) -> dict[str, Any]:
    sample = data.sample((*base, "score"), "survival")
    _enough(float(sample.event.sum()), sample.design.shape[1])
    old_design = sample.design.drop(columns=[data.label("score")])
    old = cox.fit_cox(old_design, sample.time, sample.event)
    new = cox.fit_cox(sample.design, sample.time, sample.event)
    old_line, new_line = (
        cox.linear_predictor(old, old_design),
        cox.linear_predictor(new, sample.design),
    )
    return {
        "n": sample.n,
        "events": int(sample.event.sum()),
        "likelihood_ratio": incremental.likelihood_ratio_test(old, new),
        "concordance": attempt(
            survival.compare_concordance, sample.time, sample.event, new_line, old_line
        ),
        "note": "Both concordances are apparent; a larger model gains from being fitted to these "
        "patients.",
    }


def _added_binary(data: Data, base: tuple[str, ...]) -> dict[str, Any]:
    sample = data.sample((*base, "score"), "binary")
    _enough(
        float(min(sample.progressed.sum(), (1 - sample.progressed).sum())), sample.design.shape[1]
    )
    old_design = sample.design.drop(columns=[data.label("score")])
    old = logistic.fit_logistic(old_design, sample.progressed)
    new = logistic.fit_logistic(sample.design, sample.progressed)
    risks = [
        logistic.predict_logistic(fit, design).risk
        for fit, design in ((old, old_design), (new, sample.design))
    ]
    return {
        "n": sample.n,
        "events": int(sample.progressed.sum()),
        "likelihood_ratio": attempt(incremental.likelihood_ratio_test, old, new),
        "reclassification": attempt(
            incremental.reclassification, sample.progressed, risks[0], risks[1]
        ),
    }
