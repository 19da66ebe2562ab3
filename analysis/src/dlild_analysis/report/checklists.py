"""TRIPOD+AI and CLAIM: filled with what this analysis knows, marked where it does not."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from dlild_analysis.report.methods import missing_values
from dlild_analysis.steps import Analysis
from dlild_analysis.steps.agreement.agreement import AGREEMENT
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.discrimination.concordance import CONCORDANCE
from dlild_analysis.steps.discrimination.time_auc import TIME_AUC
from dlild_analysis.steps.logistic.logistic import LOGISTIC
from dlild_analysis.steps.patients.flow import FLOW
from dlild_analysis.steps.patients.sample_size import SAMPLE_SIZE
from dlild_analysis.steps.patients.table_one import TABLE_ONE
from dlild_analysis.steps.presentation.text import estimate, joined
from dlild_analysis.steps.roc.roc import ROC
from dlild_analysis.steps.sensitivity.cutoffs import CUTOFFS
from dlild_analysis.steps.sensitivity.rules import RULES
from dlild_analysis.steps.step import Step
from dlild_analysis.steps.validation.calibration import CALIBRATION
from dlild_analysis.steps.validation.cross_validation import CROSS_VALIDATION
from dlild_analysis.steps.validation.decision_curves import DECISION_CURVES
from dlild_analysis.steps.validation.optimism import OPTIMISM

UNKNOWN = "To be written by the authors: this software does not know it."
REST = "For the authors to add: "


RESTS = {
    "title": "whether the title names model, population and outcome",
    "objective": "the aims, and whether they were set before the data were seen",
    "data": "where the patients come from, how they were chosen for the table, and whom they stand "
    "for",
    "dates": "the calendar dates",
    "preparation": "what was done to the data before they became this table",
    "selection": "who was left out before the table was made",
    "outcome": "how, by whom and how often the outcome was assessed",
    "rule_source": "why this definition was chosen",
    "predictors": "why these, and whether they were chosen before the data were seen",
    "predictor_measurement": "how, when and by whom each was measured",
    "sample_size": "the size that was intended, and its basis",
    "missing": "why values are missing",
    "disjoint": "whether two ids may be one patient, and scans of one patient in two rows",
    "form": "why these forms",
    "measures": "why these",
    "output": "the reason for the thresholds",
    "same_data": "differences in time, place and practice, if the model is used elsewhere",
    "flow": "who was seen, asked or scanned and is not in the table",
    "performance": "performance in key groups of patients",
    "robustness": "what else was tried",
    "limits": "bias of selection and measurement, and whom the results hold for",
    "input_quality": "what is done with a patient whose input is missing or out of range",
    "intended_use": "what the results mean for practice",
    "agreement": "how disagreements were settled",
    "image_processing": "version and settings of the client and server",
    "scan_model": "input, layers and training: see the model card of the scoring model",
    "code": "where this study's own TOML and table can be had",
}
"""What the analysis cannot know of an item of which it knows something, by the item's `fill`."""


@dataclass(frozen=True)
class Item:
    """One item: what it asks, what the analysis knows, and what is left to the authors.

    Attributes
    ----------
    known : bool
        Whether the analysis knows anything of it.
    rest : str
        What it cannot know; empty where the answer is whole.
    """

    number: str
    topic: str
    asks: str
    answer: str
    known: bool
    rest: str = ""


@dataclass(frozen=True)
class Checklist:
    """A filled checklist."""

    name: str
    title: str
    source: str
    items: list[Item]

    @property
    def known(self) -> int:
        """How many items are filled, in part or whole."""
        return sum(item.known for item in self.items)

    @property
    def whole(self) -> int:
        """How many items leave nothing to the authors."""
        return sum(item.known and not item.rest for item in self.items)

    @property
    def summary(self) -> str:
        """How far it is filled, and where it comes from."""
        return (
            f"{self.known} of {len(self.items)} items are filled from this analysis, {self.whole} "
            f"of them whole; the rest is for the authors. {self.source}"
        )


def checklists(analysis: Analysis) -> list[Checklist]:
    """Fill both checklists."""
    answers = {**_design(analysis), **_methods(analysis), **_results(analysis)}
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
                Item(
                    item["number"],
                    item["topic"],
                    item["asks"],
                    answer or UNKNOWN,
                    bool(answer),
                    f"{REST}{RESTS[item['fill']]}." if answer and item["fill"] in RESTS else "",
                )
            )
        found.append(Checklist(name, data["title"], data["source"], items))
    return found


