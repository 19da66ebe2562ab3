"""Dates as tables have them: many ways to write them, one way to count them."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dlild_analysis.stats.arrays import FloatArray

ORDERS = ("day-first", "month-first")
_CLOCK = (
    r"(?:[T ,]+\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[APap]\.?[Mm]\.?)?(?:Z|[+-]\d\d:?\d\d)?)?"
)
_YEAR_FIRST = re.compile(rf"(\d{{4}})[-/.年](\d{{1,2}})[-/.月](\d{{1,2}})日?{_CLOCK}")
_COMPACT = re.compile(r"((?:19|20)\d{2})(\d{2})(\d{2})")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})[-/.](\d{{4}}){_CLOCK}")
_DAY_NAME = re.compile(rf"(\d{{1,2}})\.?[-/ ]*([^\W\d_]{{3,9}})\.?[-/, ]*(\d{{4}}){_CLOCK}")
_NAME_DAY = re.compile(
    rf"([^\W\d_]{{3,9}})\.?[-/ ]*(\d{{1,2}})(?:st|nd|rd|th)?[-/, ]+(\d{{4}}){_CLOCK}"
)
_SHORT_YEAR = re.compile(rf"\d{{1,2}}[-/.](?:\d{{1,2}}|[^\W\d_]{{3,9}})[-/.]\d{{2}}{_CLOCK}")
_NO_DAY = re.compile(r"\d{4}[-/]\d{1,2}|\d{1,2}[-/]\d{4}|\d{4}年\d{1,2}月|[^\W\d_]{3,9}[-/ ]\d{4}")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
_MONTHS = (
    ("jan", "janv", "ene", "gen"),
    ("feb", "fev", "fév", "febr"),
    ("mar", "mär", "mrz", "mars"),
    ("apr", "avr", "abr"),
    ("may", "mai", "mag"),
    ("jun", "juin", "giu"),
    ("jul", "juil", "lug"),
    ("aug", "aou", "aoû", "ago"),
    ("sep", "set", "sept"),
    ("oct", "okt", "ott"),
    ("nov",),
    ("dec", "dez", "déc", "dic"),
)
CODES = tuple(
    dt.date.fromisoformat(text).toordinal()
    for text in (
        "1800-01-01",
        "1899-12-30",
        "1899-12-31",
        "1900-01-01",
        "1901-01-01",
        "1904-01-01",
        "2099-12-31",
        "2999-12-31",
        "9999-01-01",
        "9999-12-31",
    )
)
"""Ordinals of dates that data systems write where a date is missing."""

SERIALS = (18_000.0, 65_000.0)
EXCEL_DAY_0 = dt.date(1899, 12, 30).toordinal()


@dataclass
class DateColumn:
    """A column of dates.

    Attributes
    ----------
    days : array of shape (n,)
        Proleptic ordinals, NaN where there is no date.
    problems : dict of int to str
        Position of a cell that is no date, and what is wrong with it.
    order : str
        How 1/2/2020 was read, where the column has such dates; empty where it has none.
    """

    days: FloatArray
    problems: dict[int, str] = field(default_factory=dict)
    order: str = ""


def looks_like_date(text: str) -> bool:
    """Whether a cell is written as a date, whole or not."""
    return bool(
        _YEAR_FIRST.fullmatch(text)
        or _YEAR_LAST.fullmatch(text)
        or (_COMPACT.fullmatch(text) and _day(*map(int, _COMPACT.fullmatch(text).groups())))  # type: ignore[union-attr]
        or _named(text)
        or _SHORT_YEAR.fullmatch(text)
        or _NO_DAY.fullmatch(text)
    )


def read_dates(cells: pd.Series, order: str | None = None) -> DateColumn:
    """Read a column of dates.

    Parameters
    ----------
    cells : Series of str
        Empty where missing.
    order : {"day-first", "month-first"}, optional
        How 1/2/2020 is meant; by default the column must show it: a first number above 12, or a
        second one.
    """
    texts = [str(cell) for cell in cells]
    days = np.full(len(texts), np.nan)
    column = DateColumn(days)
    slashed: dict[int, tuple[int, int, int]] = {}
    for index, text in enumerate(texts):
        if not text:
            continue
        found: int | None = None
        whole = _YEAR_FIRST.fullmatch(text) or _COMPACT.fullmatch(text)
        last = _YEAR_LAST.fullmatch(text)
        if whole:
            found = _day(*(int(part) for part in whole.groups()))
        elif last and last[2] == ".":
            found = _day(int(last[4]), int(last[3]), int(last[1]))
        elif last:
            slashed[index] = (int(last[1]), int(last[3]), int(last[4]))
            continue
        else:
            found = _named(text)
        if found is None:
            column.problems[index] = _why_not(text)
        else:
            days[index] = found
    if slashed:
        column.order = order or _order_of(slashed)
        _read_slashed(slashed, column)
    return column


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return dt.date(year, month, day).toordinal()
    except ValueError:
        return None


def _named(text: str) -> int | None:
    found = _DAY_NAME.fullmatch(text)
    if found:
        day, name, year = found[1], found[2], found[3]
    else:
        found = _NAME_DAY.fullmatch(text)
        if not found:
            return None
        name, day, year = found[1], found[2], found[3]
    month = next(
        (
            index + 1
            for index, names in enumerate(_MONTHS)
            if any(name.lower().startswith(start) for start in names)
        ),
        None,
    )
    return None if month is None else _day(int(year), month, int(day))


def _order_of(slashed: dict[int, tuple[int, int, int]]) -> str:
    """Decide by numbers above 12; empty where none decides or they contradict one another."""
    day = sum(first > 12 for first, _, _ in slashed.values())
    month = sum(second > 12 for _, second, _ in slashed.values())
    if day and not month:
        return "day-first"
    if month and not day:
        return "month-first"
    return "contradictory" if day else ""


def _read_slashed(slashed: dict[int, tuple[int, int, int]], column: DateColumn) -> None:
    for index, (first, second, year) in slashed.items():
        if column.order not in ORDERS:
            mixed = column.order == "contradictory"
            if first == second:
                found = _day(year, first, second)
                if found is not None:
                    column.days[index] = found
                    continue
            column.problems[index] = (
                "is of a column with both days and months first; write the dates as YYYY-MM-DD"
                if mixed
                else "can be read with the day or the month first; set table.date_order to "
                '"day-first" or "month-first"'
            )
            continue
        day, month = (first, second) if column.order == "day-first" else (second, first)
        found = _day(year, month, day)
        if found is None:
            column.problems[index] = f"is no date with the {column.order.replace('-', ' ')}"
        else:
            column.days[index] = found


def _why_not(text: str) -> str:
    if _SHORT_YEAR.fullmatch(text):
        return "has a year of two digits; write four"
    if _NO_DAY.fullmatch(text):
        return "has no day; write a whole date, and say in the paper which day was taken"
    if _NUMBER.fullmatch(text):
        day = excel_day(text)
        if day:
            return (
                f"is a number in a column of dates, perhaps Excel's for {day}; format the cells as "
                "dates"
            )
        return "is a number in a column of dates; write the date"
    return "is no date; write it as YYYY-MM-DD, or leave the cell empty"


def excel_day(cell: str) -> str:
    """Write the date that Excel may mean by a whole number; empty where none is likely."""
    text = cell.strip().replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return ""
    number = float(text)
    if not (SERIALS[0] <= number <= SERIALS[1] and number.is_integer()):
        return ""
    return dt.date.fromordinal(EXCEL_DAY_0 + int(number)).isoformat()
