"""Table one: all patients, and those with and without progression at the last horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats as scipy_stats

from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.contingency import fisher_exact
from dlild_analysis.stats.results import OPTIONAL
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import MEASURES, Data
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, joined, number, p_value
from dlild_analysis.steps.step import Analysis, Step


@dataclass(frozen=True)
class NoValues:
    """A number that no patient of a group has."""

    n: int
    missing: int


@dataclass(frozen=True)
class Summary:
    """The known values of a number in a group of patients."""

    n: int
    missing: int
    mean: float
    sd: float | None
    median: float
    q1: float
    q3: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Count:
    """Patients of a group with one level of a category."""

    count: int
    of: int
    missing: int | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class NumberRow:
    """A number: all patients, the progressed, the stable, and the tests between the two."""

    name: str
    label: str
    kind: str
    all: Summary | NoValues
    progressed: Summary | NoValues
    stable: Summary | NoValues
    p_t: float | None
    p_rank: float | None


@dataclass(frozen=True)
class LevelRow:
    """A level of a category; `p` is that of the whole category."""

    name: str
    label: str
    kind: str
    level: str
    all: Count
    progressed: Count
    stable: Count
    p: float | None


@dataclass(frozen=True)
class TableOne:
    """What the step found."""

    patients: int
    outcome_known: int
    events: int
    competing_events: int
    status_known_at_horizon: int
    progressed_at_horizon: int
    horizon_months: float
    event_criteria: Mapping[str, int]
    median_follow_up_months: float | None
    follow_up_range_months: tuple[float, ...]
    rows: tuple[NumberRow | LevelRow, ...]
    method: str = (
        "mean (SD), median (quartiles); Welch's t and Mann-Whitney U; chi-squared, or "
        "Fisher's exact test in tables with an expected count under 5; follow-up by "
        "reverse Kaplan-Meier"
    )


def table_one(data: Data) -> TableOne:
    """Describe all patients, and those with and without progression at the last horizon."""
    progressed = data.progressed()
    outcome = data.outcome
    known = np.isfinite(outcome.time)
    times = outcome.time[known]
    return TableOne(
        patients=len(data.cohort.patients),
        outcome_known=int(known.sum()),
        events=outcome.events,
        competing_events=outcome.competing,
        status_known_at_horizon=int(np.isfinite(progressed).sum()),
        progressed_at_horizon=int(np.nansum(progressed)),
        horizon_months=data.study.plan.horizon,
        event_criteria=outcome.reasons,
        median_follow_up_months=_reverse_median(times, outcome.status[known]),
        follow_up_range_months=(float(times.min()), float(times.max())) if known.any() else (),
        rows=_rows(data, progressed),
    )


def _rows(data: Data, progressed: FloatArray) -> tuple[NumberRow | LevelRow, ...]:
    there = [item for item in data.study.covariates if data.cohort.has(item.name)]
    numbers = [*data.available(MEASURES), *data.available(("fvc_litres",))]
    numbers += [item.name for item in there if item.kind == "number"]
    numbers += list(data.available(("gap",)))
    categories = [item.name for item in there if item.kind == "category"]
    return (
        *(_number_row(data, name, progressed) for name in numbers),
        *(row for name in categories for row in _level_rows(data, name, progressed)),
    )


def _reverse_median(time: FloatArray, status: FloatArray) -> float | None:
    """Median follow-up, taking events as censored follow-up (Schemper and Smith, 1996)."""
    order = np.argsort(time, kind="stable")
    alive = 1.0
    censored = (status == 0)[order]
    for index, (moment, end) in enumerate(zip(time[order], censored, strict=True)):
        if end:
            alive *= 1 - 1 / (time.size - index)
        if alive <= 0.5 + 1e-12:
            return float(moment)
    return None


def _summary(values: FloatArray) -> Summary | NoValues:
    known = values[np.isfinite(values)]
    missing = int(values.size - known.size)
    if known.size == 0:
        return NoValues(0, missing)
    q1, median, q3 = (float(value) for value in np.percentile(known, [25, 50, 75]))
    return Summary(
        n=int(known.size),
        missing=missing,
        mean=float(known.mean()),
        sd=float(known.std(ddof=1)) if known.size > 1 else None,
        median=median,
        q1=q1,
        q3=q3,
        minimum=float(known.min()),
        maximum=float(known.max()),
    )


def _number_row(data: Data, name: str, progressed: FloatArray) -> NumberRow:
    values = data.column(name)
    yes, no = values[progressed == 1], values[progressed == 0]
    yes_known, no_known = yes[np.isfinite(yes)], no[np.isfinite(no)]
    p_t = p_rank = None
    if (
        min(yes_known.size, no_known.size) >= 2
        and np.ptp(np.concatenate([yes_known, no_known])) > 0
    ):
        p_t = float(scipy_stats.ttest_ind(yes_known, no_known, equal_var=False).pvalue)
        p_rank = float(scipy_stats.mannwhitneyu(yes_known, no_known).pvalue)
    return NumberRow(
        name,
        data.label(name),
        "number",
        _summary(values),
        _summary(yes),
        _summary(no),
        p_t,
        p_rank,
    )


def _level_rows(data: Data, name: str, progressed: FloatArray) -> list[LevelRow]:
    cells = data.cohort.patients[name]
    levels = data.levels(name)
    counts = np.array(
        [
            [int(((cells == level) & (progressed == flag)).sum()) for flag in (1.0, 0.0)]
            for level in levels
        ]
    )
    p = _table_p(counts)
    known, missing = int(cells.notna().sum()), int(cells.isna().sum())
    return [
        LevelRow(
            name,
            f"{data.label(name)}: {level}",
            "level",
            level,
            Count(int((cells == level).sum()), known, missing),
            Count(int(yes), int(counts[:, 0].sum())),
            Count(int(no), int(counts[:, 1].sum())),
            p,
        )
        for level, (yes, no) in zip(levels, counts, strict=True)
    ]


def _table_p(counts: np.ndarray) -> float | None:
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2 or (counts.sum(axis=0) == 0).any():
        return None
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    if expected.min() < 5:
        exact = attempt(fisher_exact, counts)
        if not isinstance(exact, NotDone):
            return exact.p_value
    return float(scipy_stats.chi2_contingency(counts, correction=False).pvalue)


def sentences(result: TableOne, _data: Data) -> list[str]:
    """Report how many patients, events and months there were."""
    found = [
        f"The cohort had {result.patients} patients; the outcome of {result.outcome_known} "
        f"was known. {result.events} had the event"
        + (f" and {result.competing_events} died before it." if result.competing_events else ".")
    ]
    if result.median_follow_up_months is not None:
        median = number(result.median_follow_up_months, 1)
        found.append(f"Median follow-up (reverse Kaplan-Meier) was {median} months.")
    found.append(
        f"Status at {result.horizon_months:g} months was known in "
        f"{result.status_known_at_horizon}, of whom {result.progressed_at_horizon} had progressed."
    )
    if result.event_criteria:
        criteria = [f"{name}, {count}" for name, count in result.event_criteria.items()]
        found.append(f"Events by criterion: {joined(criteria)}.")
    return found


def table(result: TableOne, analysis: Analysis) -> Table | None:
    """Patients, and those with and without progression."""
    horizon = f"{result.horizon_months:g} months"
    yes = result.progressed_at_horizon
    return Table(
        "patients",
        "Patients",
        (
            "",
            f"All (n = {result.patients})",
            f"Progressed by {horizon} (n = {yes})",
            f"Not progressed (n = {result.status_known_at_horizon - yes})",
            "P",
            "Missing",
        ),
        [
            (
                analysis.data.heading(row.name) if isinstance(row, NumberRow) else row.label,
                _cell(row.all),
                _cell(row.progressed),
                _cell(row.stable),
                p_value(row.p_t if isinstance(row, NumberRow) else row.p),
                str(row.all.missing),
            )
            for row in result.rows
        ],
        with_headings=False,
        footnote="Numbers are mean (SD), or n (%). P: Welch's t test; chi-squared or Fisher's "
        "exact test. "
        f"Groups hold the patients whose status at {horizon} is known. Quartiles, ranges and "
        "rank tests are in results.json.",
    )


def _cell(part: Summary | NoValues | Count) -> str:
    if isinstance(part, Summary):
        return f"{number(part.mean, 1)} ({number(part.sd, 1)})"
    if isinstance(part, Count) and part.of:
        return f"{part.count} ({number(100 * part.count / part.of, 1)} %)"
    return DASH


TABLE_ONE: Step[TableOne] = Step(
    "table_one",
    "Patients",
    compute=lambda analysis, _: table_one(analysis.data),
    sentences=sentences,
    tables=(table,),
)
