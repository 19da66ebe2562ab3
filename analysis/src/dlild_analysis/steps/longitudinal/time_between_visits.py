"""Sensitivity to the visits: progression is seen at a visit, but happened before it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import PROGRESSED
from dlild_analysis.stats import cox, survival
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.per_points import (
    in_tens,
    label_per_points,
    score_sample,
    stage,
)
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, not_done, number, p_of
from dlild_analysis.steps.step import Analysis, ModelStage, Step


@dataclass(frozen=True)
class TimeBetweenVisits:
    """What the step found: hazard ratios of the score per ten points.

    Attributes
    ----------
    label : str
        The score, with what the ratios are per.
    eligible, patients, events, exact : int
        Patients with a known outcome, those with a score, events, and events whose time is known
        exactly (deaths).
    median_interval_months : float
        Between the last visit free of progression and the visit that showed it.
    at_visit, midpoint : Estimate or NotDone
        Cox regression with progression at the visit, and half-way from the visit before.
    weibull_at_visit, interval_censored : Estimate or NotDone
        Weibull regression with progression at the visit, and anywhere between the two visits.
    """

    label: str
    eligible: int
    patients: int
    events: int
    exact: int
    median_interval_months: float
    at_visit: Estimate | NotDone
    midpoint: Estimate | NotDone
    weibull_at_visit: Estimate | NotDone
    interval_censored: Estimate | NotDone

    @property
    def rows(self) -> list[tuple[str, Estimate | NotDone]]:
        """The four ways to place progression in time."""
        return [
            ("At the visit that showed it (Cox)", self.at_visit),
            ("Half-way from the visit before (Cox)", self.midpoint),
            ("At the visit that showed it (Weibull)", self.weibull_at_visit),
            ("Between the two visits (Weibull, interval-censored)", self.interval_censored),
        ]


def time_between_visits(data: Data) -> TimeBetweenVisits:
    """Fit the score to progression at the visit, half-way, and anywhere between two visits.

    Raises
    ------
    NotDoneError
        The outcome does not come from visits, or there is no score.
    """
    free = data.outcome.free_until
    if free is None:
        raise NotDoneError(f"the outcome {data.outcome.rule} does not come from visits")
    sample = score_sample(data)
    tens, event = in_tens(data, sample)[:, None], sample.event
    lower = np.minimum(free[sample.position], sample.time)
    between = (sample.status == PROGRESSED) & (lower < sample.time)
    label = label_per_points(data)
    half = np.where(between, (lower + sample.time) / 2, sample.time)
    open_ended = np.where(event == 1, sample.time, np.inf)
    known = data.outcome.known
    return TimeBetweenVisits(
        label,
        eligible=int(known.sum()),
        patients=sample.n,
        events=int(event.sum()),
        exact=int(event.sum() - between.sum()),
        median_interval_months=float(np.median((sample.time - lower)[between]))
        if between.any()
        else 0.0,
        at_visit=attempt(_cox, tens, sample.time, event),
        midpoint=attempt(_cox, tens, half, event),
        weibull_at_visit=attempt(_weibull, tens, sample.time, open_ended),
        interval_censored=attempt(
            _weibull, tens, np.where(between, lower, sample.time), open_ended
        ),
    )


def _cox(tens: FloatArray, time: FloatArray, event: np.ndarray) -> Estimate:
    fit = cox.fit_cox(tens, time, event, ["score"])
    return replace(fit.terms[0].hazard_ratio, warnings=fit.warnings)


def _weibull(tens: FloatArray, lower: FloatArray, upper: FloatArray) -> Estimate:
    return survival.fit_interval_censored(tens, lower, upper, ["score"]).hazard_ratios[0]


def sentences(result: TimeBetweenVisits, _data: Data) -> list[str]:
    """Report how far the place of progression in time matters."""
    found = [
        (
            "Progression is seen at visits and happened before them, "
            f"{number(result.median_interval_months, 1)} months at most in the median of "
            f"{result.events - result.exact}; {result.exact} events have an exact time."
        )
    ]
    for words, part in result.rows:
        if isinstance(part, NotDone):
            found.append(f"{words}: {not_done(part)}.")
    done = [part for _, part in result.rows if not isinstance(part, NotDone)]
    if done:
        low, high = min(d.estimate for d in done), max(d.estimate for d in done)
        found.append(
            f"{result.label}: the hazard ratio ranges from {number(low)} to {number(high)} over "
            f"{len(done)} ways to place it in time."
        )
    return found


def table(result: TimeBetweenVisits, _analysis: Analysis) -> Table | None:
    """Hazard ratios by where progression is placed in time."""
    return Table(
        "time_between_visits",
        f"Progression between visits: hazard ratio of {result.label}",
        ("Time of progression", "HR (95 % CI)", "P"),
        [(words, estimate(part), p_of(part)) for words, part in result.rows],
        f"{result.patients} patients, {result.events} events, {result.exact} of them with an exact "
        "time. Survival curves and other tables place progression at the visit that showed it.",
    )


def populations(result: TimeBetweenVisits, data: Data) -> list[ModelStage]:
    """Count the patients of the interval-censored model."""
    return [
        stage(
            f"Weibull, interval-censored: {data.label('score')}",
            result.eligible,
            result.patients,
            result.events,
            data.label("score"),
            result.interval_censored,
        )
    ]


TIME_BETWEEN_VISITS: Step[TimeBetweenVisits] = Step(
    "time_between_visits",
    "Progression between visits",
    compute=lambda analysis, _: time_between_visits(analysis.data),
    sentences=sentences,
    tables=(table,),
    libraries=("numpy", "scipy", "lifelines"),
    populations=populations,
)
