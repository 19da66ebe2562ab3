"""results.json: every number with its method, warnings and the versions that computed it."""

from __future__ import annotations

import json
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


LEVEL = 0.95
SIDE_FILE = "results_values.json"
LONG = 12
"""Numbers of a list that results.json still holds."""

NOTES = 20


def split_values(results: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Move long lists (curves, bootstrap values, repeated notes) into a side file.

    Returns
    -------
    results : dict
        With `"results_values.json#<path>"` in place of each list that was moved; in `steps`,
        values that are absent or empty are left out, `level` where it is that of the top, and
        `method` is the position in `methods`.
    values : dict
        The lists by their path.
    """
    values: dict[str, Any] = {}
    kept = _split(results, "", values)
    methods: dict[str, int] = {}
    kept["steps"] = {name: _lean(step, methods) for name, step in kept["steps"].items()}
    return {**kept, "level": LEVEL, "methods": list(methods)}, values


def _lean(value: Any, methods: dict[str, int]) -> Any:
    """Leave out what says nothing: absent values, empty lists, the level that all intervals have.

    Methods are numbered by their place in `methods`, from 0. Numbers keep eight significant
    digits.
    """
    if isinstance(value, dict):
        found = {key: _lean(part, methods) for key, part in value.items()}
        if isinstance(found.get("method"), str):
            found["method"] = methods.setdefault(found["method"], len(methods))
        return {
            key: part
            for key, part in found.items()
            if not (part is None or part in ([], "") or (key == "level" and part == LEVEL))
        }
    if isinstance(value, list):
        return [_lean(part, methods) for part in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def move_largest(results: dict[str, Any], values: dict[str, Any]) -> bool:
    """Move the values of the largest step into the side file; False where none is left."""
    steps = results["steps"]
    sizes = {
        name: len(json.dumps(step["values"]))
        for name, step in steps.items()
        if isinstance(step.get("values"), dict)
    }
    if not sizes:
        return False
    name = max(sizes, key=lambda key: sizes[key])
    path = f"steps.{name}.values"
    values[path] = steps[name]["values"]
    steps[name] = {**steps[name], "values": f"{SIDE_FILE}#{path}"}
    return True


def _split(value: Any, path: str, values: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {
            key: _split(part, f"{path}.{key}" if path else str(key), values)
            for key, part in value.items()
        }
    if not isinstance(value, list):
        return value
    notes = path == "notes" and len(value) > NOTES
    if notes or (_is_plain(value) and _size(value) > LONG):
        values[path] = value
        return f"{SIDE_FILE}#{path}"
    return [_split(part, f"{path}.{index}", values) for index, part in enumerate(value)]


def _is_plain(value: Any) -> bool:
    """Whether a list holds numbers and texts only, in whatever depth."""
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return not isinstance(value, dict)


def _size(value: Any) -> int:
    return sum(_size(part) for part in value) if isinstance(value, list) else 1
