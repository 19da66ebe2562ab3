"""Decline of FVC: mL and percent predicted a year, by group and by the score."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.cohort.table.units import TIME_SLACK
from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import end_times
from dlild_analysis.stats import longitudinal
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import GROUPS, Cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.per_points import PER_POINTS
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import (
    estimate,
    joined,
    not_done,
    number,
    p_of,
    p_words,
)
from dlild_analysis.steps.step import Analysis, Drawing, Gap, ModelStage, Step
from dlild_analysis.steps.validation.models import random_stream

LARGE_COHORT = 1_000
STREAM = 600
LINES_SHOWN = 300
COMPLETE, LOST, DEAD = "followed to the end", "lost before the end", "died or transplanted"
MEASURES = {  # column of the visits: name, unit of the slope, factor to that unit
    "fvc_litres": ("FVC", "mL", 1000.0),
    "fvc_percent": ("FVC % predicted", "points", 1.0),
}
CAVEAT = (
    "The mixed model stands under dropout that depends on earlier FVC (missing at random). Where "
    "death or loss depends on an FVC that was not measured, the true decline is steeper; the "
    "pattern-mixture mean, which gives those who left the slope that was seen of them, is a "
    "sensitivity analysis of it, not a joint model."
)


@dataclass(frozen=True)
class MeanLine:
    """Mean of the mixed model in one group, with its 95 % band."""

    group: str
    years: FloatArray
    mean: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray


@dataclass(frozen=True)
class ByGroup:
    """Slopes of the groups of low and high score, and high minus low."""

    cutoff: float
    low: Estimate
    high: Estimate
    difference: Estimate
    lines: tuple[MeanLine, ...]


@dataclass(frozen=True)
class SlopeEffect:
    """What one covariate adds to the annual slope, alone and beside the others.

    Attributes
    ----------
    label : str
        The covariate, with what its effect is per.
    alone, adjusted : Estimate or NotDone
        In the unit of the slope a year.
    """

    label: str
    alone: Estimate | NotDone
    adjusted: Estimate | NotDone


@dataclass(frozen=True)
class Decline:
    """Decline of one measure.

    Attributes
    ----------
    measure, unit : str
        What was measured, and the unit of the slope (a year).
    eligible, patients, measurements : int
        Patients of the cohort with this measure at least once, those in the model, and rows.
    last_month : float
        Of the measurements used.
    slope : Estimate or NotDone
        Of all patients.
    sd_slope, sd_residual : float
        Of the patients' own slopes about the mean, and of a measurement about its line.
    by_group : ByGroup or NotDone
        By high and low score.
    effects : tuple of SlopeEffect
        Annual decline as outcome: what the score and each covariate add to it.
    patterns : PatternMixture or NotDone
        Sensitivity to dropout and death.
    """

    measure: str
    unit: str
    eligible: int
    patients: int
    measurements: int
    last_month: float
    slope: Estimate | NotDone
    sd_slope: float
    sd_residual: float
    by_group: ByGroup | NotDone
    effects: tuple[SlopeEffect, ...]
    patterns: longitudinal.PatternMixture | NotDone
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FvcDecline:
    """What the step found."""

    measures: tuple[Decline, ...] = field(default=())


def measurements(data: Data, column: str) -> pd.DataFrame:
    """List the measurements of FVC that count, one a row.

    Those from the baseline window before the origin to the last horizon, and none after death or
    transplant: what follows a transplant is another lung's.

    Returns
    -------
    DataFrame
        `patient` (position in the cohort), `years`, `value` (mL or percent predicted).

    Raises
    ------
    NotDoneError
        There are no such measurements.
    """
    visits = data.cohort.visits
    name, _, factor = MEASURES[column]
    if column not in visits or visits[column].notna().sum() == 0:
        raise NotDoneError(f"the visits have no {name}")
    time = visits["time"].to_numpy(dtype=np.float64)
    end = end_times(data.cohort)[visits["patient"].to_numpy(dtype=np.int64)]
    keep = (
        visits[column].notna().to_numpy()
        & (time >= -data.study.visits.baseline_window_months - TIME_SLACK)
        & (time <= data.study.plan.horizon + TIME_SLACK)
        & ~(time > end + TIME_SLACK)
    )
    found = visits[keep]
    return pd.DataFrame(
        {
            "patient": found["patient"].to_numpy(dtype=np.int64),
            "years": found["time"].to_numpy(dtype=np.float64) / 12.0,
            "value": found[column].to_numpy(dtype=np.float64) * factor,
        }
    )


def fvc_decline(data: Data, cutoff: Cutoff | NotDone) -> FvcDecline:
    """Estimate the decline of FVC in every unit that the visits have.

    Raises
    ------
    NotDoneError
        The study has no serial FVC.
    """
    if data.cohort.visits.empty:
        raise NotDoneError("the study has no serial measurements ([visits])")
    found = [attempt(_decline, data, column, cutoff) for column in MEASURES]
    done = tuple(item for item in found if not isinstance(item, NotDone))
    if not done:
        raise NotDoneError("; ".join(i.not_done_because for i in found if isinstance(i, NotDone)))
    return FvcDecline(done)


def _decline(data: Data, column: str, cutoff: Cutoff | NotDone) -> Decline:
    rows = measurements(data, column)
    eligible = int(rows["patient"].nunique())
    warnings: list[str] = []
    if eligible > LARGE_COHORT:
        drawn = random_stream(data, STREAM).choice(
            rows["patient"].unique(), LARGE_COHORT, replace=False
        )
        rows = rows[rows["patient"].isin(drawn)].reset_index(drop=True)
        warnings.append(
            f"the mixed models use {LARGE_COHORT} patients drawn at random of {eligible}"
        )
    name, unit, _ = MEASURES[column]
    fit = attempt(_fit, rows, rows[["years"]])
    return Decline(
        name,
        unit,
        eligible=eligible,
        patients=int(rows["patient"].nunique()),
        measurements=len(rows),
        last_month=12.0 * float(rows["years"].max()),
        slope=fit if isinstance(fit, NotDone) else fit.effect("years"),
        sd_slope=np.nan if isinstance(fit, NotDone) else fit.sd_slope,
        sd_residual=np.nan if isinstance(fit, NotDone) else fit.sd_residual,
        by_group=attempt(_by_group, data, rows, cutoff),
        effects=tuple(_effects(data, rows)),
        patterns=attempt(_patterns, data, rows),
        warnings=tuple(warnings),
    )


def _fit(rows: pd.DataFrame, design: pd.DataFrame) -> longitudinal.LinearMixedModel:
    return longitudinal.fit_mixed_slopes(design, rows["value"], rows["years"], rows["patient"])


def _with_slopes(rows: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """Build the fixed effects: covariates, time, and covariates times time."""
    own = columns.reset_index(drop=True)
    years = rows["years"].to_numpy()
    slopes = own.mul(years, axis=0).add_suffix(" x years")
    return pd.concat([own, pd.Series(years, name="years"), slopes], axis=1)


def _by_group(data: Data, rows: pd.DataFrame, cutoff: Cutoff | NotDone) -> ByGroup:
    if isinstance(cutoff, NotDone):
        raise NotDoneError("there is no cut-off of the score")
    score = data.column("score")[rows["patient"]]
    known = np.isfinite(score)
    rows, high = rows[known].reset_index(drop=True), 1.0 * (score[known] >= cutoff.cutoff)
    if len(np.unique(high)) < 2:
        raise NotDoneError(f"all patients are on one side of the cut-off {cutoff.cutoff:.4g}")
    fit = _fit(rows, _with_slopes(rows, pd.DataFrame({"high": high})))
    lines = []
    for group, mark in zip(GROUPS, (0.0, 1.0), strict=True):
        years = np.linspace(0.0, float(rows["years"][high == mark].max()), 13)
        points = [fit.combine([1.0, mark, year, mark * year]) for year in years]
        lines.append(
            MeanLine(
                group,
                years,
                np.array([point.estimate for point in points]),
                np.array([point.ci_low for point in points]),
                np.array([point.ci_high for point in points]),
            )
        )
    return ByGroup(
        cutoff.cutoff,
        low=fit.effect("years"),
        high=fit.combine([0.0, 0.0, 1.0, 1.0]),
        difference=fit.effect("high x years"),
        lines=tuple(lines),
    )


def _effects(data: Data, rows: pd.DataFrame) -> list[SlopeEffect]:
    """Estimate what the score and the covariates of `analysis.adjust` add to the slope."""
    names = data.available(("score", *(n for n in data.study.plan.adjust if n != "score")))
    if not names:
        return []
    design, terms = data.design(names)
    design = design.iloc[rows["patient"].to_numpy()].reset_index(drop=True)
    labels = {}
    for term in terms:
        covariate = data.study.covariate(term.name)
        per = f", per {covariate.unit}" if covariate and covariate.unit and not term.level else ""
        if term.name == "score":
            design[term.label] /= PER_POINTS
            per = f", per {PER_POINTS:g} points"
        labels[term.label] = f"{term.label}{per}"
    together = attempt(_effect_fit, rows, design)
    found = []
    for term in terms:
        alone = attempt(_effect_fit, rows, design[[t.label for t in terms if t.name == term.name]])
        key = f"{term.label} x years"
        found.append(
            SlopeEffect(
                labels[term.label],
                alone if isinstance(alone, NotDone) else alone.effect(key),
                NotDone("the score is the only covariate")
                if len(terms) < 2
                else together
                if isinstance(together, NotDone)
                else together.effect(key),
            )
        )
    return found


def _effect_fit(rows: pd.DataFrame, columns: pd.DataFrame) -> longitudinal.LinearMixedModel:
    known = columns.notna().all(axis=1).to_numpy()
    kept = rows[known].reset_index(drop=True)
    return _fit(kept, _with_slopes(kept, columns[known]))


def pattern_of(data: Data, rows: pd.DataFrame) -> FloatArray:
    """Name the follow-up pattern of each row's patient.

    Died or transplanted by the last month of the measurements; else followed to the end where the
    last measurement lies within the baseline window of that month; else lost.
    """
    last = 12.0 * rows.groupby("patient")["years"].max()
    end = float(last.max())
    dead = end_times(data.cohort)[last.index.to_numpy()] <= end + TIME_SLACK
    to_end = last >= end - data.study.visits.baseline_window_months - TIME_SLACK
    kinds = pd.Series(np.where(dead, DEAD, np.where(to_end, COMPLETE, LOST)), index=last.index)
    return np.asarray(rows["patient"].map(kinds))


def _patterns(data: Data, rows: pd.DataFrame) -> longitudinal.PatternMixture:
    return longitudinal.pattern_mixture_slope(
        rows["value"], rows["years"], rows["patient"], pattern_of(data, rows)
    )


def sentences(result: FvcDecline, data: Data) -> list[str]:
    """Report slopes, groups, the score's effect, and what dropout does."""
    found = []
    for item in result.measures:
        head = (
            f"{item.measure}: {item.patients} patients with {item.measurements} measurements up "
            f"to {number(item.last_month, 1)} months"
        )
        if isinstance(item.slope, NotDone):
            found.append(f"{head}; {not_done(item.slope)}.")
            continue
        found.append(
            f"{head}; annual change {_slope(item.slope, item)} {item.unit} (SD of the patients' "
            f"slopes {number(item.sd_slope, _digits(item))})."
        )
        groups = item.by_group
        if not isinstance(groups, NotDone):
            found.append(
                f"At low {data.label('score')} {_slope(groups.low, item)}, at high "
                f"{_slope(groups.high, item)} {item.unit} a year; difference "
                f"{_slope(groups.difference, item)}, {p_words(groups.difference.p_value)}."
            )
        found += [_effect_words(effect, item) for effect in item.effects[:1]]
        patterns = item.patterns
        if isinstance(patterns, NotDone):
            found.append(f"Sensitivity to dropout: {not_done(patterns)}.")
        else:
            parts = [
                f"{name} {_slope(slope, item)} (n = {count})"
                for name, count, slope in zip(
                    patterns.patterns, patterns.patients, patterns.slopes, strict=True
                )
            ]
            found.append(
                f"By pattern of follow-up: {joined(parts)}; pattern-mixture mean "
                f"{_slope(patterns.mean, item)} {item.unit} a year."
            )
    found.append(CAVEAT)
    return found


