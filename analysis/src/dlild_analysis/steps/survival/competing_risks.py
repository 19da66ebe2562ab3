"""Incidence of progression where death competes, and regression of both kinds of hazard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import DIED, PROGRESSED, assess
from dlild_analysis.stats import competing_risks
from dlild_analysis.stats.cox import CoxFit, HazardTerm
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff, high_group
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, joined, p_words, percent_estimate
from dlild_analysis.steps.step import Analysis, Drawing, Step

CAUSES = {"progression": PROGRESSED, "death or transplant": DIED}

F = TypeVar("F", CoxFit, competing_risks.FineGrayFit)


@dataclass(frozen=True)
class Incidence:
    """Cumulative incidence of one cause; `incidence_at` by months, as text."""

    curve: competing_risks.CumulativeIncidence
    incidence_at: dict[str, Estimate]


ByCause = dict[str, Incidence]


@dataclass(frozen=True)
class Groups:
    """Incidence of each cause by high and low score."""

    low: ByCause
    high: ByCause


@dataclass(frozen=True)
class Regression(Generic[F]):
    """The score's effect on one cause."""

    cause: str
    fit: F | NotDone


@dataclass(frozen=True)
class CompetingRisks:
    """What the step found; `all` by cause."""

    deaths: int
    all: ByCause
    groups: Groups | NotDone
    cause_specific: tuple[Regression[CoxFit], ...]
    fine_gray: tuple[Regression[competing_risks.FineGrayFit], ...]


def competing_deaths(data: Data, cutoff: Cutoff | NotDone) -> CompetingRisks:
    """Incidence of progression and of death before it, and both regressions."""
    if not data.outcome.competing:
        data = Data(data.cohort, assess(data.cohort, data.outcome.rule, "competing"))
    if not data.outcome.competing:
        raise NotDoneError("no death or transplant before progression is known in this cohort")
    everyone = data.sample((), "follow-up")
    fits = competing_risks.fit_cause_specific, competing_risks.fit_fine_gray
    return CompetingRisks(
        data.outcome.competing,
        _by_cause(data, everyone, np.ones(everyone.n, dtype=bool)),
        attempt(_groups, data, cutoff),
        tuple(Regression(c, attempt(_regress, data, fits[0], code)) for c, code in CAUSES.items()),
        tuple(Regression(c, attempt(_regress, data, fits[1], code)) for c, code in CAUSES.items()),
    )


def _by_cause(data: Data, sample: Sample, who: np.ndarray) -> ByCause:
    horizons = data.study.plan.horizons_months
    found = {}
    for cause, code in CAUSES.items():
        curve = competing_risks.aalen_johansen(sample.time[who], sample.status[who], of=code)
        at = competing_risks.incidence_at(curve, list(horizons))
        found[cause] = Incidence(curve, dict(zip([f"{h:g}" for h in horizons], at, strict=True)))
    return found


def _groups(data: Data, cutoff: Cutoff | NotDone) -> Groups:
    sample = data.sample(("score",), "survival")
    high = high_group(data, sample, cutoff)
    return Groups(*(_by_cause(data, sample, high == code) for code in (0, 1)))


def _regress(data: Data, fit: Callable[..., F], code: int) -> F:
    names = data.available(("score",))
    sample = data.sample(names, "survival")
    if not names:
        raise NotDoneError("there is no score")
    return fit(sample.design, sample.time, sample.status, of=code)


def sentences(result: CompetingRisks, data: Data) -> list[str]:
    """Report incidences and both regressions."""
    found = [f"{result.deaths} patients died or were transplanted before progression."]
    for cause, part in result.all.items():
        at = [f"{percent_estimate(v)} at {m} months" for m, v in part.incidence_at.items()]
        found.append(f"Incidence of {cause}: {joined(at)}.")
    for words, cause, term in _score_terms(result):
        ratio = term.hazard_ratio_per_sd
        found.append(
            f"{data.label('score')} per SD and {cause}: {words} "
            f"{estimate(ratio)}, {p_words(ratio.p_value)}."
        )
    return found


def _score_terms(result: CompetingRisks) -> list[tuple[str, str, HazardTerm]]:
    """List the score's hazard ratios: which kind, of which cause."""
    specific = [("cause-specific HR", item.cause, item.fit) for item in result.cause_specific]
    fine_gray = [("subdistribution HR", item.cause, item.fit) for item in result.fine_gray]
    return [
        (kind, cause, fit.terms[0])
        for kind, cause, fit in (*specific, *fine_gray)
        if not isinstance(fit, NotDone)
    ]


def table(result: CompetingRisks, _analysis: Analysis) -> Table | None:
    """Incidence with competing death, and the regressions."""
    sources = {"All": result.all}
    if not isinstance(result.groups, NotDone):
        sources |= {"Low score": result.groups.low, "High score": result.groups.high}
    words = [
        f"{cause}, {'Fine-Gray ' if kind.startswith('sub') else ''}{kind} of {term.name} per SD "
        f"{estimate(term.hazard_ratio_per_sd)}"
        for kind, cause, term in _score_terms(result)
    ]
    horizons = list(result.all["progression"].incidence_at)
    return Table(
        "competing",
        "Cumulative incidence (Aalen-Johansen)",
        ("Group and event", *(f"{h} months (95 % CI)" for h in horizons)),
        [
            (f"{who}: {cause}", *(percent_estimate(v) for v in part.incidence_at.values()))
            for who, parts in sources.items()
            for cause, part in parts.items()
        ],
        ("; ".join(words) + ".") if words else "",
    )


def figure(result: CompetingRisks, analysis: Analysis) -> Figure | None:
    """Cumulative incidence of progression and of death, by group."""
    sources = (
        {"All patients": result.all}
        if isinstance(result.groups, NotDone)
        else {
            f"{level} {analysis.data.label('score')}": parts
            for level, parts in (("Low", result.groups.low), ("High", result.groups.high))
        }
    )
    made, grid = style.figure(style.ONE_COLUMN * max(1, len(sources)), 3.4, 1, len(sources))
    for axes, (title, parts) in zip(grid[0], sources.items(), strict=True):
        _panel(axes, parts, analysis.data.study.table.time_origin)
        style.legend(axes, title)
    return made


def _panel(axes: Axes, parts: ByCause, origin: str) -> None:
    for (label, part), colour in zip(parts.items(), (style.ORANGE, style.GREY), strict=False):
        curve = part.curve
        if not curve.times.size:
            continue
        times, values, low, high = style.shown(
            curve.times, curve.incidence, curve.ci_low, curve.ci_high
        )
        times = np.concatenate([[0.0], times, [curve.last_time]])
        values, low, high = (
            np.concatenate([[0.0], column, [column[-1]]]) for column in (values, low, high)
        )
        axes.step(times, values, where="post", color=colour, label=label.capitalize())
        axes.fill_between(
            times,
            np.nan_to_num(low),
            np.where(np.isfinite(high), high, values),
            step="post",
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel=f"Months from {origin}", ylabel="Cumulative incidence", ylim=(0, 1))


COMPETING_RISKS: Step[CompetingRisks] = Step(
    "competing_risks",
    "Competing risks",
    compute=lambda analysis, _: competing_deaths(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "incidence",
            figure,
            "Cumulative incidence of progression and of death before it (Aalen-Johansen).",
        ),
    ),
    by_cutoff=True,
)
