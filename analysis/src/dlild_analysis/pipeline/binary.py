"""The two-way outcome at the last horizon: logistic regression and ROC curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import MEASURES, PROTECTIVE, Data, Sample
from dlild_analysis.pipeline.recipes import fittable
from dlild_analysis.pipeline.step import attempt, failed
from dlild_analysis.stats import logistic, roc
from dlild_analysis.stats.arrays import FloatArray, horizon_among


def logistic_models(data: Data) -> dict[str, Any]:
    """Uni- and multivariable logistic regression, with linearity of the measures."""
    plan = data.study.plan
    candidates = data.available((*MEASURES, *(item.name for item in data.study.covariates)))
    if not candidates:
        raise NotDoneError("there is no covariate")
    data.sample((), "binary")
    univariable = [
        {"name": name, "label": data.label(name), "fit": attempt(_fit, data, (name,))}
        for name in candidates
    ]
    wanted = data.available(plan.adjust)
    multivariable = (
        attempt(_fit, data, wanted)
        if len(wanted) > 1
        else {"not_done_because": "it needs at least two of the covariates in analysis.adjust"}
    )
    linear = [
        {"name": name, "label": data.label(name), "test": attempt(_linearity, data, name)}
        for name in candidates
        if _is_number(data, name)
    ]
    return {
        "outcome": f"progression by {plan.horizon:g} months, in patients whose status there is "
        "known",
        "univariable": univariable,
        "multivariable": multivariable,
        "adjusted_for": [data.label(name) for name in wanted],
        "linearity": linear,
    }


def _is_number(data: Data, name: str) -> bool:
    covariate = data.study.covariate(name)
    return covariate is None or covariate.kind == "number"


def _fit(data: Data, names: tuple[str, ...]) -> dict[str, Any]:
    sample = fittable(data, names)
    fit = logistic.fit_logistic(sample.design, sample.progressed)
    return {"model": fit, "missing": sample.missing}


def _linearity(data: Data, name: str) -> Any:
    sample = data.sample((name,), "binary")
    return logistic.linearity_test(
        sample.design.iloc[:, 0].to_numpy(), sample.progressed, name=data.label(name)
    )


def roc_curves(data: Data) -> dict[str, Any]:
    """ROC curves of the scores and of lung function, the paired comparison, and the cut-off.

    Lung function is turned round (a lower value means progression is likelier).
    """
    data.sample((), "binary")
    names = data.available(MEASURES)
    if not names:
        raise NotDoneError("there is no score and no lung function")
    curves = []
    for name in names:
        part = attempt(_one_curve, data, name)
        curves.append(
            {
                "name": name,
                "label": data.label(name),
                "turned_round": name in PROTECTIVE,
                "result": part,
            }
        )
    comparisons = [
        {
            "a": "score",
            "b": name,
            "label": f"{data.label('score')} minus {data.label(name)}",
            "result": attempt(_compare, data, name),
        }
        for name in names
        if name != "score" and "score" in names
    ]
    return {
        "horizon_months": data.study.plan.horizon,
        "curves": curves,
        "comparisons": comparisons,
        "cutoff": attempt(choose_cutoff, data),
    }


def signed(data: Data, sample: Sample, name: str) -> FloatArray:
    """Take a measure so that a higher value means progression is likelier."""
    values = np.asarray(sample.design[data.label(name)], dtype=np.float64)
    return -values if name in PROTECTIVE else values


def _one_curve(data: Data, name: str) -> dict[str, Any]:
    sample = data.sample((name,), "binary")
    values = signed(data, sample, name)
    return {
        "auc": roc.auc(sample.progressed, values),
        "auc_logit_interval": roc.auc(sample.progressed, values, interval="logit"),
        "curve": roc.roc_curve(sample.progressed, values),
        "youden": attempt(roc.youden_cutoff, sample.progressed, values),
    }


def _compare(data: Data, name: str) -> Any:
    sample = data.sample(("score", name), "binary")
    return roc.compare_auc_paired(
        sample.progressed, signed(data, sample, "score"), signed(data, sample, name)
    )


def choose_cutoff(data: Data) -> dict[str, Any]:
    """Set the cut-off of the score as the study asks; the median where Youden's cannot be had."""
    groups = data.study.plan.groups
    score = data.column("score")
    known = score[np.isfinite(score)]
    note = ""
    if groups == "youden":
        found = attempt(_youden, data)
        if failed(found):
            note = (
                f"Youden's cut-off could not be had ({found['not_done_because']}); the median "
                "is used"
            )
            groups = "median"
        else:
            data.cutoff, data.cutoff_origin = float(found.cutoff), "Youden index"
    if groups == "median":
        data.cutoff, data.cutoff_origin = float(np.median(known)), "median"
    elif groups != "youden":
        data.cutoff, data.cutoff_origin = _given(data, float(groups)), "given by the study"
    assert data.cutoff is not None
    data.cutoff = horizon_among(data.cutoff, known)
    values: dict[str, Any] = {
        "cutoff": data.cutoff,
        "origin": data.cutoff_origin,
        "high": int((known >= data.cutoff).sum()),
        "low": int((known < data.cutoff).sum()),
        "warnings": [*([note] if note else []), *_how_read(data)],
    }
    if data.cutoff_origin == "Youden index":
        values["warnings"].append(
            "The cut-off was chosen in the same patients in whom it is used: what follows for "
            "high against low is optimistic; see the sensitivity of the cut-off."
        )
    sample = attempt(data.sample, ("score",), "binary")
    if not failed(sample):
        values["operating_point"] = attempt(
            roc.operating_point, sample.progressed, signed(data, sample, "score"), data.cutoff
        )
    return values


def _given(data: Data, cutoff: float) -> float:
    """Bring a cut-off that the study gives in the unit of its column to percent.

    No fraction lies above 1: a cut-off that does can only be percent.
    """
    measure = data.study.score
    fraction = measure is not None and measure.unit == "fraction" and abs(cutoff) <= 1.0
    return cutoff * measure.factor if measure and fraction else cutoff


def _how_read(data: Data) -> list[str]:
    """Say how a cut-off that the study gives was read, where another reading comes to mind."""
    groups, measure = data.study.plan.groups, data.study.score
    if isinstance(groups, str) or measure is None or data.cutoff is None:
        return []
    if measure.unit == "fraction":
        return [f"The cut-off {groups:g} of analysis.groups was read as {data.cutoff:.6g} %."]
    if measure.unit == "percent" and 0 < abs(groups) < 1:
        told = (
            f"The cut-off {groups:g} of analysis.groups was read as {groups:g} %, the unit of the "
            f"score; for {groups:.0%} of the lung write {100 * groups:g}."
        )
        return [told]
    return []


def _youden(data: Data) -> Any:
    sample = data.sample(("score",), "binary")
    return roc.youden_cutoff(sample.progressed, signed(data, sample, "score"))
