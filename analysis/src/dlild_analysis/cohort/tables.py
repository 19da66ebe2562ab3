"""Reading tables: every cell as text first, so that what is not a number can be named."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import pandas as pd

from dlild_analysis.cohort.faults import FaultLog
from dlild_analysis.errors import InputRejectedError
from dlild_analysis.stats.arrays import FloatArray

MISSING = ("", "NA", "N/A", "na", "NaN", "nan", "None", "null", "NULL", "-", ".", "?")
YES = ("1", "1.0", "yes", "y", "true", "worse", "worsened", "progressed")
NO = ("0", "0.0", "no", "n", "false", "stable", "better", "improved", "unchanged")


def read_table(path: Path, encoding: str = "utf-8-sig") -> pd.DataFrame:
    """Read a CSV or a Parquet file.

    Returns
    -------
    DataFrame
        Every column as text (None where missing) and `row`: the line of the file, its header being
        line 1.

    Raises
    ------
    InputRejectedError
        No such file, another format, no rows, or a column name twice.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path)
            frame = frame.reset_index() if frame.index.name else frame
        else:
            frame = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                encoding=encoding,
                header=None,
                skip_blank_lines=False,
                low_memory=False,
                sep=_separator(path, encoding),
            )
            frame = _with_header(frame, path)
    except FileNotFoundError:
        raise InputRejectedError(f"{path.name}: no such file") from None
    except UnicodeDecodeError:
        raise InputRejectedError(
            f"{path.name}: not {encoding}; save it as UTF-8 or set table.encoding, such as "
            '"gb18030"'
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError, ValueError) as error:
        raise InputRejectedError(f"{path.name}: not a CSV or Parquet table: {error}") from None
    twice = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
    if twice:
        raise InputRejectedError(f"{path.name}: the column {twice[0]!r} is there twice; rename one")
    if "row" not in frame.columns:
        frame["row"] = np.arange(len(frame)) + 2
    frame.columns = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise InputRejectedError(f"{path.name}: the table has no rows")
    return frame


def _separator(path: Path, encoding: str) -> str:
    with path.open(encoding=encoding) as handle:
        first = handle.readline()
    return max(",;\t", key=first.count) if first else ","


def _with_header(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    names = [str(name).strip() for name in frame.iloc[0]]
    empty = [index + 1 for index, name in enumerate(names) if not name]
    if "row" in names:
        raise InputRejectedError(
            f"{path.name}: a column is called 'row'; rename it, the word is taken"
        )
    names = [name or f"unnamed_{index + 1}" for index, name in enumerate(names)] if empty else names
    body = frame.iloc[1:].copy()
    body.columns = pd.Index(names)
    body["row"] = np.arange(len(body)) + 2
    cells = body[names]
    blank = cells.eq("").all(axis=1) | cells.isna().all(axis=1)
    return body[~blank].reset_index(drop=True)


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
        With `row`, `id` and the column, as `read_table` gives it.
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
    hint = "leave the cell empty where the value is unknown"
    if cell.replace(",", "", 1).replace("-", "", 1).isdigit():
        hint = "write the decimal point as '.'"
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
