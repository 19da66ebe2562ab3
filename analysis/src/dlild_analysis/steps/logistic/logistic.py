"""Logistic regression: each covariate alone, all together, and the linearity of the log odds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import logistic
from dlild_analysis.stats.arrays import check_regressors
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import MEASURES, Data, Sample
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import joined
from dlild_analysis.steps.ratio_table import (
    TOO_FEW,
    LogisticModel,
    Univariable,
    model_rows,
    ratio_columns,
    ratio_sentences,
)
from dlild_analysis.steps.step import OWN, Analysis, Step


@dataclass(frozen=True)
class LinearityTest:
    """Whether the log odds of one measure are a straight line."""

    name: str
    label: str
    test: logistic.Linearity | NotDone


@dataclass(frozen=True)
class LogisticModels:
    """What the step found."""

    outcome: str
    univariable: tuple[Univariable[LogisticModel], ...]
    multivariable: LogisticModel | NotDone
    adjusted_for: tuple[str, ...]
    linearity: tuple[LinearityTest, ...]


def logistic_models(data: Data) -> LogisticModels:
    """Uni- and multivariable logistic regression, with linearity of the measures."""
    plan = data.study.plan
    candidates = data.available((*MEASURES, *(item.name for item in data.study.covariates)))
    if not candidates:
        raise NotDoneError("there is no covariate")
    data.sample((), "binary")
    wanted = data.available(plan.adjust)
    return LogisticModels(
        outcome=f"progression by {plan.horizon:g} months, in patients whose status there is known",
        univariable=tuple(
            Univariable(name, data.label(name), attempt(_fit, data, (name,))) for name in candidates
        ),
        multivariable=attempt(_fit, data, wanted) if len(wanted) > 1 else NotDone(TOO_FEW),
        adjusted_for=tuple(data.label(name) for name in wanted),
        linearity=tuple(
            LinearityTest(name, data.label(name), attempt(_linearity, data, name))
            for name in candidates
            if _is_number(data, name)
        ),
    )


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


def _fit(data: Data, names: tuple[str, ...]) -> LogisticModel:
    sample = fittable(data, names)
    return LogisticModel(logistic.fit_logistic(sample.design, sample.progressed), sample.missing)


def _is_number(data: Data, name: str) -> bool:
    covariate = data.study.covariate(name)
    return covariate is None or covariate.kind == "number"


def _linearity(data: Data, name: str) -> logistic.Linearity:
    sample = data.sample((name,), "binary")
    return logistic.linearity_test(
        sample.design.iloc[:, 0].to_numpy(), sample.progressed, name=data.label(name)
    )


def sentences(result: LogisticModels, _data: Data) -> list[str]:
    """Report the logistic models."""
    curved = [
        item.label
        for item in result.linearity
        if not isinstance(item.test, NotDone) and item.test.test.p_value < 0.05
    ]
    return [
        *ratio_sentences(result.univariable, result.multivariable, result.adjusted_for, "OR"),
        f"The log odds bent away from a straight line for {joined(curved)} (P < 0.05)."
        if curved
        else "No measure's log odds bent clearly away from a straight line.",
    ]


def table(result: LogisticModels, _analysis: Analysis) -> Table | None:
    """Uni- and multivariable logistic regression."""
    rows = model_rows(result.univariable, result.multivariable)
    return Table(
        "logistic",
        "Logistic regression",
        ratio_columns("OR", "VIF"),
        rows,
        f"Outcome: {result.outcome}. Per SD: of the patients in the model. VIF: variance "
        "inflation factor.",
    )


LOGISTIC: Step[LogisticModels] = Step(
    "logistic",
    "Logistic regression",
    compute=lambda analysis, _: logistic_models(analysis.data),
    sentences=sentences,
    tables=(table,),
    libraries=(*OWN, "statsmodels"),
)
