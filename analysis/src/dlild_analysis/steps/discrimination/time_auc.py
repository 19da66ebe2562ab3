"""AUC over time of each measure, weighted for censoring, and the table of discrimination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import survival
from dlild_analysis.stats.arrays import horizon_among
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import MEASURES, Data, Sample
from dlild_analysis.steps.discrimination.concordance import CONCORDANCE, measured
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, estimate, joined, p_of
from dlild_analysis.steps.step import Analysis, Drawing, Step


@dataclass(frozen=True)
class MeasureAuc:
    """AUC of one measure at a horizon."""

    name: str
    label: str
    auc: Estimate | NotDone


@dataclass(frozen=True)
class AtHorizon:
    """AUCs of all measures at one horizon."""

    horizon_months: float
    measures: tuple[MeasureAuc, ...]


@dataclass(frozen=True)
class Comparison:
    """The score against another measure at one horizon."""

    horizon_months: float
    label: str
    result: survival.TimeAucComparison | NotDone


@dataclass(frozen=True)
class Curve:
    """AUC of one measure at each of some months."""

    name: str
    label: str
    months: tuple[float, ...]
    auc: tuple[Estimate, ...] | NotDone


@dataclass(frozen=True)
class TimeAucs:
    """What the step found."""

    at: tuple[AtHorizon, ...]
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]


def time_dependent_auc(data: Data) -> TimeAucs:
    """AUC over time of each measure, and the comparison at each horizon."""
    sample = data.sample((), "survival")
    names = data.available(MEASURES)
    if not names:
        raise NotDoneError("there is no score and no lung function")
    last = float(sample.time.max())
    grid = _grid(sample)
    horizons = [h for h in data.study.plan.horizons_months if horizon_among(h, sample.time) <= last]
    return TimeAucs(
        tuple(
            AtHorizon(
                h, tuple(MeasureAuc(n, data.label(n), attempt(_auc_at, data, n, h)) for n in names)
            )
            for h in horizons
        ),
        tuple(
            Comparison(
                h,
                f"{data.label('score')} minus {data.label(name)}",
                attempt(_compare, data, name, h),
            )
            for h in horizons
            for name in names
            if name != "score" and "score" in names
        ),
        tuple(Curve(n, data.label(n), grid, attempt(_curve, data, n, grid)) for n in names)
        if "auc-over-time" in data.study.plan.more
        else (),
    )


def _grid(sample: Sample) -> tuple[float, ...]:
    """Choose up to twelve months between the early events and the end of most follow-up."""
    events = sample.time[sample.event == 1]
    low, high = (
        float(np.quantile(events, 0.1)),
        float(min(np.quantile(events, 0.95), sample.time.max() * 0.999)),
    )
    if high <= low:
        return (low,)
    return tuple(float(value) for value in np.unique(np.round(np.linspace(low, high, 12), 4)))


def _curve(data: Data, name: str, grid: tuple[float, ...]) -> tuple[Estimate, ...]:
    sample, values = measured(data, name)
    return tuple(survival.time_auc_curve(sample.time, sample.event, values, list(grid)))


def _auc_at(data: Data, name: str, horizon: float) -> Estimate:
    sample, values = measured(data, name)
    return survival.time_auc(sample.time, sample.event, values, horizon)


def _compare(data: Data, name: str, horizon: float) -> survival.TimeAucComparison:
    sample = data.sample(("score", name), "survival")
    a, b = data.risk_direction(sample, "score"), data.risk_direction(sample, name)
    return survival.compare_time_auc(sample.time, sample.event, a, b, horizon)


def sentences(result: TimeAucs, _data: Data) -> list[str]:
    """Report the AUC at each horizon."""
    found = []
    for item in result.at:
        areas = [
            f"{part.label} {estimate(part.auc, 3)}"
            for part in item.measures
            if not isinstance(part.auc, NotDone)
        ]
        if areas:
            found.append(f"AUC at {item.horizon_months:g} months: {joined(areas)}.")
    return found


def table(analysis: Analysis) -> Table | None:
    """Time-dependent AUC and concordance."""
    over_time, concordance = analysis.of(TIME_AUC), analysis.of(CONCORDANCE)
    at = () if isinstance(over_time, NotDone) else over_time.at
    compared = () if isinstance(over_time, NotDone) else over_time.comparisons
    measures = () if isinstance(concordance, NotDone) else concordance.measures
    if not at and not measures:
        return None
    by_name = {item.name: item for item in measures}
    areas = {(item.horizon_months, part.name): part.auc for item in at for part in item.measures}
    differences = {(item.horizon_months, item.label): item.result for item in compared}
    labels = {item.name: item.label for item in measures}
    labels |= {part.name: part.label for item in at for part in item.measures}
    rows: list[tuple[str, ...]] = []
    for name, label in labels.items():
        found = by_name.get(name)
        rows.append(
            (
                label,
                *(estimate(areas.get((item.horizon_months, name)), 3) for item in at),
                estimate(None if found is None else found.harrell, 3),
                estimate(None if found is None else found.uno, 3),
            )
        )
    rows += [
        (
            item.label,
            *(_difference(differences.get((a.horizon_months, item.label))) for a in at),
            _difference(item.harrell),
            _difference(item.uno),
        )
        for item in (() if isinstance(concordance, NotDone) else concordance.comparisons)
    ]
    heads = tuple(f"AUC ({item.horizon_months:g} months)" for item in at)
    return Table(
        "discrimination",
        "Discrimination over time",
        ("Measure or difference", *heads, "Harrell's C", "Uno's C"),
        rows,
        "AUC of cases by, against patients free of the event beyond, each month, weighted for "
        "censoring. Differences with P.",
    )


def _difference(
    part: survival.TimeAucComparison | survival.ConcordanceComparison | NotDone | None,
) -> str:
    if part is None or isinstance(part, NotDone):
        return DASH
    return f"{estimate(part.difference, 3)}, P {p_of(part.difference)}"


def figure(result: TimeAucs, analysis: Analysis) -> Figure | None:
    """AUC over time with pointwise intervals."""
    curves = [item for item in result.curves if not isinstance(item.auc, NotDone)]
    if not curves or len(curves[0].months) < 2:
        return None
    made, grid = style.figure(style.ONE_COLUMN, 3.6)
    axes = grid[0][0]
    for item, colour in zip(curves, style.CYCLE, strict=False):
        assert not isinstance(item.auc, NotDone)
        months = np.array(item.months)
        axes.plot(months, [v.estimate for v in item.auc], color=colour, label=item.label)
        if item.name in ("score", "visual"):
            low, high = [v.ci_low for v in item.auc], [v.ci_high for v in item.auc]
            axes.fill_between(months, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)))
    origin = analysis.data.study.table.time_origin
    axes.set(xlabel=f"Months from {origin}", ylabel="AUC(t), censoring-weighted", ylim=(0.35, 1.01))
    style.legend(axes)
    return made


TIME_AUC: Step[TimeAucs] = Step(
    "time_auc",
    "Time-dependent AUC",
    compute=lambda analysis, _: time_dependent_auc(analysis.data),
    sentences=sentences,
    joint_tables=(table,),
    figures=(
        Drawing(
            "time_auc",
            figure,
            "AUC over time, weighted for censoring, with pointwise 95 % bands of the scores.",
        ),
    ),
)