def _effect_words(effect: SlopeEffect, item: Decline) -> str:
    if isinstance(effect.alone, NotDone):
        return f"{effect.label}: {not_done(effect.alone)}."
    words = (
        f"{effect.label}: {_slope(effect.alone, item)} {item.unit} a year, "
        f"{p_words(effect.alone.p_value)}"
    )
    if isinstance(effect.adjusted, NotDone):
        return f"{words}."
    return f"{words}; adjusted {_slope(effect.adjusted, item)}, {p_words(effect.adjusted.p_value)}."


def _digits(item: Decline) -> int:
    return 0 if item.unit == "mL" else 2


def _slope(value: Estimate | NotDone, item: Decline) -> str:
    return estimate(value, _digits(item))


def table(result: FvcDecline, _analysis: Analysis) -> Table | None:
    """Annual change of FVC by group, covariate and pattern of follow-up."""
    rows: list[tuple[str, str, str, str]] = []
    for item in result.measures:
        unit = f"{item.measure}, {item.unit} a year"
        rows.append((f"{unit}: all (n = {item.patients})", _slope(item.slope, item), "", ""))
        groups = item.by_group
        if not isinstance(groups, NotDone):
            rows += [
                (f"{unit}: low score", _slope(groups.low, item), "", ""),
                (f"{unit}: high score", _slope(groups.high, item), "", ""),
                (
                    f"{unit}: high minus low",
                    _slope(groups.difference, item),
                    "",
                    p_of(groups.difference),
                ),
            ]
        rows += [
            (
                f"{unit}: effect of {effect.label}",
                _slope(effect.alone, item),
                _slope(effect.adjusted, item),
                p_of(effect.alone if isinstance(effect.adjusted, NotDone) else effect.adjusted),
            )
            for effect in item.effects
        ]
        patterns = item.patterns
        if not isinstance(patterns, NotDone):
            rows += [
                (f"{unit}: {name} (n = {count})", _slope(slope, item), "", "")
                for name, count, slope in zip(
                    patterns.patterns, patterns.patients, patterns.slopes, strict=True
                )
            ]
            rows.append(
                (f"{unit}: pattern-mixture mean", _slope(patterns.mean, item), "", ""),
            )
    return Table(
        "fvc_decline",
        "Annual change of FVC (linear mixed models)",
        ("Measure", "Change a year (95 % CI)", "Adjusted (95 % CI)", "P"),
        rows,
        "Random intercept and slope for each patient, restricted maximum likelihood. Effects are "
        "differences of the annual change; adjusted: all covariates of the table together; P of "
        "the adjusted effect where there is one. " + CAVEAT,
    )


