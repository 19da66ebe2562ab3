"""The analysis, step by step: the paper's in its order, then beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlild_analysis.cohort import Cohort
from dlild_analysis.pipeline import added, binary, describe, risks, sensitivity, survival
from dlild_analysis.pipeline.data import Data
from dlild_analysis.pipeline.flow import patient_flow
from dlild_analysis.pipeline.imputation import imputed_models
from dlild_analysis.pipeline.progress import Progress
from dlild_analysis.pipeline.step import Body, Step, run_step, software
from dlild_analysis.pipeline.validation import Validation
from dlild_analysis.progression import Outcome, assess
from dlild_analysis.stats.results import to_plain

RESULTS_SCHEMA = 1
OWN = ("numpy", "scipy")


@dataclass
class Analysis:
    """A finished analysis.

    Attributes
    ----------
    data : Data
        Cohort and outcome.
    steps : dict of str to Step
        In the order in which they were taken.
    versions : dict
        Of the software.
    flow : dict
        Patients at every stage from the table to each model; see `pipeline.flow`.
    """

    data: Data
    steps: dict[str, Step] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=software)
    flow: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The outcome under the study's rule."""
        return self.data.outcome

    def values(self, name: str) -> dict[str, Any]:
        """Results of a step; empty where it was not done."""
        step = self.steps.get(name)
        return step.values if step else {}

    def as_dict(self) -> dict[str, Any]:
        """Write everything for results.json."""
        cohort, outcome, plan = self.data.cohort, self.outcome, self.data.study.plan
        return {
            "schema_version": RESULTS_SCHEMA,
            "research_use_only": True,
            "software": self.versions,
            "study": {
                "title": self.data.study.title,
                "table": cohort.source,
                "patients": len(cohort.patients),
                "patients_in_table": cohort.flow.patients or len(cohort.patients),
                "scan_model": cohort.scan_model or None,
                "time_origin": self.data.study.table.time_origin,
                "plan": to_plain(plan),
            },
            "rule": {
                "name": outcome.rule,
                "title": outcome.title,
                "statement": outcome.statement,
                "source": outcome.source,
                "events": outcome.events,
                "competing_events": outcome.competing,
                "criteria": outcome.reasons,
            },
            "notes": [note.as_dict() for note in (*cohort.notes, *outcome.notes)],
            "missing": missing_counts(self.data),
            "flow": to_plain(self.flow),
            "steps": {name: step.as_dict(self.versions) for name, step in self.steps.items()},
        }


def missing_counts(data: Data) -> list[dict[str, Any]]:
    """Count the missing values of every column that the study uses, outcome included."""
    patients = data.cohort.patients
    names = [
        name
        for name in patients.columns
        if name not in ("row", "id", "time", "status", "death", "transplant", "last_seen")
    ]
    counts = [
        {
            "name": name,
            "label": data.label(name),
            "missing": int(patients[name].isna().sum()),
            "of": len(patients),
        }
        for name in names
    ]
    unknown = int(np.isnan(data.outcome.time).sum())
    return [
        *counts,
        {"name": "outcome", "label": "Outcome", "missing": unknown, "of": len(patients)},
    ]


def analyse(
    cohort: Cohort, *, all_rules: bool = False, progress: Progress | None = None
) -> Analysis:
    """Run the whole analysis.

    Parameters
    ----------
    cohort : Cohort
        A validated cohort.
    all_rules : bool
        Also run the main figures under every progression rule.
    progress : Progress, optional
        Silent by default.

    Raises
    ------
    NotDoneError
        The cohort lacks what its progression rule needs; nothing can be analysed without an
        outcome.
    """
    shown = progress or Progress(quiet=True)
    data = Data(cohort, assess(cohort))
    analysis = Analysis(data)
    seed = cohort.study.plan.seed
    validation = Validation(seed, shown)
    for name, title, body, libraries in _plan(analysis, validation, all_rules):
        shown.step(title)
        analysis.steps[name] = run_step(name, title, body, data, libraries)
        if not analysis.steps[name].done:
            shown.step(f"  not done, because {analysis.steps[name].because}")
    shown.step("Flow of patients")
    found = run_step(
        "flow",
        "Flow of patients",
        lambda data: patient_flow(
            data, {name: analysis.steps[name] for name in ("logistic", "cox")}
        ),
        data,
        OWN,
    )
    analysis.flow = found.values
    return analysis


def _plan(
    analysis: Analysis, validation: Validation, all_rules: bool
) -> list[tuple[str, str, Body, tuple[str, ...]]]:
    def cross_validated() -> dict[str, Any]:
        return analysis.values("cross_validation")

    seed, shown, study = validation.seed, validation.progress, analysis.data.study
    steps: list[tuple[str, str, Body, tuple[str, ...]]] = [
        ("table_one", "Patients", describe.table_one, OWN),
        ("correlations", "Correlation with lung function", describe.correlations, OWN),
        ("logistic", "Logistic regression", binary.logistic_models, (*OWN, "statsmodels")),
        ("roc", "ROC curves", binary.roc_curves, OWN),
        ("kaplan_meier", "Progression-free survival", survival.kaplan_meier, (*OWN, "lifelines")),
        ("cox", "Cox regression", survival.cox_models, OWN),
        (
            "cross_validation",
            "Cross-validation",
            validation.cross_validation,
            (*OWN, "scikit-learn"),
        ),
        ("optimism", "Optimism by bootstrap", validation.optimism, OWN),
        (
            "calibration",
            "Calibration",
            lambda data: risks.calibrated(data, cross_validated()),
            (*OWN, "statsmodels"),
        ),
        (
            "decision_curves",
            "Decision curves",
            lambda data: risks.decisions(data, cross_validated()),
            OWN,
        ),
        ("time_auc", "Time-dependent AUC", added.time_dependent_auc, OWN),
        ("concordance", "Concordance", added.concordances, OWN),
        ("incremental", "Incremental value", added.incremental_value, (*OWN, "statsmodels")),
        ("competing_risks", "Competing risks", survival.competing_deaths, OWN),
        ("agreement", "Agreement of repeated readings", describe.readings_agreement, OWN),
        ("sample_size", "Size of the study", sensitivity.study_size, OWN),
        (
            "cutoffs",
            "Sensitivity of the cut-off",
            lambda data: sensitivity.every_cutoff(data, seed, shown),
            OWN,
        ),
    ]
    if study.table.missing == "multiple-imputation":
        steps.append(
            (
                "imputation",
                "Multiple imputation",
                lambda data: imputed_models(data, seed, shown),
                (*OWN, "statsmodels"),
            )
        )
    if all_rules:
        steps.append(("rules", "Other progression rules", sensitivity.compare_rules, OWN))
    return steps
