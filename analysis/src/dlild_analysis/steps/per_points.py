"""Hazard ratios per so many points of a score, and the counting of patients for the flow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.step import Gap, ModelStage

PER_POINTS = 10.0
LEAST_EVENTS = 5
"""Fewest events of a part of the patients that has a hazard ratio of its own."""


def label_per_points(data: Data) -> str:
    """Name the score with the difference that its hazard ratios are per."""
    return f"{data.label('score')}, per {PER_POINTS:g} points"


def score_sample(data: Data) -> Sample:
    """Take the patients with a score and an outcome.

    Raises
    ------
    NotDoneError
        There is no score, or no patient with the event.
    """
    if not data.available(("score",)):
        raise NotDoneError("there is no score")
    return data.sample(("score",), "survival")


def in_tens(data: Data, sample: Sample) -> FloatArray:
    """Take the score of a sample in units of ten points."""
    values: FloatArray = sample.design[data.label("score")].to_numpy(dtype=float) / PER_POINTS
    return values


def ratio_among(tens: FloatArray, sample: Sample, inside: NDArray[np.bool_]) -> Estimate:
    """Fit the score in a part of the patients.

    Raises
    ------
    NotDoneError
        It has fewer than `LEAST_EVENTS` events.
    """
    if sample.event[inside].sum() < LEAST_EVENTS:
        raise NotDoneError(f"{sample.event[inside].sum()} events; {LEAST_EVENTS} are needed")
    fit = cox.fit_cox(tens[inside], sample.time[inside], sample.event[inside], ["score"])
    return replace(fit.terms[0].hazard_ratio, warnings=())


def stage(
    label: str, eligible: int, n: int, events: int, lacking: str, part: object = None
) -> ModelStage:
    """Count the patients of one model; those it lacks for one reason."""
    because = part.not_done_because if isinstance(part, NotDone) else ""
    gap = () if because or eligible == n else (Gap(lacking, eligible - n),)
    return ModelStage(
        label,
        main=False,
        outcome="time to event",
        eligible=eligible,
        missing=gap,
        n=0 if because else n,
        events=0 if because else events,
        because=because,
    )
