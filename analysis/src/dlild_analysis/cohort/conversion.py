"""From cells as a hospital writes them to plain ones: digits, decimal signs, missing codes, dates.

Only columns that the study uses are converted. A cell that was changed keeps its original in the
log, so that messages show what the file has.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dlild_analysis.cohort.study import Study
from dlild_analysis.cohort.table.dates import CODES, looks_like_date, read_dates
from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.cohort.table.file_format import FileFormat
from dlild_analysis.cohort.table.tables import MISSING, UNKNOWN_WORDS
from dlild_analysis.cohort.table.text import plain_text
from dlild_analysis.cohort.table.units import TIME_TO_MONTHS
from dlild_analysis.errors import InputRejectedError

_GROUPED = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_WITH_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_WITH_POINT = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class UsedColumns:
    """Columns of one table that the study uses, by what stands in them."""

    numbers: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    births: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.numbers, *self.times, *self.births, *self.words)))


def patient_columns(study: Study) -> UsedColumns:
    """List the columns of the patients' table that the study uses."""
    outcome, function = study.outcome, study.function
    recorded = outcome.rule.split("@")[0] == "recorded"
    numbers: list[str | None] = [item.column for item in (study.score, study.visual) if item]
    numbers += [function.fvc_percent, function.dlco_percent, function.fvc_volume]
    numbers += [
        item.column for item in study.covariates if item.kind == "number" and not item.birth_date
    ]
    numbers += study.repeats
    readings = [] if study.readings.sheet else list(study.readings.columns)
    numbers += readings if study.readings.kind == "number" else []
    times = [outcome.death_time, outcome.transplant_time, outcome.last_seen]
    times += [outcome.time if recorded else None]
    words = [item.column for item in study.covariates if item.kind == "category"]
    words += readings if study.readings.kind == "category" else []
    words += [outcome.event] if recorded and outcome.event else []
    return UsedColumns(
        tuple(name for name in numbers if name),
        tuple(name for name in times if name),
        tuple(item.column for item in study.covariates if item.birth_date),
        tuple(words),
    )


def visit_columns(study: Study) -> UsedColumns:
    """List the columns of the visits that the study uses, wide ones too."""
    visits = study.visits
    columns = [visits.columns, *(item.columns for item in visits.wide)]
    words = {"symptoms", "radiology"}
    return UsedColumns(
        tuple(name for part in columns for key, name in part.items() if key not in words),
        (visits.time,) if visits.time else (),
        (),
        tuple(name for part in columns for key, name in part.items() if key in words),
    )


def convert(
    frame: pd.DataFrame,
    columns: UsedColumns,
    form: FileFormat,
    log: FaultLog,
) -> pd.DataFrame:
    """Write the used cells of a table plainly: ASCII digits, decimal points, empty where missing.

    Parameters
    ----------
    frame : DataFrame
        With `row`, `id` and the columns; those that are absent are passed over.
    """
    frame = frame.copy()
    numeric = {*columns.numbers, *columns.times}
    for name in columns.all:
        if name not in frame:
            continue
        if pd.api.types.is_numeric_dtype(frame[name]):
            codes = [float(code) for code in form.codes(name) if _is_number(code)]
            frame[name] = frame[name].where(~frame[name].isin(codes))
            continue
        original = frame[name].fillna("").astype(str).str.strip()
        cells = original.map(plain_text)
        cells = _without_codes(cells, name, form, log)
        if name in numeric and form.decimal == ",":
            cells = _decimal_points(cells, frame, name, log)
        for index in np.flatnonzero((cells != original).to_numpy() & (cells != "").to_numpy()):
            log.originals[int(frame["row"].iloc[index]), name] = original.iloc[index]
        changed = original.map(lambda cell: not cell.isascii() and cell != plain_text(cell))
        if changed.any():
            sample = original[changed].iloc[0]
            log.warn(
                None,
                name,
                "",
                sample,
                f"and {int(changed.sum()) - 1} other cells have full-width or invisible "
                f"characters; they are read as plain ones ({plain_text(sample)!r})",
            )
        frame[name] = cells
        if name in columns.words and name not in numeric:
            _note_unknown(cells, name, log)
    return frame


