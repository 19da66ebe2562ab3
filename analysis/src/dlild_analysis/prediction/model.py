"""The progression model: fitted, saved as JSON, read again, applied to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlild_analysis.cohort.client_results import DIGEST
from dlild_analysis.cohort.tables import read_table
from dlild_analysis.errors import InputRejectedError, ModelFileError, NotDoneError
from dlild_analysis.pipeline.data import Data, Sample
from dlild_analysis.pipeline.run import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.prediction import risk
from dlild_analysis.progression import DIED
from dlild_analysis.stats import cox
from dlild_analysis.stats.arrays import horizon_among, normal_quantile
from dlild_analysis.stats.results import to_plain

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
    place = int(np.searchsorted(fit.baseline_times, _among(fit, horizon), side="right")) - 1
    return {
        "horizon_months": horizon,
        "cumulative_hazard": float(fit.baseline_hazard[place]),
        "variance": float(fit.baseline_variance[place]),
        "gradient": [float(value) for value in fit.baseline_gradient[place]],
    }


def _training(analysis: Analysis, sample: Sample, fit: cox.CoxFit) -> dict[str, Any]:
    optimism = next(
        (
            item["harrell_c"]
            for item in analysis.values("optimism").get("cox", [])
            if item["name"] == "full"
        ),
        None,
    )
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
        if optimism is None or failed(optimism)
        else to_plain(optimism.corrected),
        "hazard_ratios": [to_plain(term.hazard_ratio) for term in fit.terms],
        "method": fit.method,
        "warnings": list(fit.warnings),
        "software": analysis.versions,
    }


def read_model(path: Path) -> dict[str, Any]:
    """Read a saved progression model.

    Raises
    ------
    ModelFileError
        Not such a file, or of a version that this package does not read.
    """
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{path.name}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelFileError(f"{path.name}: not a saved model: {error}") from None
    if not isinstance(model, dict) or model.get("kind") != risk.KIND:
        raise ModelFileError(
            f"{path.name}: not a saved progression model (kind {risk.KIND!r} expected)"
        )
    if model.get("schema_version") != risk.SCHEMA_VERSION:
        raise ModelFileError(
            f"{path.name}: schema_version {model.get('schema_version')}; this package reads "
            f"{risk.SCHEMA_VERSION}"
        )
    lacking = [
        key for key in ("inputs", "terms", "covariance", "baseline", "quantile") if key not in model
    ]
    if lacking:
        raise ModelFileError(f"{path.name}: the model lacks {lacking[0]!r}")
    return model


def predict_table(model: dict[str, Any], path: Path, id_column: str = "id") -> pd.DataFrame:
    """Predict every patient of a table.

    Parameters
    ----------
    model : dict
        From `read_model` or `build_model`.
    path : Path
        CSV or Parquet with one column for each input, called by the input's name or by the column
        of the study that the model comes from, in that study's unit.
    id_column : str
        Column of the ids; rows are numbered where there is none.

    Returns
    -------
    DataFrame
        `id`, `risk_<h>_months`, `risk_<h>_low`, `risk_<h>_high` of each horizon, and `refused`:
        why there is no risk, empty where there is one.

    Raises
    ------
    InputRejectedError
        The table lacks an input.
    """
    table = read_table(path)
    columns = {}
    for item in model["inputs"]:
        found = next((name for name in (item["column"], item["name"]) if name in table), None)
        if found is None:
            there = ", ".join(str(name) for name in table.columns if name != "row")
            raise InputRejectedError(
                f"{path.name}: no column {item['column']!r} for the model's input "
                f"{item['name']!r}; it has: {there}"
            )
        columns[item["name"]] = found
    rows = []
    for record in table.to_dict("records"):
        identifier = record.get(id_column, f"row {record['row']}")
        rows.append({"id": identifier, **_one(model, columns, record)})
        other = _other_weights(model, record)
        if other:
            rows[-1] = {**dict.fromkeys(rows[-1]), "id": identifier, "refused": other}
    return pd.DataFrame(rows)


def _other_weights(model: dict[str, Any], record: dict[str, Any]) -> str:
    """Say that a patient's scan was scored by other weights than those of the fit."""
    digest, fitted = str(record.get(DIGEST) or "").strip(), model.get("scan_model")
    if not digest or not fitted or digest in fitted:
        return ""
    return f"scored with weights {digest}; the model was fitted on scores of {fitted}"


def _one(model: dict[str, Any], columns: dict[str, str], record: dict[str, Any]) -> dict[str, Any]:
    patient: dict[str, Any] = {}
    for item in model["inputs"]:
        value = record[columns[item["name"]]]
        text = "" if value is None else str(value).strip()
        if (
            item["kind"] == "number"
            and item["factor"] != 1.0
            and columns[item["name"]] == item["column"]
        ):
            try:
                patient[item["name"]] = float(text) * item["factor"]
            except ValueError:
                patient[item["name"]] = text
        else:
            patient[item["name"]] = text
    faults = risk.faults_of(model, patient)
    found = [] if faults else risk.risks(model, patient)
    row: dict[str, Any] = {}
    for index, base in enumerate(model["baseline"]):
        stem = f"risk_{base['horizon_months']:g}"
        values = found[index] if found else {"risk": None, "low": None, "high": None}
        row |= {
            f"{stem}_months": values["risk"],
            f"{stem}_low": values["low"],
            f"{stem}_high": values["high"],
        }
    return {**row, "refused": "; ".join(faults)}
