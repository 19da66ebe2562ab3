"""Columns of a table: numbers, words and flags, each cell that is none of these named."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd

from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.errors import InputRejectedError
from dlild_analysis.stats.arrays import FloatArray

MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "na", "NaN", "nan", "None", "null", "NULL", "<NA>"),
    *("-", "--", "\N{EN DASH}", "\N{EM DASH}", ".", "?"),
)
"""Cells that are read as missing without being declared; each is named."""

UNKNOWN_WORDS = (
    *("unknown", "not known", "unk", "missing", "not available", "not done", "nd", "n.d.", "n.a."),
    *("unbekannt", "inconnu", "desconocido", "\u4e0d\u8be6", "\u672a\u77e5", "\u4e0d\u660e"),
    *("\u65e0", "\u672a\u67e5", "\u4e0d\u8a73"),
)
"""Words that may stand for a missing value; the study has to say so."""

YES = ("1", "1.0", "yes", "y", "true", "worse", "worsened", "progressed")
NO = ("0", "0.0", "no", "n", "false", "stable", "better", "improved", "unchanged")


def need_columns(frame: pd.DataFrame, wanted: dict[str, str], source: str) -> None:
    """Check that columns exist.

    Parameters
    ----------
    wanted : dict
        From the key of the TOML that names a column to that column.

    Raises
    ------
    InputRejectedError
        Naming every absent column, the key that asked for it, and the nearest one that is there.
    """
    lacking = []
    for key, column in wanted.items():
        if column in frame.columns:
            continue
        near = difflib.get_close_matches(column, [str(name) for name in frame.columns], n=1)
        lacking.append(
            f"{column!r} (asked by {key}" + (f"; did you mean {near[0]!r}?)" if near else ")")
        )
    if lacking:
        there = ", ".join(str(name) for name in frame.columns if name != "row")
        raise InputRejectedError(
            f"{source}: no column {'; '.join(lacking)}; the table has: {there}"
        )


def numbers(frame: pd.DataFrame, column: str, log: FaultLog) -> FloatArray:
    """Read a column of numbers; NaN where missing, and a fault where it is no number.

    Parameters
    ----------
    frame : DataFrame
        With `row`, `id` and the column, as `table_file.read_table` gives it.
    """
    cells = frame[column]
    if pd.api.types.is_numeric_dtype(cells):
        values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        text = None
    else:
        text = cells.fillna("").astype(str).str.strip()
        values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        missing = text.isin(MISSING).to_numpy()
        for index in np.flatnonzero(np.isnan(values) & ~missing):
            _not_a_number(frame, column, str(text.iloc[index]), int(index), log)
    for index in np.flatnonzero(np.isinf(values)):
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            values[index],
            "is infinite; leave the cell empty where the value is unknown",
        )
    return np.where(np.isinf(values), np.nan, values)


def _not_a_number(frame: pd.DataFrame, column: str, cell: str, index: int, log: FaultLog) -> None:
    hint = (
        "leave the cell empty where the value is unknown, or name the word in table.missing_codes"
    )
    if cell.replace(",", "", 1).replace("-", "", 1).isdigit():
        hint = "write the decimal point as '.', or set table.decimal = \",\""
    elif cell.casefold() in UNKNOWN_WORDS:
        hint = "name it in table.missing_codes where it means missing"
    elif cell.startswith("#"):
        hint = "it is an error of a formula; correct it, or leave the cell empty"
    elif any(unit in cell for unit in ("%", "L", "l", "mL", "mo", "y", "wk")):
        hint = "write the number alone, its unit in the TOML"
    elif cell[:1] in "<>":
        hint = "write a number, or leave the cell empty"
    log.reject(
        int(frame["row"].iloc[index]),
        column,
        str(frame["id"].iloc[index]),
        cell,
        f"is not a number; {hint}",
    )


def words(frame: pd.DataFrame, column: str) -> pd.Series:
    """Read a column of text, None where missing."""
    cells = frame[column]
    if pd.api.types.is_float_dtype(cells):
        cells = cells.map(lambda value: "" if pd.isna(value) else f"{value:g}")
    text = cells.astype("object").where(cells.notna(), "").astype(str).str.strip()
    return text.astype("object").where(~text.isin(MISSING), None)


def flags(frame: pd.DataFrame, column: str, log: FaultLog) -> FloatArray:
    """Read a yes/no column: 1, 0, or NaN where missing."""
    text = words(frame, column)
    low = text.map(lambda value: value.lower() if value else "")
    values = np.full(len(frame), np.nan)
    values[low.isin(YES).to_numpy()] = 1.0
    values[low.isin(NO).to_numpy()] = 0.0
    for index in np.flatnonzero(np.isnan(values) & text.notna().to_numpy()):
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            text.iloc[index],
            "is neither yes nor no; write 1 or 0",
        )
    return values