def _design(analysis: Analysis) -> dict[str, str]:
    study, cohort = analysis.data.study, analysis.data.cohort
    setting = study.setting
    rejected = len(cohort.notes) + len(analysis.outcome.notes)
    return {
        "title": f'"{study.title}" is the title given to this analysis.',
        "objective": f"This analysis holds {joined(_aims(analysis))}; it holds no external "
        "evaluation.",
        "design": setting.get("design", ""),
        "data": f"One table, {cohort.source}, of {cohort.flow.patients or len(cohort.patients)} "
        f"patients, of whom {len(cohort.patients)} were analysed."
        + (f" {setting['setting']}." if "setting" in setting else ""),
        "setting": setting.get("setting", ""),
        "scanner": setting.get("scanner", ""),
        "ethics": setting.get("ethics", ""),
        "funding": setting.get("funding", ""),
        "dates": f"Follow-up counts from {study.table.time_origin}"
        + (
            "; the dates in the table are not reported."
            if study.table.origin_date
            else "; calendar dates were not read."
        ),
        "eligibility": "",
        "preparation": "Every cell of the columns that are used was checked for type, range, unit "
        "and order in time; "
        f"{rejected} notes are in the report.",
        "selection": _selection(analysis),
        "code": "dlild-analysis, Apache-2.0; versions are in results.json.",
        "software": "; ".join(f"{name} {version}" for name, version in analysis.versions.items()),
    }


def _methods(analysis: Analysis) -> dict[str, str]:
    study, plan, cutoff = analysis.data.study, analysis.data.study.plan, analysis.cutoff
    names = joined([analysis.data.label(name) for name in analysis.data.available(plan.adjust)])
    studied = analysis.of(SAMPLE_SIZE)
    size = studied if isinstance(studied, NotDone) else studied.time_to_event
    measured = [
        f"{item.label}{f' ({item.unit})' if item.unit else ''}" for item in study.covariates
    ]
    measured += [f"{item.label} ({item.unit})" for item in (study.score, study.visual) if item]
    return {
        "outcome": f"{analysis.outcome.statement} Horizons: "
        f"{joined([f'{h:g}' for h in plan.horizons_months])} months.",
        "rule_source": f"{analysis.outcome.title}. {analysis.outcome.source}",
        "predictors": f"The study's TOML names: {names}." if names else "",
        "predictor_measurement": f"{joined(measured)}." if measured else "",
        "sample_size": "" if isinstance(size, NotDone) else size.statement,
        "missing": missing_values(study),
        "resampling": _resampling(analysis),
        "disjoint": "Patients, told apart by the id of the table: each id is in one fold of each "
        "repeat."
        if done(analysis, CROSS_VALIDATION)
        else "",
        "form": _form(analysis),
        "model_type": _model_type(analysis),
        "measures": _measures(analysis),
        "uncertainty": "95 % intervals beside every estimate; two-sided P, not adjusted for "
        "multiplicity.",
        "updating": "None in this analysis.",
        "prediction": ""
        if isinstance(analysis.model, NotDone)
        else "Risk from the saved model's coefficients and baseline hazard (model.json).",
        "imbalance": "No re-sampling or weighting of classes in this analysis.",
        "output": (
            ""
            if isinstance(analysis.model, NotDone)
            else "Probability of progression by each horizon with a 95 % interval. "
        )
        + ("" if isinstance(cutoff, NotDone) else f"High and low groups: {analysis.cutoff_words}"),
        "same_data": "Development and evaluation share the same patients, by resampling."
        if _resampling(analysis)
        else "",
        **_scan_model(analysis),
    }


def done(analysis: Analysis, step: Step[Any]) -> bool:
    """Whether a step was done in this run."""
    return not isinstance(analysis.of(step), NotDone)


def _aims(analysis: Analysis) -> list[str]:
    """Name what this run holds."""
    found = ["association"]
    found += [] if isinstance(analysis.model, NotDone) else ["development of a model"]
    return [*found, "internal validation"] if _resampling(analysis) else found


def _resampling(analysis: Analysis) -> str:
    plan = analysis.data.study.plan
    found = []
    if done(analysis, CROSS_VALIDATION):
        found.append(f"{plan.folds}-fold stratified cross-validation repeated {plan.repeats} times")
    if done(analysis, OPTIMISM):
        found.append(f"{plan.bootstraps} bootstraps for optimism")
    return f"{joined(found)}; no part was held out." if found else ""


def _form(analysis: Analysis) -> str:
    if not (done(analysis, COX) or done(analysis, LOGISTIC)):
        return ""
    words = "Numbers entered as straight lines, categories as indicators"
    if done(analysis, LOGISTIC):
        words += "; linearity was tested with restricted cubic splines"
    return f"{words}."