def _is_number(text: str) -> bool:
    return bool(_PLAIN_NUMBER.fullmatch(text.replace(",", ".")))


def _key(text: str) -> str:
    """Give -9, -9.0 and '-9,0' one name."""
    plain = plain_text(text).replace(",", ".")
    return f"{float(plain):.12g}" if _PLAIN_NUMBER.fullmatch(plain) else plain_text(text).casefold()


def _without_codes(cells: pd.Series, name: str, form: FileFormat, log: FaultLog) -> pd.Series:
    codes = {_key(code) for code in form.codes(name)}
    if codes:
        hit = cells.map(_key).isin(codes) & (cells != "")
        counts = Counter(cells[hit])
        if counts:
            log.warn(
                None,
                name,
                "",
                ", ".join(f"{code} ({count})" for code, count in sorted(counts.items())),
                "are read as missing, as missing_codes says",
            )
        cells = cells.where(~hit, "")
    guessed = Counter(cells[cells.isin(MISSING) & (cells != "")])
    if guessed:
        log.warn(
            None,
            name,
            "",
            ", ".join(f"{code} ({count})" for code, count in sorted(guessed.items())),
            "are read as missing, by their usual meaning; table.missing_codes can name them",
        )
        cells = cells.where(~cells.isin(MISSING), "")
    return cells


def _note_unknown(cells: pd.Series, name: str, log: FaultLog) -> None:
    counts = Counter(cells[cells.str.casefold().isin(UNKNOWN_WORDS)])
    if counts:
        log.warn(
            None,
            name,
            "",
            ", ".join(f"{word} ({count})" for word, count in sorted(counts.items())),
            "is read as a value of its own; where it means missing, name it in table.missing_codes",
        )


def _decimal_points(cells: pd.Series, frame: pd.DataFrame, name: str, log: FaultLog) -> pd.Series:
    """Write decimal commas as points; a point in such a column is a fault."""
    comma = cells.map(lambda cell: bool(_WITH_COMMA.fullmatch(cell)))
    grouped = cells.map(lambda cell: bool(_GROUPED.fullmatch(cell)))
    point = cells.map(lambda cell: bool(_WITH_POINT.fullmatch(cell))) | grouped
    dated = cells.map(looks_like_date)
    odd = point & ~dated
    for index in np.flatnonzero(odd):
        log.reject(
            int(frame["row"].iloc[index]),
            name,
            str(frame["id"].iloc[index]),
            cells.iloc[index],
            "has a '.' where the study says that the decimal sign is ','; write the number "
            "without '.'",
        )
    plain = cells.where(~comma, cells.str.replace(",", ".", regex=False))
    return plain.where(~odd, "")


def origin_days(frame: pd.DataFrame, study: Study, log: FaultLog) -> pd.Series:
    """Read the date of origin of every patient.

    Returns
    -------
    Series
        By id: the ordinal of the date; empty where the study names no column of it. Where a
        patient's rows differ in it, the patient is a fault.
    """
    column = study.table.origin_date
    if column is None:
        return pd.Series(dtype=np.float64)
    cells = _texts(frame, column)
    dates = read_dates(cells, study.table.date_order)
    _note_order(column, dates.order, study, log)
    _fault_problems(dates.problems, cells, frame, column, log)
    _fault_codes(dates.days, cells, frame, column, log)
    table = pd.DataFrame({"id": frame["id"], "days": dates.days, "row": frame["row"]}).dropna()
    counts = table.groupby("id")["days"].nunique()
    for identifier in counts.index[counts > 1]:
        own = table[table["id"] == identifier].drop_duplicates("days")
        log.reject(
            int(own["row"].iloc[1]),
            column,
            str(identifier),
            "",
            "differs between the rows of this patient; times count from one date a patient",
            whole=True,
        )
    return table.drop_duplicates("id").set_index("id")["days"]


def _texts(frame: pd.DataFrame, column: str) -> pd.Series:
    cells = frame[column].fillna("").astype(str).map(plain_text)
    return cells.where(~cells.isin(MISSING), "")


