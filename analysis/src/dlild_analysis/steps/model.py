"""The progression model that a study saves: fitted, and described so that it can be read again."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.prediction import risk
from dlild_analysis.progression import DIED
from dlild_analysis.stats import cox
from dlild_analysis.stats.arrays import horizon_among, normal_quantile
from dlild_analysis.stats.results import to_plain
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.step import Analysis
from dlild_analysis.steps.validation.optimism import OPTIMISM

LEVEL = 0.95


def build_model(analysis: Analysis) -> dict[str, Any]:
    """Fit the progression model of a study and describe it so that it can be saved.

    A Cox model of `analysis.predictors`. Where death competes, the model predicts progression or
    death, whichever comes first: the risk of progression alone would need a model of death as well.

    Raises
    ------
    NotDoneError
        Too few events, or an estimate that is infinite.
    """
    data = analysis.data
    names = data.available(data.study.plan.predictors)
    if not names:
        raise NotDoneError("analysis.predictors names no covariate that the cohort has")
    sample = data.sample(names, "survival")
    event = sample.event | (sample.status == DIED)
    if event.sum() < sample.design.shape[1]:
        raise NotDoneError(
            f"{int(event.sum())} events are too few for {sample.design.shape[1]} parameters"
        )
    fit = cox.fit_cox(sample.design, sample.time, event)
    if (
        not np.isfinite([term.beta for term in fit.terms]).all()
        or not np.isfinite(fit.covariance).all()
    ):
        raise NotDoneError("a coefficient is infinite: the covariates rank the events perfectly")
    horizons = [
        h
        for h in data.study.plan.horizons_months
        if (at := _among(fit, h)) <= fit.last_time and fit.baseline_times[0] <= at
    ]
    if not horizons:
        raise NotDoneError("no horizon lies between the first event and the end of follow-up")
    return {
        "schema_version": risk.SCHEMA_VERSION,
        "kind": risk.KIND,
        "name": "progression",
        "version": 1,
        "research_use_only": True,
        "scan_model": data.cohort.scan_model or None,
        "outcome": _outcome_words(data),
        "time_origin": data.study.table.time_origin,
        "level": LEVEL,
        "quantile": normal_quantile(LEVEL),
        "inputs": [_input(data, sample, name) for name in names],
        "terms": [
            {
                "name": term.name,
                "label": term.label,
                "level": term.level,
                "beta": fit.terms[index].beta,
                "centre": float(fit.centre[index]),
            }
            for index, term in enumerate(sample.terms)
        ],
        "covariance": to_plain(fit.covariance),
        "baseline": [_baseline(fit, horizon) for horizon in horizons],
        "training": _training(analysis, sample, fit),
    }


def _outcome_words(data: Data) -> str:
    extra = (
        " Predicted: progression or death, whichever comes first." if data.outcome.competing else ""
    )
    return f"{data.outcome.statement}{extra}"


def _input(data: Data, sample: Sample, name: str) -> dict[str, Any]:
    covariate = data.study.covariate(name)
    measure = {"score": data.study.score, "visual": data.study.visual}.get(name)
    column = measure.column if measure else covariate.column if covariate else name
    base = {"name": name, "label": data.label(name), "column": column}
    if covariate is not None and covariate.kind == "category":
        seen = {str(value) for value in data.cohort.patients[name].iloc[sample.position]}
        return {
            **base,
            "kind": "category",
            "levels": [level for level in data.levels(name) if level in seen],
        }
    values = sample.design[data.label(name)].to_numpy(dtype=np.float64)
    return {
        **base,
        "kind": "number",
        "factor": measure.factor if measure else 1.0,
        "unit": _unit(data, name),
        "low": float(values.min()),
        "high": float(values.max()),
        "mean": float(values.mean()),
    }


def _unit(data: Data, name: str) -> str:
    covariate = data.study.covariate(name)
    if covariate is not None:
        return covariate.unit
    measure = {"score": data.study.score, "visual": data.study.visual}.get(name)
    return ("points" if measure.unit == "points" else "percent") if measure else "percent predicted"


def _among(fit: cox.CoxFit, horizon: float) -> float:
    return horizon_among(horizon, np.append(fit.baseline_times, fit.last_time))


def _baseline(fit: cox.CoxFit, horizon: float) -> dict[str, Any]:
    index = int(np.searchsorted(fit.baseline_times, _among(fit, horizon), side="right")) - 1
    return {
        "horizon_months": horizon,
        "cumulative_hazard": float(fit.baseline_hazard[index]),
        "variance": float(fit.baseline_variance[index]),
        "gradient": [float(value) for value in fit.baseline_gradient[index]],
    }


def _training(analysis: Analysis, sample: Sample, fit: cox.CoxFit) -> dict[str, Any]:
    corrected = analysis.of(OPTIMISM)
    models = () if isinstance(corrected, NotDone) else corrected.cox
    optimism = next((item.harrell_c for item in models if item.name == "full"), None)
    return {
        "study": analysis.data.study.title,
        "table": analysis.data.cohort.source,
        "rule": analysis.outcome.rule,
        "patients": fit.n,
        "left_out_for_missing_values": sample.missing,
        "events": fit.events,
        "events_per_parameter": fit.events_per_parameter,
        "last_follow_up_months": fit.last_time,
        "concordance_apparent": to_plain(fit.concordance),
        "concordance_optimism_corrected": None
        if optimism is None or isinstance(optimism, NotDone)
        else to_plain(optimism.corrected),
        "hazard_ratios": [to_plain(term.hazard_ratio) for term in fit.terms],
        "method": fit.method,
        "warnings": list(fit.warnings),
        "software": analysis.versions,
    }
