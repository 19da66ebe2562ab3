"""TRIPOD+AI and CLAIM: filled with what this analysis knows, marked where it does not."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

import numpy as np

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.report.methods import missing_values
from dlild_analysis.report.text import estimate, joined

UNKNOWN = "To be written by the authors: this software does not know it."


@dataclass(frozen=True)
class Item:
    """One item: what it asks, and what is known."""

    number: str
    topic: str
    asks: str
    answer: str
    known: bool


@dataclass(frozen=True)
class Checklist:
    """A filled checklist."""

    name: str
    title: str
    source: str
    items: list[Item]

    @property
    def known(self) -> int:
        """How many items are filled."""
        return sum(item.known for item in self.items)


def checklists(analysis: Analysis, has_model: bool) -> list[Checklist]:
    """Fill both checklists."""
    answers = {**_design(analysis), **_methods(analysis), **_results(analysis, has_model)}
    found = []
    for name in ("tripod_ai", "claim"):
        text = (
            resources.files("dlild_analysis") / "report" / "templates" / f"{name}.toml"
        ).read_text("utf-8")
        data = tomllib.loads(text)
        items = []
        for item in data["item"]:
            answer = answers.get(item["fill"], "")
            items.append(
                Item(item["number"], item["topic"], item["asks"], answer or UNKNOWN, bool(answer))
            )
        found.append(Checklist(name, data["title"], data["source"], items))
    return found


def _design(analysis: Analysis) -> dict[str, str]:
    study, cohort = analysis.data.study, analysis.data.cohort
    setting = study.setting
    rejected = len(cohort.notes) + len(analysis.outcome.notes)
    return {
        "title": f'"{study.title}" is the title given to this analysis; check that it names '
        "model, population and outcome.",
        "objective": "Association, development and internal validation; nothing here is an "
        "external evaluation.",
        "design": setting.get("design", ""),
        "data": f"One table, {cohort.source}, of {len(cohort.patients)} patients."
        + (f" {setting['setting']}." if "setting" in setting else ""),
        "setting": setting.get("setting", ""),
        "scanner": setting.get("scanner", ""),
        "ethics": setting.get("ethics", ""),
        "funding": setting.get("funding", ""),
        "dates": f"Follow-up counts from {study.table.time_origin}; calendar dates are not in the "
        "table."
        if study.table.time_origin
        else "",
        "eligibility": "",
        "preparation": "Every cell was checked for type, range, unit and order in time; "
        f"{rejected} notes are in the report.",
        "selection": "All patients of the table that have a known outcome; see the flow.",
        "code": "dlild-analysis, Apache-2.0; versions are in results.json.",
        "software": "; ".join(f"{name} {version}" for name, version in analysis.versions.items()),
    }


def _methods(analysis: Analysis) -> dict[str, str]:
    study, plan = analysis.data.study, analysis.data.study.plan
    names = joined([analysis.data.label(name) for name in analysis.data.available(plan.adjust)])
    size = analysis.values("sample_size").get("time_to_event")
    measured = [
        f"{item.label}{f' ({item.unit})' if item.unit else ''}" for item in study.covariates
    ]
    measured += [f"{item.label} ({item.unit})" for item in (study.score, study.visual) if item]
    return {
        "outcome": f"{analysis.outcome.statement} Horizons: "
        f"{joined([f'{h:g}' for h in plan.horizons_months])} months.",
        "rule_source": f"{analysis.outcome.title}. {analysis.outcome.source}",
        "predictors": f"Chosen before the analysis, in the study's TOML: {names}." if names else "",
        "predictor_measurement": f"{joined(measured)}. How each was measured is for the authors "
        "to add."
        if measured
        else "",
        "sample_size": size.statement if size is not None and not failed(size) else "",
        "missing": missing_values(study),
        "resampling": f"{plan.folds}-fold stratified cross-validation repeated {plan.repeats} "
        f"times, and {plan.bootstraps} bootstraps for optimism; no part was held out.",
        "disjoint": "Patients: every patient is in one row of the table, and in one fold of each "
        "repeat.",
        "form": "Numbers entered as straight lines, categories as indicators; linearity was "
        "tested with restricted cubic splines.",
        "model_type": "Logistic regression (Firth's where events are few or separated) and Cox "
        "regression (Efron); choices of spline, selection and cut-off were repeated inside each "
        "fold and bootstrap.",
        "measures": "AUC (DeLong), time-dependent AUC with censoring weights, Harrell's and Uno's "
        "C, calibration slope, intercept, ICI and curve, Brier score, net benefit.",
        "uncertainty": "95 % intervals beside every estimate; two-sided P, not adjusted for "
        "multiplicity.",
        "updating": "None was done.",
        "prediction": "Risk from the saved model's coefficients and baseline hazard (model.json).",
        "imbalance": "No re-sampling or weighting of classes.",
        "output": "Probability of progression by each horizon with a 95 % interval; high and low "
        f"groups by {analysis.data.cutoff_origin or 'no cut-off'}.",
        "same_data": "Development and evaluation share the same patients, by resampling.",
        "image_processing": "Done by the DL-ILD client and server; see the model card of the "
        "scoring model.",
        "scan_model": "DL-ILD comes from a 3D U-Net; see the model card of the scoring model.",
    }


def _results(analysis: Analysis, has_model: bool) -> dict[str, str]:
    first = analysis.values("table_one")
    crossed = analysis.values("cross_validation").get("models", [])
    areas = [
        f"{item['label']}: AUC {estimate(item['auc'].performance, 3)}"
        for item in crossed
        if not failed(item["auc"])
    ]
    own = [
        item
        for item in analysis.values("roc").get("curves", [])
        if item["name"] == "score" and not failed(item["result"])
    ]
    agreement = analysis.values("agreement")
    icc = agreement.get("icc")
    known = int(np.isfinite(analysis.outcome.time).sum())
    limits = sorted({warning for step in analysis.steps.values() for warning in step.warnings})
    return {
        "flow": f"{len(analysis.data.cohort.patients)} patients in the table, {known} with a "
        f"known outcome, {first['status_known_at_horizon']} with known status at "
        f"{first['horizon_months']:g} months, {analysis.outcome.events} events."
        if first
        else "",
        "table_one": "Table 1." if first else "",
        "events": "n and events stand beside every model in the tables.",
        "specification": "model.json holds coefficients, covariance and baseline hazard."
        if has_model
        else "",
        "performance": f"Cross-validated: {'; '.join(areas)}. Performance in groups of patients "
        "is not known."
        if areas
        else "",
        "accuracy": f"AUC of {analysis.data.label('score')}: "
        f"{estimate(own[0]['result']['auc'], 3)}."
        if own
        else "",
        "agreement": f"ICC(2,1) {estimate(icc.icc_2_1, 3)}."
        if icc is not None and not failed(icc)
        else "",
        "robustness": "Every cut-off, and where asked every progression rule; see the report.",
        "external": "None: there is no external test in this analysis.",
        "limits": f"No external test. {' '.join(limits[:4])}".strip(),
        "input_quality": "The model refuses missing values and values outside the range of its "
        "data."
        if has_model
        else "",
        "intended_use": "Research use only.",
    }