def dates_to_times(
    frame: pd.DataFrame,
    columns: UsedColumns,
    origins: pd.Series,
    study: Study,
    log: FaultLog,
) -> pd.DataFrame:
    """Turn dates into times in `table.time_unit` from the origin, and dates of birth into ages.

    Columns of numbers stay as they are.

    Parameters
    ----------
    origins : Series
        By id: ordinal of the date from which the patient's times count.

    Raises
    ------
    InputRejectedError
        A column holds dates, and the study names no date from which they count.
    """
    frame = frame.copy()
    per_unit = TIME_TO_MONTHS["days"] / TIME_TO_MONTHS[study.table.time_unit]
    for name in (*columns.times, *columns.births):
        if name not in frame or pd.api.types.is_numeric_dtype(frame[name]):
            continue
        cells = _texts(frame, name)
        born = name in columns.births
        dated = cells.map(looks_like_date)
        numeric = cells.map(_is_number)
        if not dated.any() and not born:
            continue
        if dated.sum() < (numeric & ~dated).sum():
            for index in np.flatnonzero(dated):
                _fault(frame, name, int(index), cells, "is a date in a column of numbers", log)
            frame[name] = cells.where(~dated, "")
            continue
        if study.table.origin_date is None and origins.empty:
            raise InputRejectedError(
                f"{log.source}: {name!r} holds dates (such as {cells[dated].iloc[0]!r}); name the "
                "column of the date from which times count: table.origin_date"
            )
        frame[name] = _counted(
            frame, name, cells, origins, study, log, factor=-1.0 / 365.25 if born else per_unit
        )
    return frame


def _counted(
    frame: pd.DataFrame,
    name: str,
    cells: pd.Series,
    origins: pd.Series,
    study: Study,
    log: FaultLog,
    *,
    factor: float,
) -> pd.Series:
    dates = read_dates(cells, study.table.date_order)
    _note_order(name, dates.order, study, log)
    _fault_problems(dates.problems, cells, frame, name, log)
    days = _fault_codes(dates.days, cells, frame, name, log)
    start = frame["id"].map(origins).to_numpy(dtype=np.float64)
    for index in np.flatnonzero(np.isfinite(days) & np.isnan(start)):
        _fault(
            frame,
            name,
            int(index),
            cells,
            "cannot be counted: the patient has no date in "
            f"{study.table.origin_date or 'any visit'}",
            log,
        )
    times = (days - start) * factor
    out = pd.Series("", index=frame.index, dtype=object)
    for index in np.flatnonzero(np.isfinite(times)):
        out.iloc[index] = f"{times[index]:.12g}"
        log.originals[int(frame["row"].iloc[index]), name] = cells.iloc[index]
    return out


def _note_order(name: str, order: str, study: Study, log: FaultLog) -> None:
    if order in ("day-first", "month-first") and study.table.date_order is None:
        log.warn(
            None,
            name,
            "",
            order,
            "is how its dates are read: no other way fits all of them (table.date_order)",
        )


def _fault_problems(
    problems: dict[int, str], cells: pd.Series, frame: pd.DataFrame, name: str, log: FaultLog
) -> None:
    for index, problem in sorted(problems.items()):
        _fault(frame, name, index, cells, problem, log)


def _fault_codes(
    days: np.ndarray, cells: pd.Series, frame: pd.DataFrame, name: str, log: FaultLog
) -> np.ndarray:
    """Note dates that stand for a missing one; NaN for them."""
    code = np.isin(days, CODES)
    for index in np.flatnonzero(code):
        _fault(
            frame,
            name,
            int(index),
            cells,
            "looks like a code for a missing date; leave the cell empty, or name it in "
            "table.missing_codes",
            log,
        )
    return np.where(code, np.nan, days)


def _fault(
    frame: pd.DataFrame,
    name: str,
    position: int,
    cells: pd.Series,
    problem: str,
    log: FaultLog,
) -> None:
    log.reject(
        int(frame["row"].iloc[position]),
        name,
        str(frame["id"].iloc[position]),
        cells.iloc[position],
        problem,
    )
