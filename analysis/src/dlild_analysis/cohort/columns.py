"""The patients' columns: read, brought to the units of this package, and checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from dlild_analysis.cohort.reading_sheets import level_codes
from dlild_analysis.cohort.study import Covariate, Measure, Study
from dlild_analysis.cohort.table.codes import (
    check_codes,
    check_level_codes,
    check_long_times,
    read_events,
)
from dlild_analysis.cohort.table.faults import (
    ANY,
    DLCO_PREDICTED,
    LITRES,
    PERCENT_PREDICTED,
    SHARE,
    FaultLog,
    Limits,
    check_limits,
    check_mixed_units,
)
from dlild_analysis.cohort.table.tables import numbers, words
from dlild_analysis.cohort.table.units import (
    SHARE_TO_PERCENT,
    TIME_SLACK,
    TIME_TO_MONTHS,
    VOLUME_TO_LITRES,
)
from dlild_analysis.stats.arrays import FloatArray, merge_tied_times

MAX_LEVELS = 12


def read_patients(
    frame: pd.DataFrame, study: Study, log: FaultLog, origin: pd.Series | None = None
) -> pd.DataFrame:
    """Read every column of the patients that the study names; see `Cohort.patients`.

    Parameters
    ----------
    origin : Series, optional
        By id: the month, on the table's clock, from which the patient's times count.
    """
    out = pd.DataFrame({"row": frame["row"].to_numpy(), "id": frame["id"].to_numpy()})
    for name, measure in (("score", study.score), ("visual", study.visual)):
        if measure:
            out[name] = _measure(frame, measure, log)
    baseline = [
        name
        for name in ("fvc_percent", "dlco_percent", "fvc_litres")
        if f"baseline:{name}" in frame
    ]
    for name in baseline:
        out[name] = frame[f"baseline:{name}"].to_numpy(dtype=np.float64)
    _lung_function(frame, study, out, log)
    for covariate in study.covariates:
        out[covariate.name] = _covariate(frame, covariate, log)
    for index, column in enumerate(study.readings.columns, start=1):
        out[f"reading_{index}"] = _reading(frame, column, study, log)
    if study.score:
        for index, column in enumerate(study.repeats, start=1):
            out[f"repeat_{index}"] = _measure(frame, replace(study.score, column=column), log)
    _outcome_columns(frame, study, out, log, origin)
    return out


def _reading(frame: pd.DataFrame, column: str, study: Study, log: FaultLog) -> FloatArray:
    readings = study.readings
    if readings.kind == "category" and readings.sheet is None:
        codes = level_codes(frame, column, readings.levels, log)
        return np.asarray(codes, dtype=np.float64)
    values = numbers(frame, column, log)
    if readings.kind == "category":
        return values
    values = check_codes(values, frame, column, log, doubt_only=True)
    return values * SHARE_TO_PERCENT.get(readings.unit, 1.0)


def _note_fractions(values: FloatArray, frame: pd.DataFrame, column: str, log: FaultLog) -> None:
    """Note values of a percentage that may be fractions: up to 1, and far from all others.

    A note only: a lung with half a percent of lesions is no fault.
    """
    known = np.isfinite(values) & (values > 0)
    small, large = known & (values <= 1.0), known & (values > 1.0)
    if not small.any() or values[large].min(initial=np.inf) < 3.0 * values[small].max():
        return
    if not large.any():
        words = 'no value lies above 1: are these fractions? Then write unit = "fraction"'
        log.warn(None, column, "", "", words)
        return
    for index in np.flatnonzero(small):
        log.warn(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            f"{values[index]:.10g}",
            f"lies far below the others, which begin at {values[large].min():.4g}: if it is a "
            "fraction, the column mixes units",
        )


def _measure(frame: pd.DataFrame, measure: Measure, log: FaultLog) -> FloatArray:
    values = numbers(frame, measure.column, log)
    values = check_codes(values, frame, measure.column, log, doubt_only=True)
    if measure.unit == "fraction":
        values = (
            check_mixed_units(
                values, 1.0, frame, measure.column, log, names=("a fraction", "percent")
            )
            if np.nanmax(values, initial=0.0) > 1.0
            else values
        )
    if measure.unit == "percent":
        _note_fractions(values, frame, measure.column, log)
    if measure.unit != "points":
        scaled = values * measure.factor
        check_limits(scaled, SHARE, frame, measure.column, log, factor=measure.factor)
        top = np.nanmax(scaled, initial=0.0)
        if measure.unit == "percent" and 0.0 < top <= 1.0:
            log.warn(
                None,
                measure.column,
                "",
                f"{top:g}",
                "is the highest value: the column looks like fractions; if so, set its unit to "
                '"fraction"',
            )
        return scaled
    return values


def _lung_function(frame: pd.DataFrame, study: Study, out: pd.DataFrame, log: FaultLog) -> None:
    function = study.function
    for name, column, limits in (
        ("fvc_percent", function.fvc_percent, PERCENT_PREDICTED),
        ("dlco_percent", function.dlco_percent, DLCO_PREDICTED),
    ):
        if column and name not in out:
            values = check_codes(
                numbers(frame, column, log), frame, column, log, allowed=(0.0, limits.high)
            )
            values = check_mixed_units(
                values, 1.6, frame, column, log, names=("a fraction", "percent")
            )
            check_limits(values, limits, frame, column, log)
            out[name] = values
    if function.fvc_volume and "fvc_litres" not in out:
        factor = VOLUME_TO_LITRES[function.fvc_unit]
        values = numbers(frame, function.fvc_volume, log)
        values = check_mixed_units(
            values, 15.0, frame, function.fvc_volume, log, names=("litres", "millilitres")
        )
        check_limits(values * factor, LITRES, frame, function.fvc_volume, log, factor=factor)
        out["fvc_litres"] = values * factor


def _covariate(frame: pd.DataFrame, covariate: Covariate, log: FaultLog) -> np.ndarray:
    if covariate.kind == "number":
        values = numbers(frame, covariate.column, log)
        default = Limits(0.0, 120.0, "years") if covariate.name == "age" else ANY
        low, high = max(default.low, covariate.low), min(default.high, covariate.high)
        meaning = covariate.unit or default.meaning or covariate.label
        values = check_codes(
            values,
            frame,
            covariate.column,
            log,
            allowed=(covariate.low, covariate.high),
            possible=default.high if np.isfinite(default.high) else -np.inf,
            way_out=f"say what is possible: covariates.{covariate.name}.minimum and maximum",
        )
        check_limits(values, Limits(low, high, meaning), frame, covariate.column, log)
        return values
    text = words(frame, covariate.column)
    check_level_codes(text, frame, covariate.column, log)
    levels = sorted({str(value) for value in text.dropna()})
    if len(levels) > MAX_LEVELS:
        log.reject(
            None,
            covariate.column,
            "",
            f"{len(levels)} levels",
            f'are too many for a category; set covariates.{covariate.name}.type = "number"',
        )
    if len(levels) == 1:
        log.warn(
            None,
            covariate.column,
            "",
            levels[0],
            f"is the only level; covariates.{covariate.name} enters no model",
        )
    elif covariate.reference is not None and levels and covariate.reference not in levels:
        log.reject(
            None,
            covariate.column,
            "",
            covariate.reference,
            f"is the reference of covariates.{covariate.name}, but the levels are "
            f"{', '.join(levels)}",
        )
    return np.asarray(text, dtype=object)


def _times(
    frame: pd.DataFrame, column: str, study: Study, log: FaultLog, origin: pd.Series | None
) -> FloatArray:
    """Read times in months, counted from the time origin or from the patient's first visit."""
    values, unit = numbers(frame, column, log), study.table.time_unit
    start = np.zeros(len(frame))
    if origin is not None and len(origin):
        start = _start(frame, column, values, origin, study, log)
    months = values * TIME_TO_MONTHS[unit] - start
    with np.errstate(invalid="ignore"):
        early = months < -TIME_SLACK
    for index in np.flatnonzero(early):
        problem = f"is negative; times count from {study.table.time_origin}"
        if values[index] >= 0 or start[index] < 0:
            problem = (
                f"lies before the patient's first visit ({start[index]:.6g} months), from which "
                "times count"
            )
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            f"{values[index]:g}",
            problem,
        )
    months = np.where(early, np.nan, np.where(months < 0, 0.0, months))
    months = check_long_times(months, frame, column, unit, log)
    return np.asarray(merge_tied_times(months), dtype=np.float64)


