"""The models that are validated, each with its patients."""

from __future__ import annotations

from dlild_analysis.pipeline.data import Data, Sample
from dlild_analysis.pipeline.models import Recipe
from dlild_analysis.pipeline.step import attempt, failed


def recipes(data: Data) -> list[tuple[Recipe, Sample]]:
    """List the models that are validated, each with its patients."""
    found = []
    plan = data.study.plan
    wanted: list[tuple[str, str, tuple[str, ...], bool, bool]] = [
        ("score", f"{data.label('score')} alone", ("score",), False, False),
        ("score_spline", f"{data.label('score')}, straight or spline", ("score",), True, False),
        ("visual", f"{data.label('visual')} alone", ("visual",), False, False),
        ("full", joint_label(data), plan.adjust, False, False),
        (
            "full_selected",
            f"{joint_label(data)}, backward elimination",
            plan.adjust,
            False,
            True,
        ),
    ]
    for name, label, names, spline, select in wanted:
        there = data.available(names)
        if not there or (name.startswith("full") and len(there) < 2):
            continue
        sample = attempt(data.sample, there, "binary")
        if failed(sample):
            continue
        columns = tuple(sample.design.columns)
        found.append((Recipe(name, label, columns, columns[0] if spline else None, select), sample))
    return found


def joint_label(data: Data) -> str:
    """Name the multivariable model by its covariates."""
    names = [data.label(name) for name in data.available(data.study.plan.adjust)]
    return (
        " + ".join(names) if len(names) <= 4 else f"{' + '.join(names[:3])} + {len(names) - 3} more"
    )
