"""Harrell's and Uno's C of each measure."""

from __future__ import annotations

from dataclasses import dataclass

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import survival
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import MEASURES, Data, Sample
from dlild_analysis.steps.presentation.text import estimate, p_words
from dlild_analysis.steps.step import Step


@dataclass(frozen=True)
class MeasureConcordance:
    """Concordance of one measure."""

    name: str
    label: str
    harrell: Estimate | NotDone
    uno: Estimate | NotDone


@dataclass(frozen=True)
class Comparison:
    """The score against another measure."""

    label: str
    harrell: survival.ConcordanceComparison | NotDone
    uno: survival.ConcordanceComparison | NotDone


@dataclass(frozen=True)
class Concordances:
    """What the step found."""

    measures: tuple[MeasureConcordance, ...]
    comparisons: tuple[Comparison, ...]


def measured(data: Data, name: str) -> tuple[Sample, FloatArray]:
    """Take the patients who have a measure, and the measure: higher means likelier."""
    sample = data.sample((name,), "survival")
    return sample, data.risk_direction(sample, name)


def concordances(data: Data) -> Concordances:
    """Harrell's and Uno's C of each measure, and the comparison with the score."""
    data.sample((), "survival")
    names = data.available(MEASURES)
    if not names:
        raise NotDoneError("there is no score and no lung function")
    return Concordances(
        tuple(
            MeasureConcordance(
                name, data.label(name), attempt(_harrell, data, name), attempt(_uno, data, name)
            )
            for name in names
        ),
        tuple(
            Comparison(
                f"{data.label('score')} minus {data.label(name)}",
                attempt(_compare, data, name, "harrell"),
                attempt(_compare, data, name, "uno"),
            )
            for name in names
            if name != "score" and "score" in names
        ),
    )


def _harrell(data: Data, name: str) -> Estimate:
    sample, values = measured(data, name)
    return survival.harrell_c(sample.time, sample.event, values)


def _uno(data: Data, name: str) -> Estimate:
    sample, values = measured(data, name)
    return survival.uno_c(sample.time, sample.event, values, horizon=_limit(data, sample))


def _limit(data: Data, sample: Sample) -> float:
    return min(data.study.plan.horizon, float(sample.time.max()))


def _compare(data: Data, name: str, weight: survival.Weight) -> survival.ConcordanceComparison:
    sample = data.sample(("score", name), "survival")
    a, b = data.risk_direction(sample, "score"), data.risk_direction(sample, name)
    limit = _limit(data, sample) if weight == "uno" else None
    return survival.compare_concordance(
        sample.time, sample.event, a, b, weight=weight, horizon=limit
    )


def sentences(result: Concordances, _data: Data) -> list[str]:
    """Report the concordances."""
    found = [
        f"{item.label}: Harrell's C {estimate(item.harrell, 3)}, Uno's C {estimate(item.uno, 3)}."
        for item in result.measures
        if not isinstance(item.harrell, NotDone)
    ]
    found += [
        f"{item.label}: {estimate(item.uno.difference, 3)}, "
        f"{p_words(item.uno.difference.p_value)} (Uno's C)."
        for item in result.comparisons
        if not isinstance(item.uno, NotDone)
    ]
    return found


CONCORDANCE: Step[Concordances] = Step(
    "concordance",
    "Concordance",
    compute=lambda analysis, _: concordances(analysis.data),
    sentences=sentences,
)