def _start(
    frame: pd.DataFrame,
    column: str,
    values: FloatArray,
    origin: pd.Series,
    study: Study,
    log: FaultLog,
) -> FloatArray:
    """Find the month from which each patient's times count.

    NaN, and named, for a patient who has no visit from which they could count; a recorded outcome
    needs none.
    """
    start = np.asarray(frame["id"].map(origin), dtype=np.float64)
    if study.outcome.rule.split("@")[0] == "recorded":
        return np.asarray(np.nan_to_num(start, nan=0.0), dtype=np.float64)
    for index in np.flatnonzero(np.isnan(start) & np.isfinite(values)):
        log.warn(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            f"{values[index]:g}",
            "is not used: the patient has no visit, from which times count",
        )
    return start


def _outcome_columns(
    frame: pd.DataFrame, study: Study, out: pd.DataFrame, log: FaultLog, origin: pd.Series | None
) -> None:
    outcome = study.outcome
    for name, column in (
        ("death", outcome.death_time),
        ("transplant", outcome.transplant_time),
        ("last_seen", outcome.last_seen),
    ):
        if column:
            out[name] = _times(frame, column, study, log, origin)
    if not (outcome.time and outcome.event) or outcome.rule.split("@")[0] != "recorded":
        return
    out["time"] = _times(frame, outcome.time, study, log, origin)
    status = read_events(frame, outcome.event, outcome.codes, log)
    if outcome.last_seen:
        _follow_to_last_contact(frame, study, out, status, log)
    for name, values, column in (
        ("time", out["time"], outcome.time),
        ("status", status, outcome.event),
    ):
        lost = np.isnan(np.asarray(values)) & _blank(frame, column)
        for index in np.flatnonzero(lost):
            log.warn(
                int(frame["row"].iloc[index]),
                column,
                str(frame["id"].iloc[index]),
                "",
                f"the outcome's {name} is missing; the patient is left out of every outcome "
                "analysis",
            )
    out["status"] = status