def figure(result: FvcDecline, analysis: Analysis) -> Figure | None:
    """Patients' measurements and the model's mean, by high and low score."""
    shown = [item for item in result.measures if not isinstance(item.by_group, NotDone)]
    if not shown:
        return None
    made, grid = style.figure(style.ONE_COLUMN * len(shown), 3.2, 1, len(shown))
    for axes, item in zip(grid[0], shown, strict=True):
        _panel(axes, analysis, item)
    return made


def _panel(axes: Axes, analysis: Analysis, item: Decline) -> None:
    data, groups = analysis.data, item.by_group
    if isinstance(groups, NotDone):
        return
    column = next(key for key, (name, _, _) in MEASURES.items() if name == item.measure)
    rows = measurements(data, column)
    score = data.column("score")
    patients = [p for p in rows["patient"].unique() if np.isfinite(score[p])]
    if len(patients) > LINES_SHOWN:
        chosen = random_stream(data, STREAM + 1).choice(patients, LINES_SHOWN, replace=False)
        patients = [int(value) for value in chosen]
    by_patient = dict(tuple(rows.groupby("patient")))
    colours = {"low": style.BLUE, "high": style.ORANGE}
    for patient in patients:
        own = by_patient[patient]
        colour = colours["high" if score[patient] >= groups.cutoff else "low"]
        axes.plot(12 * own["years"], own["value"], color=colour, alpha=0.18, linewidth=0.6)
    for line in groups.lines:
        months = 12 * line.years
        name = f"{line.group.capitalize()} {data.label('score')}, model's mean"
        axes.plot(months, line.mean, color=colours[line.group], linewidth=2.0, label=name)
        axes.fill_between(
            months, line.ci_low, line.ci_high, color=colours[line.group], alpha=0.25, linewidth=0
        )
    unit = "mL" if item.unit == "mL" else "% predicted"
    axes.set(xlabel=f"Months from {data.study.table.time_origin}", ylabel=f"FVC ({unit})")
    style.legend(axes)


