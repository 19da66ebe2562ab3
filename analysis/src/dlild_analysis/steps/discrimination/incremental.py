"""What the score adds to each model that was there before."""

from __future__ import annotations

from dataclasses import dataclass

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox, incremental, logistic, survival
from dlild_analysis.stats.results import HypothesisTest
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import (
    DASH,
    estimate,
    not_done,
    number,
    p_of,
    p_value,
    p_words,
)
from dlild_analysis.steps.step import OWN, Analysis, Step


@dataclass(frozen=True)
class AddedToCox:
    """What the score adds to a Cox model."""

    n: int
    events: int
    likelihood_ratio: HypothesisTest
    concordance: survival.ConcordanceComparison | NotDone
    note: str = (
        "Both concordances are apparent; a larger model gains from being fitted to these patients."
    )


@dataclass(frozen=True)
class AddedToLogistic:
    """What the score adds to a logistic model."""

    n: int
    events: int
    likelihood_ratio: HypothesisTest | NotDone
    reclassification: incremental.Reclassification | NotDone


@dataclass(frozen=True)
class Added:
    """What the score adds to one base."""

    base: str
    columns: tuple[str, ...]
    time_to_event: AddedToCox | NotDone
    two_way: AddedToLogistic | NotDone


@dataclass(frozen=True)
class IncrementalValue:
    """What the step found."""

    models: tuple[Added, ...]


def incremental_value(data: Data) -> IncrementalValue:
    """Work out what the score adds to each model that was there before."""
    if not data.available(("score",)):
        raise NotDoneError("there is no score")
    covariates = tuple(data.study.plan.base)
    bases: list[tuple[str | None, tuple[str, ...]]] = [
        ("visual score", ("visual",)),
        ("lung function", ("fvc_percent", "dlco_percent")),
        ("clinical covariates", covariates),
        ("GAP points", ("gap",)),
        (None, ("visual", "fvc_percent", "dlco_percent", *covariates)),
    ]
    found = []
    for label, names in bases:
        there = tuple(dict.fromkeys(name for name in data.available(names) if name != "score"))
        if there and (label is not None or len(there) > 1):
            found.append(
                Added(
                    label or f"all of these: {', '.join(map(data.label, there))}",
                    tuple(data.label(name) for name in there),
                    attempt(_added_to_cox, data, there),
                    attempt(_added_to_logistic, data, there),
                )
            )
    if not found:
        raise NotDoneError("there is nothing to add the score to")
    return IncrementalValue(tuple(found))


def _enough(events: float, parameters: int) -> None:
    if events < parameters:
        raise NotDoneError(f"{events:.0f} events are too few for {parameters} parameters")


def _added_to_cox(data: Data, base: tuple[str, ...]) -> AddedToCox:
    sample = data.sample((*base, "score"), "survival")
    _enough(float(sample.event.sum()), sample.design.shape[1])
    old_design = sample.design.drop(columns=[data.label("score")])
    old = cox.fit_cox(old_design, sample.time, sample.event)
    new = cox.fit_cox(sample.design, sample.time, sample.event)
    old_line = cox.linear_predictor(old, old_design)
    new_line = cox.linear_predictor(new, sample.design)
    return AddedToCox(
        sample.n,
        int(sample.event.sum()),
        incremental.likelihood_ratio_test(old, new),
        attempt(survival.compare_concordance, sample.time, sample.event, new_line, old_line),
    )


def _added_to_logistic(data: Data, base: tuple[str, ...]) -> AddedToLogistic:
    sample = data.sample((*base, "score"), "binary")
    smaller = float(min(sample.progressed.sum(), (1 - sample.progressed).sum()))
    _enough(smaller, sample.design.shape[1])
    old_design = sample.design.drop(columns=[data.label("score")])
    old = logistic.fit_logistic(old_design, sample.progressed)
    new = logistic.fit_logistic(sample.design, sample.progressed)
    old_risk = logistic.predict_logistic(old, old_design).risk
    new_risk = logistic.predict_logistic(new, sample.design).risk
    return AddedToLogistic(
        sample.n,
        int(sample.progressed.sum()),
        attempt(incremental.likelihood_ratio_test, old, new),
        attempt(incremental.reclassification, sample.progressed, old_risk, new_risk)
        if "reclassification" in data.study.plan.more
        else NotDone("the study does not ask for it (analysis.more)"),
    )


def sentences(result: IncrementalValue, _data: Data) -> list[str]:
    """Report what the score adds."""
    found = []
    for item in result.models:
        part = item.time_to_event
        if isinstance(part, NotDone):
            found.append(f"To {item.base}: {not_done(part)}.")
            continue
        test, compare = part.likelihood_ratio, part.concordance
        gain = (
            ""
            if isinstance(compare, NotDone)
            else f"; Harrell's C rose by {estimate(compare.difference, 3)}"
        )
        found.append(
            f"To {item.base}: likelihood ratio {number(test.statistic)} on "
            f"{number(test.df, 0)} df, {p_words(test.p_value)}{gain}."
        )
    return found


def table(result: IncrementalValue, analysis: Analysis) -> Table | None:
    """Show what the score adds."""
    asked = "reclassification" in analysis.data.study.plan.more
    return Table(
        "incremental",
        f"What {analysis.data.label('score')} adds",
        (
            "To a model of",
            "n",
            "Likelihood ratio (Cox)",
            "Gain in Harrell's C (95 % CI)",
            "P",
            *(("Continuous NRI", "IDI") if asked else ()),
        ),
        [_row(item) if asked else _row(item)[:-2] for item in result.models],
        "The likelihood ratio is the test to read."
        + (
            " NRI and IDI reward models that are merely miscalibrated, and their intervals are "
            "unreliable (Hilden and Gerds 2014; Kerr et al. 2014)."
            if asked
            else ""
        ),
    )


def _row(item: Added) -> tuple[str, ...]:
    n = test = DASH
    difference = None
    if not isinstance(item.time_to_event, NotDone):
        ratio, compare = item.time_to_event.likelihood_ratio, item.time_to_event.concordance
        n = str(item.time_to_event.n)
        test = f"{number(ratio.statistic)}, P {p_value(ratio.p_value)}"
        difference = None if isinstance(compare, NotDone) else compare.difference
    classes = None if isinstance(item.two_way, NotDone) else item.two_way.reclassification
    if isinstance(classes, NotDone):
        classes = None
    return (
        item.base,
        n,
        test,
        estimate(difference, 3),
        p_of(difference),
        estimate(None if classes is None else classes.nri),
        estimate(None if classes is None else classes.idi, 3),
    )


INCREMENTAL: Step[IncrementalValue] = Step(
    "incremental",
    "Incremental value",
    compute=lambda analysis, _: incremental_value(analysis.data),
    sentences=sentences,
    tables=(table,),
    libraries=(*OWN, "statsmodels"),
)
