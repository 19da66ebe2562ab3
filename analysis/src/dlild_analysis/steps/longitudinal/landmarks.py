"""Landmark analyses: patients free of the event at a month, and what was known of them by then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlild_analysis.cohort.table.units import TIME_SLACK
from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox, survival
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff, high_group
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.per_points import (
    PER_POINTS,
    in_tens,
    label_per_points,
    score_sample,
    stage,
)
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, estimate, number, p_of, p_value, p_words
from dlild_analysis.steps.step import Analysis, ModelStage, Step

FVC_PERCENT = 5.0  # percent of baseline that the hazard ratio of a decline is per
SCORE_POINTS = 5.0  # points of a rise of the score


@dataclass(frozen=True)
class Landmark:
    """The analysis from one month on.

    Attributes
    ----------
    months : float
        The landmark; time counts from it.
    patients, events : int
        Free of the event and still followed at the landmark; events after it.
    score : Estimate or NotDone
        Hazard ratio of the baseline score per ten points.
    log_rank : LogRank or NotDone
        High against low baseline score.
    fvc_decline : Estimate or NotDone
        Hazard ratio per 5 % relative decline of FVC up to the landmark, adjusted for the score.
    score_rise : Estimate or NotDone
        Hazard ratio per 5 points that the score rose up to the landmark, adjusted for the baseline
        score.
    """

    months: float
    patients: int
    events: int
    score: Estimate | NotDone
    log_rank: survival.LogRank | NotDone
    fvc_decline: Estimate | NotDone
    score_rise: Estimate | NotDone


@dataclass(frozen=True)
class Landmarks:
    """What the step found."""

    label: str
    eligible: int
    landmarks: tuple[Landmark | NotDone, ...]


def landmarks(data: Data, cutoff: Cutoff | NotDone) -> Landmarks:
    """Analyse from every month of `analysis.landmarks_months` on.

    Raises
    ------
    NotDoneError
        There is no score, or no patient with the event.
    """
    sample = score_sample(data)
    return Landmarks(
        label_per_points(data),
        sample.n,
        tuple(
            attempt(_landmark, data, sample, cutoff, months)
            for months in data.study.plan.landmarks_months
        ),
    )


def _landmark(data: Data, sample: Sample, cutoff: Cutoff | NotDone, months: float) -> Landmark:
    later = sample.time > months + TIME_SLACK
    if not sample.event[later].any():
        raise NotDoneError(f"no event is known after {months:g} months")
    time, event, tens = sample.time[later] - months, sample.event[later], in_tens(data, sample)
    position = sample.position[later]
    return Landmark(
        months,
        patients=int(later.sum()),
        events=int(event.sum()),
        score=attempt(_ratio, tens[later][:, None], time, event),
        log_rank=attempt(_log_rank, data, sample, cutoff, later, months),
        fvc_decline=attempt(
            _with_change,
            tens[later],
            relative_decline_by(data, months)[position] / FVC_PERCENT,
            time,
            event,
            "FVC",
        ),
        score_rise=attempt(
            _with_change,
            tens[later],
            score_rise_by(data, months)[position] / SCORE_POINTS,
            time,
            event,
            "score of a follow-up scan",
        ),
    )


def _ratio(
    design: FloatArray, time: FloatArray, event: NDArray[np.int64], term: int = 0
) -> Estimate:
    if event.sum() < design.shape[1]:
        raise NotDoneError(f"{event.sum()} events are too few for {design.shape[1]} parameters")
    fit = cox.fit_cox(design, time, event)
    return replace(fit.terms[term].hazard_ratio, warnings=fit.warnings)


def _with_change(
    tens: FloatArray, change: FloatArray, time: FloatArray, event: NDArray[np.int64], what: str
) -> Estimate:
    known = np.isfinite(change)
    if known.sum() < 4:
        raise NotDoneError(f"{int(known.sum())} patients have a {what} between 0 and the landmark")
    if not event[known].any():
        raise NotDoneError("none of those measured by then had the event")
    return _ratio(np.column_stack([change, tens])[known], time[known], event[known])


def _log_rank(
    data: Data,
    sample: Sample,
    cutoff: Cutoff | NotDone,
    later: NDArray[np.bool_],
    months: float,
) -> survival.LogRank:
    high = high_group(data, sample, cutoff)
    return survival.log_rank(sample.time[later] - months, sample.event[later], high[later])


def relative_decline_by(data: Data, months: float) -> FloatArray:
    """Take the decline of FVC up to a month, in percent of the baseline.

    From the measurement nearest to the origin to the last one up to the month, in litres where the
    cohort has them, else in percent predicted.

    Returns
    -------
    array of shape (n,)
        NaN where either is missing.
    """
    for name in ("fvc_litres", "fvc_percent"):
        start, last = _first_and_last(data, name, months)
        if np.isfinite(last).any():
            with np.errstate(invalid="ignore", divide="ignore"):
                decline: FloatArray = 100.0 * (start - last) / start
            return decline
    return np.full(len(data.cohort.patients), np.nan)


def score_rise_by(data: Data, months: float) -> FloatArray:
    """Take the rise of the score from baseline to the last follow-up scan up to a month.

    Returns
    -------
    array of shape (n,)
        Points; NaN without a follow-up scan.
    """
    _, last = _first_and_last(data, "score", months)
    rise: FloatArray = last - data.column("score")
    return rise


def _first_and_last(data: Data, name: str, months: float) -> tuple[FloatArray, FloatArray]:
    """Take the measurement nearest to the origin, and the last one after it up to a month."""
    size = len(data.cohort.patients)
    start, last = np.full(size, np.nan), np.full(size, np.nan)
    visits = data.cohort.visits
    if name not in visits:
        return start, last
    window = data.study.visits.baseline_window_months + TIME_SLACK
    rows = visits[visits[name].notna()]
    near = rows[rows["time"].abs() <= window]
    near = near.assign(distance=near["time"].abs()).sort_values(["patient", "distance"])
    _place(near.drop_duplicates("patient"), name, start)
    _place(
        rows[(rows["time"] > TIME_SLACK) & (rows["time"] <= months + TIME_SLACK)]
        .sort_values(["patient", "time"])
        .drop_duplicates("patient", keep="last"),
        name,
        last,
    )
    return start, last


def _place(rows: pd.DataFrame, name: str, values: FloatArray) -> None:
    values[rows["patient"].to_numpy(dtype=np.int64)] = rows[name].to_numpy(dtype=np.float64)


def sentences(result: Landmarks, _data: Data) -> list[str]:
    """Report each landmark."""
    found = []
    for item in result.landmarks:
        if isinstance(item, NotDone):
            found.append(f"A landmark was not analysed, because {item.not_done_because}.")
            continue
        words = (
            f"From {item.months:g} months on ({item.patients} patients free of the event, "
            f"{item.events} events later): {result.label}, HR {estimate(item.score)}"
        )
        if not isinstance(item.score, NotDone):
            words += f", {p_words(item.score.p_value)}"
        if not isinstance(item.log_rank, NotDone):
            words += f"; high against low, log-rank {p_words(item.log_rank.test.p_value)}"
        found.append(f"{words}.")
        if not isinstance(item.score_rise, NotDone):
            found.append(
                f"A rise of the score by {SCORE_POINTS:g} points up to then: HR "
                f"{estimate(item.score_rise)}, {p_words(item.score_rise.p_value)}."
            )
    return found


def table(result: Landmarks, _analysis: Analysis) -> Table | None:
    """Hazard ratios from each landmark on."""
    rows = []
    for item in result.landmarks:
        if isinstance(item, NotDone):
            continue
        log_rank = item.log_rank
        rows.append(
            (
                number(item.months, 0 if item.months == round(item.months) else 1),
                f"{item.patients} / {item.events}",
                estimate(item.score),
                p_of(item.score),
                DASH if isinstance(log_rank, NotDone) else p_value(log_rank.test.p_value),
                estimate(item.fvc_decline),
                estimate(item.score_rise),
            )
        )
    if not rows:
        return None
    return Table(
        "landmarks",
        "Landmark analyses (Cox regression from the landmark on)",
        (
            "Months",
            "Patients / later events",
            f"{result.label}: HR (95 % CI)",
            "P",
            "Log-rank P, high against low",
            f"FVC decline by then, per {FVC_PERCENT:g} %: HR",
            f"Rise of the score by then, per {SCORE_POINTS:g} points: HR",
        ),
        rows,
        "Patients with the event or lost before a landmark are left out of it. Decline and rise "
        f"are adjusted for the baseline score (per {PER_POINTS:g} points), in those measured.",
    )


def populations(result: Landmarks, data: Data) -> list[ModelStage]:
    """Count the patients of each landmark."""
    return [
        stage(
            f"Cox from {item.months:g} months on: {data.label('score')}",
            result.eligible,
            item.patients,
            item.events,
            f"event or lost by {item.months:g} months",
            item.score,
        )
        for item in result.landmarks
        if not isinstance(item, NotDone)
    ]


LANDMARKS: Step[Landmarks] = Step(
    "landmarks",
    "Landmark analyses",
    compute=lambda analysis, _: landmarks(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    populations=populations,
)
