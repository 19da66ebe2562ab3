"""Progression-free survival of all patients, and of high and low score (Kaplan-Meier)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.stats import survival
from dlild_analysis.stats.results import OPTIONAL, Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import GROUPS, Cutoff, high_group
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import (
    joined,
    number,
    p_value,
    p_words,
    percent_estimate,
)
from dlild_analysis.steps.step import OWN, Analysis, Drawing, Step


@dataclass(frozen=True)
class Group:
    """The survival of a group; `survival_at` by months, as text."""

    n: int
    events: int
    curve: survival.KaplanMeier
    survival_at: dict[str, Estimate]


@dataclass(frozen=True)
class AtRisk:
    """Numbers at risk under the figure."""

    months: tuple[float, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]


@dataclass(frozen=True)
class Groups:
    """High against low score."""

    cutoff: float
    origin: str
    low: Group
    high: Group
    log_rank: survival.LogRank | NotDone
    at_risk: AtRisk


@dataclass(frozen=True)
class ProgressionFreeSurvival:
    """What the step found."""

    all: Group
    groups: Groups | NotDone
    warnings: tuple[str, ...] = field(default=(), metadata=OPTIONAL)


def kaplan_meier(data: Data, cutoff: Cutoff | NotDone) -> ProgressionFreeSurvival:
    """Kaplan-Meier curves of all patients and by high and low score."""
    everyone = data.sample((), "follow-up", least=2)
    censored = "Competing deaths are censored here; read the Aalen-Johansen incidence instead."
    return ProgressionFreeSurvival(
        _group(data, everyone, np.ones(everyone.n, dtype=bool)),
        attempt(_groups, data, cutoff),
        (censored,) if data.outcome.competing else (),
    )


def _group(data: Data, sample: Sample, who: np.ndarray) -> Group:
    curve = survival.kaplan_meier(sample.time[who], sample.event[who])
    return Group(
        int(who.sum()),
        int(sample.event[who].sum()),
        curve,
        survival_at_horizons(curve, data.study.plan.horizons_months),
    )


def survival_at_horizons(
    curve: survival.KaplanMeier, horizons: tuple[float, ...]
) -> dict[str, Estimate]:
    """Read a curve at each horizon, by months as text."""
    found = survival.survival_at(curve, list(horizons))
    return dict(zip([f"{h:g}" for h in horizons], found, strict=True))


def _groups(data: Data, cutoff: Cutoff | NotDone) -> Groups:
    sample = data.sample(("score",), "follow-up")
    high = high_group(data, sample, cutoff)
    assert not isinstance(cutoff, NotDone)
    ticks = _ticks(float(sample.time.max()))
    low_group, high_group_ = (_group(data, sample, high == code) for code in (0, 1))
    at_risk = [survival.numbers_at_risk(sample.time[high == code], ticks) for code in (0, 1)]
    return Groups(
        cutoff.cutoff,
        cutoff.origin,
        low_group,
        high_group_,
        attempt(survival.log_rank, sample.time, sample.event, np.array(GROUPS)[high]),
        AtRisk(tuple(ticks), *at_risk),
    )


def _ticks(last: float) -> list[float]:
    step = next(step for step in (1.0, 3.0, 6.0, 12.0, 24.0, 60.0, 120.0, 1e9) if last / step <= 8)
    return [float(value) for value in np.arange(0.0, last + 1e-9, step)]


def sentences(result: ProgressionFreeSurvival, data: Data) -> list[str]:
    """Report the survival of high and low."""
    groups = result.groups
    if isinstance(groups, NotDone):
        return [f"Groups were not compared, because {groups.not_done_because}."]
    found = []
    for name, group in (("High", groups.high), ("Low", groups.low)):
        at = [f"{percent_estimate(v)} at {month} months" for month, v in group.survival_at.items()]
        found.append(f"{name} {data.label('score')} (n = {group.n}): {joined(at)}.")
    if not isinstance(groups.log_rank, NotDone):
        test = groups.log_rank.test
        found.append(f"Log-rank chi-squared {number(test.statistic)}, {p_words(test.p_value)}.")
    return found


def table(result: ProgressionFreeSurvival, analysis: Analysis) -> Table | None:
    """Survival at the horizons."""
    groups, score = result.groups, analysis.data.label("score")
    sources, unit = [("All", result.all)], analysis.data.unit("score")
    note = "Kaplan-Meier, 95 % CI on the log-log scale."
    if isinstance(groups, NotDone):
        note += f" No groups, because {groups.not_done_because}."
    else:
        cut = f"{number(groups.cutoff)}{unit}"
        sources += [
            (f"Low {score} (< {cut})", groups.low),
            (f"High {score} (\N{GREATER-THAN OR EQUAL TO} {cut})", groups.high),
        ]
        if not isinstance(groups.log_rank, NotDone):
            test = groups.log_rank.test
            note += f" Log-rank chi-squared {number(test.statistic)}, P {p_value(test.p_value)}."
    horizons = list(result.all.survival_at)
    return Table(
        "survival",
        "Progression-free survival",
        ("Group", "n", "Events", *(f"{h} months (95 % CI)" for h in horizons), "Median (months)"),
        [
            (
                label,
                str(group.n),
                str(group.events),
                *(percent_estimate(group.survival_at[h]) for h in horizons),
                number(group.curve.median.estimate, 1),
            )
            for label, group in sources
        ],
        note,
    )


def figure(result: ProgressionFreeSurvival, analysis: Analysis) -> Figure | None:
    """Kaplan-Meier curves of high and low score, with numbers at risk."""
    groups = result.groups
    if isinstance(groups, NotDone):
        return None
    made = style.figure(style.ONE_COLUMN, 4.2)[0]
    made.clear()
    upper, lower = made.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 1]})
    for name, group, colour in (
        ("Low", groups.low, style.BLUE),
        ("High", groups.high, style.ORANGE),
    ):
        sign = "<" if name == "Low" else "\N{GREATER-THAN OR EQUAL TO}"
        cut = f"{sign} {number(groups.cutoff)}{analysis.data.unit('score')}"
        label = f"{name} {analysis.data.label('score')} ({cut}; n = {group.n})"
        _draw_curve(upper, group.curve, colour, label)
    test = groups.log_rank
    words = "" if isinstance(test, NotDone) else f"Log-rank {p_words(test.test.p_value)}"
    upper.set(ylabel="Share free of progression", ylim=(0, 1.02))
    style.legend(upper, words + _corrected(analysis))
    _draw_at_risk(lower, groups.at_risk, analysis.data)
    return made


def _corrected(analysis: Analysis) -> str:
    """P corrected for the choice of the cut-off, below the log-rank P."""
    cutoff = analysis.cutoff
    if isinstance(cutoff, NotDone) or cutoff.corrected_p is None:
        return ""
    if cutoff.origin != "Youden index":
        return ""
    return f"\ncorrected for the choice of the cut-off {p_words(cutoff.corrected_p)}"


def _draw_curve(axes: Axes, curve: survival.KaplanMeier, colour: str, label: str) -> None:
    times, values, low, high = style.shown(curve.times, curve.survival, curve.ci_low, curve.ci_high)
    times = np.concatenate([[0.0], times])
    values, low, high = (np.concatenate([[1.0], column]) for column in (values, low, high))
    axes.step(times, values, where="post", color=colour, label=label)
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(
        times,
        np.where(known, low, values),
        np.where(known, high, values),
        step="post",
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    lost = curve.censored > 0
    if lost.sum() <= 200:
        axes.plot(
            curve.times[lost],
            curve.survival[lost],
            "|",
            color=colour,
            markersize=4,
            markeredgewidth=0.8,
        )


def _draw_at_risk(axes: Axes, at_risk: AtRisk, data: Data) -> None:
    for y, counts, colour in (
        (0.5, at_risk.low, style.BLUE),
        (-0.5, at_risk.high, style.ORANGE),
    ):
        for month, count in zip(at_risk.months, counts, strict=True):
            axes.text(month, y, str(count), ha="center", va="center", color=colour, fontsize=7)
    axes.set(
        ylim=(-1, 1), xlabel=f"Months from {data.study.table.time_origin}", xticks=at_risk.months
    )
    axes.set_yticks([0.5, -0.5], ["Low", "High"])
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"Number at risk, by {data.label('score')}", loc="left", fontsize=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


KAPLAN_MEIER: Step[ProgressionFreeSurvival] = Step(
    "kaplan_meier",
    "Progression-free survival",
    compute=lambda analysis, _: kaplan_meier(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "survival",
            figure,
            "Progression-free survival by high and low score (Kaplan-Meier, 95 % bands).",
        ),
    ),
    libraries=(*OWN, "lifelines"),
    by_cutoff=True,
)
