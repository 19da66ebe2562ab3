"""How large the study was, and what Riley's criteria would have asked for."""

from __future__ import annotations

from dataclasses import dataclass

from dlild_analysis.stats import sample_size
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.step import Step

EVENTS_PER_PARAMETER = 10


@dataclass(frozen=True)
class StudySize:
    """Size of the study for the model of `analysis.adjust`."""

    parameters: int
    columns: tuple[str, ...]
    time_to_event: sample_size.SampleSize | NotDone
    two_way: sample_size.SampleSize | NotDone


def few_events(data: Data) -> str:
    """State that the covariates of analysis.adjust are too many for the events; empty if not."""
    names = data.available(data.study.plan.adjust)
    parameters = len(data.terms(names))
    if data.outcome.events >= EVENTS_PER_PARAMETER * parameters:
        return ""
    return (
        f"too few events for the covariates asked: {data.outcome.events} for {parameters} "
        f"parameters of analysis.adjust ({', '.join(names)}), "
        f"{data.outcome.events / parameters:.1f} each, and {EVENTS_PER_PARAMETER} are customary"
    )


def study_size(data: Data) -> StudySize:
    """State events per parameter, and what Riley's criteria would have asked for."""
    terms = data.terms(data.available(data.study.plan.adjust))
    parameters = max(len(terms), 1)
    return StudySize(
        parameters,
        tuple(term.label for term in terms),
        attempt(_survival, data, parameters),
        attempt(_binary, data, parameters),
    )


def _survival(data: Data, parameters: int) -> sample_size.SampleSize:
    sample = data.sample((), "survival")
    return sample_size.sample_size_survival(
        sample.n,
        int(sample.event.sum()),
        parameters,
        mean_follow_up=float(sample.time.mean()),
        horizon=min(data.study.plan.horizon, float(sample.time.max())),
    )


def _binary(data: Data, parameters: int) -> sample_size.SampleSize:
    sample = data.sample((), "binary")
    return sample_size.sample_size_binary(sample.n, int(sample.progressed.sum()), parameters)


def sentences(result: StudySize, _data: Data) -> list[str]:
    """Report the size of the study."""
    parts = (result.time_to_event, result.two_way)
    return [part.statement for part in parts if not isinstance(part, NotDone)]


SAMPLE_SIZE: Step[StudySize] = Step(
    "sample_size",
    "Size of the study",
    compute=lambda analysis, _: study_size(analysis.data),
    sentences=sentences,
)