def _model_type(analysis: Analysis) -> str:
    found = []
    if done(analysis, LOGISTIC):
        found.append("logistic regression (Firth's where events are few or separated)")
    if done(analysis, COX):
        found.append("Cox regression (Efron)")
    if not found:
        return ""
    words = joined(found)
    words = words[:1].upper() + words[1:]
    if _resampling(analysis):
        words += (
            "; choices of spline, selection and cut-off were repeated inside each fold and "
            "bootstrap"
        )
    return f"{words}."


def _measures(analysis: Analysis) -> str:
    found = [
        words
        for step, words in (
            (ROC, "AUC (DeLong)"),
            (TIME_AUC, "time-dependent AUC with censoring weights"),
            (CONCORDANCE, "Harrell's and Uno's C"),
            (CALIBRATION, "calibration slope, intercept, ICI and curve, Brier score"),
            (DECISION_CURVES, "net benefit"),
        )
        if done(analysis, step)
    ]
    return f"{joined(found)}." if found else ""


def _scan_model(analysis: Analysis) -> dict[str, str]:
    """Name what scored the scans, where result files of the client say so."""
    model = analysis.data.cohort.scan_model
    if not model:
        return {"image_processing": "", "scan_model": ""}
    return {
        "image_processing": f"By the DL-ILD client and server; all scores are of {model}.",
        "scan_model": f"All scores are of {model}.",
    }


def _selection(analysis: Analysis) -> str:
    flow = analysis.of(FLOW)
    return "" if isinstance(flow, NotDone) else flow.head


def _robustness(analysis: Analysis) -> str:
    """Name the sensitivity analyses that were run, and the rules that could not be applied."""
    found = []
    scans = analysis.of(CUTOFFS)
    if not isinstance(scans, NotDone):
        found.append("Every cut-off of the score was tried.")
    rules = analysis.of(RULES)
    if isinstance(rules, NotDone):
        return " ".join([*found, "No other progression rule was tried."])
    applied = list(dict.fromkeys(row.rule for row in rules.applied))
    found.append(f"Progression rules that were applied: {joined(applied) or 'none'}.")
    lost = {row.rule: row.not_done_because for row in rules.not_applied}
    found += [f"{rule} could not be applied ({why})." for rule, why in lost.items()]
    return " ".join(found)


def _flow_words(analysis: Analysis) -> str:
    flow = analysis.of(FLOW)
    if isinstance(flow, NotDone):
        return ""
    models = "; ".join(
        f"{item.label}, {item.n}" + (" (not done)" if item.because else "")
        for item in flow.models
        if item.main
    )
    return f"{flow.head} Patients in the main models: {models}. See the flow's figure and table."


def _performance(analysis: Analysis) -> str:
    crossed = analysis.of(CROSS_VALIDATION)
    areas = [
        f"{item.label}: AUC {estimate(item.auc.performance, 3)}"
        for item in (() if isinstance(crossed, NotDone) else crossed.models)
        if not isinstance(item.auc, NotDone)
    ]
    return f"Cross-validated: {'; '.join(areas)}." if areas else ""


def _accuracy(analysis: Analysis) -> str:
    curves = analysis.of(ROC)
    for item in () if isinstance(curves, NotDone) else curves.curves:
        if item.name == "score" and not isinstance(item.result, NotDone):
            return f"AUC of {analysis.data.label('score')}: {estimate(item.result.auc, 3)}."
    return ""


def _agreement(analysis: Analysis) -> str:
    agreement = analysis.of(AGREEMENT)
    icc = agreement if isinstance(agreement, NotDone) else agreement.icc
    return "" if isinstance(icc, NotDone) else f"ICC(2,1) {estimate(icc.icc_2_1, 3)}."


def _results(analysis: Analysis) -> dict[str, str]:
    limits = sorted({warning for step in analysis.steps.values() for warning in step.warnings})
    table_one = analysis.of(TABLE_ONE)
    has_model = not isinstance(analysis.model, NotDone)
    return {
        "flow": _flow_words(analysis),
        "table_one": "" if isinstance(table_one, NotDone) else "Table 1.",
        "events": "n and events stand beside every model in the tables.",
        "specification": "model.json holds coefficients, covariance and baseline hazard."
        if has_model
        else "",
        "performance": _performance(analysis),
        "accuracy": _accuracy(analysis),
        "agreement": _agreement(analysis),
        "robustness": _robustness(analysis),
        "external": "None in this analysis.",
        "limits": f"No external test in this analysis. {' '.join(limits[:4])}".strip(),
        "input_quality": "The saved model refuses missing values and values outside the range of "
        "its data."
        if has_model
        else "",
        "intended_use": "The software is for research use only.",
    }