def populations(result: FvcDecline, data: Data) -> list[ModelStage]:
    """Count the patients of the mixed models, for the flow of patients."""
    found = []
    cohort = len(data.cohort.patients)
    for item in result.measures:
        without = [
            Gap(f"serial {item.measure}", cohort - item.eligible),
            Gap("not drawn", item.eligible - item.patients),
        ]
        groups, effects = item.by_group, item.effects
        parts: list[tuple[str, Estimate | NotDone, str]] = [("all", item.slope, "")]
        parts.append(
            ("by group", groups if isinstance(groups, NotDone) else groups.low, data.label("score"))
        )
        if len(effects) > 1:
            parts.append(("adjusted", effects[0].adjusted, "covariates"))
        for words, part, lacking in parts:
            n = 0 if isinstance(part, NotDone) else part.n
            gaps = [*without, Gap(lacking, item.patients - n)] if n else []
            found.append(
                ModelStage(
                    f"mixed model: {item.measure}, {words}",
                    main=False,
                    outcome="serial measurements",
                    eligible=cohort,
                    missing=tuple(gap for gap in gaps if gap.patients),
                    n=n,
                    events=0,
                    because=part.not_done_because if isinstance(part, NotDone) else "",
                )
            )
    return found


FVC_DECLINE: Step[FvcDecline] = Step(
    "fvc_decline",
    "Decline of FVC",
    compute=lambda analysis, _: fvc_decline(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "fvc_decline",
            figure,
            "FVC over time: each patient's measurements (thin) and the mixed model's mean with its "
            "95 % band, by high and low score. At most 300 patients are drawn.",
        ),
    ),
    populations=populations,
    by_cutoff=True,
)
