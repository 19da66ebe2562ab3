"""Follow-up scans: the score of the last scan, and its change, as a time-varying covariate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dlild_analysis.cohort.table.units import TIME_SLACK
from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.per_points import PER_POINTS, score_sample, stage
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, p_of, p_words
from dlild_analysis.steps.step import Analysis, ModelStage, Step


@dataclass(frozen=True)
class TimeVarying:
    """What the step found: hazard ratios per ten points.

    Attributes
    ----------
    eligible, patients, events : int
        With a known outcome; with a baseline score as well; of them with the event.
    rescanned, scans : int
        Patients with a follow-up scan before their follow-up ended, and such scans.
    current : Estimate or NotDone
        The last score known.
    baseline, change : Estimate or NotDone
        The baseline score and the change since, together.
    """

    eligible: int
    patients: int
    events: int
    rescanned: int
    scans: int
    current: Estimate | NotDone
    baseline: Estimate | NotDone
    change: Estimate | NotDone


def counting_process(data: Data) -> pd.DataFrame:
    """Cut every patient's follow-up at the follow-up scans.

    Returns
    -------
    DataFrame
        `patient`, `start`, `stop` (months), `event`, `score` (the last known at the start, in
        points), `baseline`. A scan on the day of the event or of the end of follow-up tells
        nothing of what came after, and is left out.

    Raises
    ------
    NotDoneError
        There is no score.
    """
    sample = score_sample(data)
    visits = data.cohort.visits
    if "score" not in visits or visits["score"].notna().sum() == 0:
        raise NotDoneError("the visits have no score of follow-up scans (visits.score)")
    end = np.full(len(data.cohort.patients), -np.inf)
    end[sample.position] = sample.time
    owner = visits["patient"].to_numpy(dtype=np.int64)
    use = (visits["score"].notna() & (visits["time"] > TIME_SLACK)).to_numpy()
    use &= visits["time"].to_numpy() < end[owner] - TIME_SLACK
    scans = visits[use]
    baseline = data.column("score")
    first = pd.DataFrame(
        {"patient": sample.position, "start": 0.0, "score": baseline[sample.position]}
    )
    later = pd.DataFrame(
        {
            "patient": scans["patient"].to_numpy(dtype=np.int64),
            "start": scans["time"].to_numpy(dtype=np.float64),
            "score": scans["score"].to_numpy(dtype=np.float64),
        }
    )
    rows = pd.concat([first[first["patient"].map(lambda p: end[p] > 0)], later])
    rows = rows.sort_values(["patient", "start"], kind="stable").reset_index(drop=True)
    following = rows["start"].shift(-1).where(rows["patient"].shift(-1) == rows["patient"])
    last = following.isna()
    happened = np.zeros(end.size)
    happened[sample.position] = sample.event
    rows["stop"] = following.fillna(rows["patient"].map(lambda p: end[p]))
    rows["event"] = np.where(last, happened[rows["patient"]], 0.0)
    rows["baseline"] = baseline[rows["patient"]]
    return rows


def time_varying(data: Data) -> TimeVarying:
    """Fit the current score, and the baseline score with the change since.

    Raises
    ------
    NotDoneError
        There are no scores of follow-up scans.
    """
    rows = counting_process(data)
    later = rows[rows["start"] > 0]
    if later.empty:
        raise NotDoneError("no follow-up scan lies before the end of its patient's follow-up")
    both = attempt(
        _fit,
        rows,
        pd.DataFrame(
            {
                "baseline": rows["baseline"] / PER_POINTS,
                "change": (rows["score"] - rows["baseline"]) / PER_POINTS,
            }
        ),
    )
    current = attempt(_fit, rows, pd.DataFrame({"score": rows["score"] / PER_POINTS}))
    known = data.outcome.known
    return TimeVarying(
        eligible=int(known.sum()),
        patients=int(rows["patient"].nunique()),
        events=int(rows["event"].sum()),
        rescanned=int(later["patient"].nunique()),
        scans=len(later),
        current=current if isinstance(current, NotDone) else current[0],
        baseline=both if isinstance(both, NotDone) else both[0],
        change=both if isinstance(both, NotDone) else both[1],
    )


def _fit(rows: pd.DataFrame, design: pd.DataFrame) -> list[Estimate]:
    if rows["event"].sum() < design.shape[1]:
        raise NotDoneError(f"{rows['event'].sum():.0f} events are too few")
    fit = cox.fit_time_varying_cox(
        design, rows["patient"], rows["start"], rows["stop"], rows["event"]
    )
    return [replace(term.hazard_ratio, method=fit.method) for term in fit.terms]


def sentences(result: TimeVarying, data: Data) -> list[str]:
    """Report the current score and its change."""
    score = data.label("score")
    found = [
        (
            f"{result.rescanned} of {result.patients} patients had {result.scans} follow-up scans "
            "before the event or the end of follow-up; each score was carried forward."
        )
    ]
    if not isinstance(result.current, NotDone):
        found.append(
            f"Current {score}, per {PER_POINTS:g} points: HR {estimate(result.current)}, "
            f"{p_words(result.current.p_value)}."
        )
    if not isinstance(result.change, NotDone):
        found.append(
            f"Change since baseline, per {PER_POINTS:g} points and beside the baseline score: HR "
            f"{estimate(result.change)}, {p_words(result.change.p_value)}."
        )
    return found


def table(result: TimeVarying, analysis: Analysis) -> Table | None:
    """Hazard ratios of the current score, and of the baseline score with the change since."""
    score = analysis.data.label("score")
    per = f"per {PER_POINTS:g} points"
    return Table(
        "time_varying",
        f"{score} of follow-up scans as time-varying covariate (Cox regression)",
        ("Covariate", "HR (95 % CI)", "P"),
        [
            (f"Current {score}, {per}", estimate(result.current), p_of(result.current)),
            (f"Baseline {score}, {per}", estimate(result.baseline), p_of(result.baseline)),
            (f"Change of {score} since, {per}", estimate(result.change), p_of(result.change)),
        ],
        f"{result.patients} patients, {result.events} events, {result.scans} follow-up scans. The "
        "first row is a model of its own; the other two are one model.",
    )


def populations(result: TimeVarying, data: Data) -> list[ModelStage]:
    """Count the patients of the time-varying model."""
    return [
        stage(
            f"Cox, time-varying: {data.label('score')}",
            result.eligible,
            result.patients,
            result.events,
            data.label("score"),
            result.current,
        )
    ]


TIME_VARYING: Step[TimeVarying] = Step(
    "time_varying",
    "Follow-up scans",
    compute=lambda analysis, _: time_varying(analysis.data),
    sentences=sentences,
    tables=(table,),
    libraries=("numpy", "scipy", "lifelines"),
    populations=populations,
)
