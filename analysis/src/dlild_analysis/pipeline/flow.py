"""The flow of patients: from the table to every model."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import Data, Need
from dlild_analysis.pipeline.step import Step, attempt, failed
from dlild_analysis.progression import DIED, PROGRESSED


def patient_flow(data: Data, done: dict[str, Step]) -> dict[str, Any]:
    """Count the patients at every stage from the table to each model.

    Parameters
    ----------
    done : dict
        The steps `logistic` and `cox`.
    """
    cohort, outcome = data.cohort, data.outcome
    known = np.isfinite(outcome.time) & np.isfinite(outcome.status)
    progressed = data.progressed()
    return {
        "table": {
            "file": cohort.source,
            "rows": cohort.flow.rows,
            "patients": cohort.flow.patients or len(cohort.patients),
        },
        "left_out": [
            {"reason": item.reason, "patients": item.patients} for item in cohort.flow.left_out
        ],
        "cohort": len(cohort.patients),
        "outcome": {
            "known": int(known.sum()),
            "unknown": int((~known).sum()),
            "events": outcome.events,
            "competing_events": outcome.competing,
        },
        "horizon": {
            "months": data.study.plan.horizon,
            "known": int(np.isfinite(progressed).sum()),
            "unknown": int(np.isnan(progressed).sum()),
            "progressed": int(np.nansum(progressed)),
        },
        "models": _models(data, done),
    }


def _models(data: Data, done: dict[str, Step]) -> list[dict[str, Any]]:
    plan = data.study.plan
    adjusted = data.available(plan.adjust)
    found = []
    for kind, need, step in (("Cox", "survival", "cox"), ("logistic", "binary", "logistic")):
        values = done[step].values
        found += [
            _one(
                data,
                f"{kind}: {item['label']}",
                (item["name"],),
                _need(need),
                main=item["name"] == "score",
                fit=item["fit"],
            )
            for item in values.get("univariable", [])
        ]
        if len(adjusted) > 1:
            found.append(
                _one(
                    data,
                    f"{kind}: multivariable",
                    adjusted,
                    _need(need),
                    main=True,
                    fit=values.get("multivariable", {"not_done_because": done[step].because}),
                )
            )
    saved = data.available(plan.predictors)
    if saved:
        found.append(_one(data, "saved model (Cox)", saved, "survival", main=True))
    return found


def _need(word: str) -> Need:
    return "survival" if word == "survival" else "binary"


def _one(
    data: Data,
    label: str,
    names: tuple[str, ...],
    need: Need,
    *,
    main: bool,
    fit: Any = None,
) -> dict[str, Any]:
    """Count the patients of one model: who could enter it, who lacks what, who is left."""
    usable = np.isfinite(data.progressed())
    if need == "survival":
        usable = np.isfinite(data.outcome.time) & np.isfinite(data.outcome.status)
    design = attempt(data.design, names)
    if failed(design):
        raise NotDoneError(design["not_done_because"])
    table, terms = design
    gaps = {
        data.label(term.name): int((usable & table[term.label].isna().to_numpy()).sum())
        for term in terms
    }
    complete = usable & table.notna().all(axis=1).to_numpy()
    events = data.outcome.status == PROGRESSED
    if label.startswith("saved"):
        events |= data.outcome.status == DIED
    if need == "binary":
        events = data.progressed() == 1.0
    because = fit["not_done_because"] if failed(fit) else ""
    return {
        "label": label,
        "main": main,
        "outcome": "time to event" if need == "survival" else "status at the horizon",
        "eligible": int(usable.sum()),
        "missing": [{"label": name, "patients": count} for name, count in gaps.items() if count],
        "n": int(complete.sum()),
        "events": int((complete & events).sum()),
        "because": because,
    }
