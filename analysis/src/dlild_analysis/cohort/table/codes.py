"""Numbers that are no measurements: codes for missing values, summary rows, coded events."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from dlild_analysis.cohort.table.dates import excel_day
from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.cohort.table.tables import words
from dlild_analysis.stats.arrays import FloatArray

NEGATIVE_CODES = (-1.0, -7.0, -8.0, -9.0, -77.0, -88.0, -99.0, -777.0, -888.0, -999.0, -9999.0)
POSITIVE_CODES = (99.0, 777.0, 888.0, 999.0, 9999.0)
SMALL_NEGATIVE_CODES = (-1.0, -7.0, -8.0)
ENOUGH = 10  # other values needed to decide what lies apart
SMALL_CODES = (7.0, 8.0, 9.0)
LEAVE_EMPTY = "leave the cell empty where the value is unknown"

_STATISTIC = (
    r"(?:grand |sub)?(?:total|sum|mean|average|avg|median|std(?:ev| dev)?|sd|se|sem|min(?:imum)?"
    r"|max(?:imum)?|count|iqr|range|variance|mittelwert|summe|gesamt|moyenne|media)"
)
SUMMARY = re.compile(
    rf"{_STATISTIC}\.?(?: ?(?:±|\+/-|\+-|/|,|and|\() ?{_STATISTIC}\.?\)?)*:?", re.IGNORECASE
)
MONTHS_TOO_LONG = 600.0
"""No patient is followed for longer than 50 years."""

MONTHS_VERY_LONG = 240.0
"""20 years: possible, but more likely days or weeks read as months."""


def check_summary_rows(frame: pd.DataFrame, column: str, log: FaultLog) -> pd.DataFrame:
    """Note and leave out rows that a spreadsheet's author put below the patients.

    Returns
    -------
    DataFrame
        Without rows whose id is `Mean`, `SD`, `Total` and the like.
    """
    odd = frame["id"].map(lambda value: bool(SUMMARY.fullmatch(str(value)))).to_numpy(dtype=bool)
    for index in np.flatnonzero(odd):
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            "",
            frame["id"].iloc[index],
            "is no patient but a summary row of a spreadsheet; delete the row",
        )
    return frame[~odd].reset_index(drop=True)


def check_codes(
    values: FloatArray,
    frame: pd.DataFrame,
    column: str,
    log: FaultLog,
    *,
    allowed: tuple[float, float] = (-np.inf, np.inf),
    doubt_only: bool = False,
    possible: float = -np.inf,
    way_out: str = "",
) -> FloatArray:
    """Note numbers such as -9, 99 and 999 that lie apart from all others.

    Such a number is a fault where the gap to the others is wider than all the others' range, or
    where it alone is negative, among ten others at least; else it is a warning, where it lies
    above all others by a tenth of their range.

    Parameters
    ----------
    values : array of shape (n,)
        As the file has them, NaN where missing.
    allowed : tuple of float
        Lowest and highest value that are known to be possible, infinite where nothing is said: a
        code that one of them allows is a value.
    doubt_only : bool
        Whether codes above all others are never more than a warning.
    possible : float
        Up to which a code may be a value, as an age of 99 may: a warning at most.
    way_out : str
        What the message proposes where the number is a value after all.

    Returns
    -------
    array of shape (n,)
        With NaN where a value is a fault, so that one cell is one fault.
    """
    known = np.isfinite(values)
    rest = values[known & ~np.isin(values, (*NEGATIVE_CODES, *POSITIVE_CODES))]
    if len(np.unique(rest)) < 2:
        return values
    low, high = float(rest.min()), float(rest.max())
    out = values.copy()
    for code in np.unique(values[known]):
        gap = low - code if code < low else code - high
        if code in NEGATIVE_CODES:
            odd = low >= 0 or gap > high - low
            sure = odd and code not in SMALL_NEGATIVE_CODES
        elif code in POSITIVE_CODES:
            odd = gap > 0.1 * (high - low)
            sure = gap > high - low and not (doubt_only or code <= possible)
        else:
            continue
        said = -np.inf < allowed[0] <= code < low or high < code <= allowed[1] < np.inf
        if not odd or gap <= 0 or said:
            continue
        sure = sure and rest.size >= ENOUGH
        hits = values == code
        others = f"{low:.6g} ... {high:.6g}"
        _say_code(hits, f"{code:g}", others, frame, column, log=log, sure=sure, way_out=way_out)
        if sure:
            out[hits] = np.nan
    return out


def check_level_codes(text: pd.Series, frame: pd.DataFrame, column: str, log: FaultLog) -> None:
    """Note levels of a category, such as 9, 99 or -9, that stand for a missing value."""
    levels = sorted({str(value) for value in text.dropna()})
    numbers = {level: float(pd.to_numeric(level, errors="coerce")) for level in levels}
    large = (*NEGATIVE_CODES, *POSITIVE_CODES)
    for level, code in numbers.items():
        if code not in (*large, *SMALL_CODES):
            continue
        others = {name: n for name, n in numbers.items() if name != level and n not in large}
        sure = _is_code(code, np.array(list(others.values())))
        if sure is None:
            continue
        hits = (text == level).to_numpy(dtype=bool)
        way_out = "call the level by a word where it is one"
        named = ", ".join(others)
        _say_code(hits, level, named, frame, column, log=log, sure=sure, way_out=way_out)


def _is_code(code: float, others: FloatArray) -> bool | None:
    """Whether a level is surely a code among levels that are words (NaN) or numbers.

    None where it is none: it lies between the others or next to one of them.
    """
    plain = others[np.isfinite(others)]
    if np.isnan(others).any():
        return True if np.isin(plain, SMALL_CODES).all() else None
    if plain.size == 0 or plain.min() < code < plain.max():
        return None
    gap = float(np.abs(plain - code).min())
    if gap <= 1:
        return None
    return gap > max(float(np.ptp(plain)), 1.0) and code not in SMALL_CODES


def _say_code(
    hits: np.ndarray,
    code: str,
    others: str,
    frame: pd.DataFrame,
    column: str,
    *,
    log: FaultLog,
    sure: bool,
    way_out: str = "",
) -> None:
    note = log.reject if sure else log.warn
    for index in np.flatnonzero(hits):
        note(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            code,
            f"looks like a code for a missing value (the others are {others}); {LEAVE_EMPTY}"
            + (f", or {way_out}" if sure and way_out else ""),
        )


def check_long_times(
    months: FloatArray, frame: pd.DataFrame, column: str, unit: str, log: FaultLog
) -> FloatArray:
    """Note times that are far beyond their unit.

    Parameters
    ----------
    months : array of shape (n,)
        NaN where missing.
    unit : str
        `table.time_unit`, in which the file has them.

    Returns
    -------
    array of shape (n,)
        With NaN where a time is a fault.
    """
    known = np.isfinite(months)
    longest = float(np.abs(months[known]).max(initial=0.0))
    far = known & (np.abs(months) > MONTHS_TOO_LONG)
    cells = frame[column].astype(str).str.strip()
    for index in np.flatnonzero(far):
        day, years = excel_day(cells.iloc[index]), abs(months[index]) / 12
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            cells.iloc[index],
            f"would be {years:{'.0f' if years < 1e6 else '.3g'}} years in {unit}; correct it, or "
            "set table.time_unit to the unit of the column"
            + (f"; if it is Excel's number for {day}, format the column as a date" if day else ""),
        )
    if not far.any() and longest > MONTHS_VERY_LONG:
        log.warn(
            None,
            column,
            "",
            f"{longest / 12:.0f} years",
            f"is the longest time, if the column is in {unit}: is table.time_unit right?",
        )
    if unit == "days" and known.any() and 0 < longest < 2.0:
        log.warn(
            None,
            column,
            "",
            f"{longest:.2g} months",
            "is the longest time, if the column is in days: is table.time_unit right?",
        )
    return np.where(far, np.nan, months)


EVENT_CODES = {0.0: 0.0, 1.0: 1.0, 2.0: 2.0}
MEANINGS = {"censored": 0.0, "progression": 1.0, "death": 2.0}
HOW_TO_SAY = "outcome.codes = { censored = 1, progression = 2 }"


def read_events(
    frame: pd.DataFrame, column: str, codes: Mapping[str, str], log: FaultLog
) -> FloatArray:
    """Read the event column: 0 censored, 1 progression, 2 death before it; NaN where missing.

    Without `outcome.codes` the column holds 0, 1 and 2 with these meanings. Where it holds 1
    and 2 and never 0, its codes mean something else (1 alive and 2 dead, as in R's survival): a
    fault.

    Parameters
    ----------
    codes : mapping of str to str
        `outcome.codes`: from meaning to the value that stands for it.
    """
    text = words(frame, column)
    keys = text.map(_key)
    if codes:
        meaning = _declared(keys, codes, column, log)
    else:
        meaning = {_key(f"{code:g}"): value for code, value in EVENT_CODES.items()}
        _check_usual(keys, column, log)
    status = keys.map(lambda key: meaning.get(key, np.nan)).to_numpy(dtype=np.float64)
    allowed = ", ".join(f"{value} ({name})" for name, value in codes.items())
    usual = "0 (censored), 1 (progression) or 2 (death before progression), or name it in "
    for index in np.flatnonzero(np.isnan(status) & text.notna().to_numpy()):
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            text.iloc[index],
            "is no event code; write " + (allowed or f"{usual}outcome.codes"),
        )
    return np.asarray(status, dtype=np.float64)


def _key(value: object) -> str:
    """Give 1, 1.0 and '1' one name."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    number = pd.to_numeric(str(value), errors="coerce")
    return str(value).strip().lower() if np.isnan(number) else f"{float(number):.12g}"


def _declared(
    keys: pd.Series, codes: Mapping[str, str], column: str, log: FaultLog
) -> dict[str, float]:
    meaning = {_key(value): MEANINGS[name] for name, value in codes.items()}
    unnamed = sorted(set(keys) - set(meaning) - {""})
    if "censored" not in codes and len(unnamed) == 1:
        meaning[unnamed[0]] = MEANINGS["censored"]
        log.warn(
            None,
            column,
            "",
            unnamed[0],
            "is read as censored, the one value that outcome.codes does not name",
        )
    return meaning


def _check_usual(keys: pd.Series, column: str, log: FaultLog) -> None:
    found = set(keys) & {"0", "1", "2"}
    if found == {"1", "2"}:
        log.reject(
            None,
            column,
            "",
            " and ".join(sorted(found)),
            "are the only event codes, and never 0: as 1 (progression) and 2 (death) everybody "
            f"would have the event; say which value means what: {HOW_TO_SAY}",
        )
    elif found == {"0", "2"}:
        log.warn(
            None,
            column,
            "",
            "0 and 2",
            "are the only event codes: 2 is read as death before progression; if it is the "
            f"progression, say so: {HOW_TO_SAY}".replace("censored = 1", "censored = 0"),
        )
    elif found in ({"1"}, {"2"}):
        what = "progression" if found == {"1"} else "death before progression"
        log.warn(
            None,
            column,
            "",
            next(iter(found)),
            f"is the only event code, read as {what}: every patient had the event",
        )