def _follow_to_last_contact(
    frame: pd.DataFrame, study: Study, out: pd.DataFrame, status: FloatArray, log: FaultLog
) -> None:
    """Give patients without the event and without its time their last contact; changes `out`.

    A table that has a date of progression has none where there was no progression: without this
    the patients who did well would be left out, and their deaths alone would count.
    """
    column, seen = str(study.outcome.time), out["last_seen"].to_numpy(dtype=np.float64)
    late = (status == 0) & _blank(frame, column) & np.isfinite(seen)
    if late.any():
        out.loc[late, "time"] = seen[late]
        log.warn(
            None,
            column,
            "",
            f"{int(late.sum())} of {len(frame)} patients",
            "have no event and no time of it; they are followed to their last contact "
            f"({study.outcome.last_seen})",
        )


def _blank(frame: pd.DataFrame, column: str) -> np.ndarray:
    return np.asarray(words(frame, column).isna())


def check_outcome(patients: pd.DataFrame, study: Study, log: FaultLog) -> None:
    """Note events after censoring and progression after death."""
    outcome = study.outcome
    pairs = (
        ("time", "last_seen", outcome.time, "is an event after the patient was last seen"),
        ("time", "death", outcome.time, "is after the patient's death"),
        (
            "transplant",
            "last_seen",
            outcome.transplant_time,
            "is a transplant after the patient was last seen",
        ),
        ("death", "last_seen", outcome.death_time, "is a death after the patient was last seen"),
    )
    for early, late, column, problem in pairs:
        if early not in patients or late not in patients:
            continue
        after = (patients[early] > patients[late] + TIME_SLACK).to_numpy()
        if early == "time" and late == "last_seen":
            after &= (patients["status"] > 0).to_numpy()
        for index in np.flatnonzero(after):
            row = patients.iloc[index]
            log.reject(
                int(row["row"]),
                str(column),
                str(row["id"]),
                f"{row[early]:.6g} months",
                f"{problem} ({row[late]:.6g} months): an event after censoring",
            )
