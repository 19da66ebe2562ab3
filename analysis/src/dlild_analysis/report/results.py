"""results.json: every number with its method, warnings and the versions that computed it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.stats.results import to_plain
from dlild_analysis.steps import Analysis, Data
from dlild_analysis.steps.attempts import NotDone

RESULTS_SCHEMA = 1


def results_dict(analysis: Analysis) -> dict[str, Any]:
    """Write an analysis for results.json."""
    data, outcome, model = analysis.data, analysis.outcome, analysis.model
    cohort, study = data.cohort, data.study
    flow = analysis.flow
    return {
        "schema_version": RESULTS_SCHEMA,
        "research_use_only": True,
        "software": analysis.versions,
        "study": {
            "title": study.title,
            "table": cohort.source,
            "patients": len(cohort.patients),
            "patients_in_table": cohort.flow.patients or len(cohort.patients),
            "scan_model": cohort.scan_model or None,
            "time_origin": study.table.time_origin,
            "plan": to_plain(study.plan),
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
        "missing": missing_counts(data),
        "flow": to_plain(flow.result) if flow and flow.done else {},
        "steps": {name: step.as_dict(analysis.versions) for name, step in analysis.steps.items()},
        "model": to_plain(model) if isinstance(model, NotDone) else {"file": "model.json"},
    }


def missing_counts(data: Data) -> list[dict[str, Any]]:
    """Count the missing values of every column that the study uses, outcome included."""
    patients = data.cohort.patients
    outside = ("row", "id", "time", "status", "death", "transplant", "last_seen")
    counts = [
        {
            "name": name,
            "label": data.label(name),
            "missing": int(patients[name].isna().sum()),
            "of": len(patients),
        }
        for name in patients.columns
        if name not in outside
    ]
    unknown = int(np.isnan(data.outcome.time).sum())
    return [
        *counts,
        {"name": "outcome", "label": "Outcome", "missing": unknown, "of": len(patients)},
    ]
