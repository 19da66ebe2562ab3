"""The models that are validated, each with its patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import Data, Sample
from dlild_analysis.pipeline.models import Recipe
from dlild_analysis.pipeline.step import attempt, failed
from dlild_analysis.stats.arrays import check_regressors


@dataclass(frozen=True)
class Refused:
    """A model that cannot be validated, since it cannot be fitted.

    Attributes
    ----------
    name, label : str
        As of its recipe.
    because : str
        What the fit complains of.
    """

    name: str
    label: str
    because: str

    def as_dict(self, *measures: str) -> dict[str, Any]:
        """Write the model with the reason in place of every measure."""
        reason = {"not_done_because": self.because}
        return {"name": self.name, "label": self.label, "n": 0} | dict.fromkeys(measures, reason)


def recipes(data: Data) -> list[tuple[Recipe, Sample]]:
    """List the models that are validated, each with its patients."""
    return [item for item in all_recipes(data) if not isinstance(item, Refused)]


def all_recipes(data: Data) -> list[tuple[Recipe, Sample] | Refused]:
    """List the models that were asked for: those to validate, and those that were refused.

    What the regression refuses in all patients is not validated in parts of them: too few events
    for its parameters, a constant covariate, one that the others determine.
    """
    found: list[tuple[Recipe, Sample] | Refused] = []
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
        sample = attempt(fittable, data, there)
        if failed(sample):
            found.append(Refused(name, label, sample["not_done_because"]))
            continue
        columns = tuple(sample.design.columns)
        found.append((Recipe(name, label, columns, columns[0] if spline else None, select), sample))
    return found


def fittable(data: Data, names: tuple[str, ...]) -> Sample:
    """Take the patients of a logistic model, if it can be fitted in them.

    Raises
    ------
    NotDoneError
        Fewer patients in the smaller class than parameters.
    StatisticsError
        A constant or collinear column.
    """
    sample = data.sample(names, "binary")
    smaller = int(min(sample.progressed.sum(), (1 - sample.progressed).sum()))
    if smaller < sample.design.shape[1]:
        raise NotDoneError(
            f"{smaller} in the smaller class are too few for {sample.design.shape[1]} parameters"
        )
    check_regressors(sample.design.to_numpy(dtype=np.float64), tuple(sample.design.columns))
    return sample


def joint_label(data: Data) -> str:
    """Name the multivariable model by its covariates."""
    names = [data.label(name) for name in data.available(data.study.plan.adjust)]
    return (
        " + ".join(names) if len(names) <= 4 else f"{' + '.join(names[:3])} + {len(names) - 3} more"
    )
