"""Reading a table's file: text, workbook or Parquet, every cell as text.

What had to be found out (encoding, separator, sheet) or looks odd (merged cells, formulas without
a value) is said in the remarks of the table.
"""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import io
import re
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlild_analysis.cohort.table.file_format import FileFormat
from dlild_analysis.errors import InputRejectedError

WORKBOOKS = (".xlsx", ".xlsm")
PARQUET = (".parquet", ".pq")
SEPARATORS = (",", ";", "\t", "|")
OTHER_FORMATS = {
    ".xls": "an Excel file of before 2007; save it as .xlsx",
    ".xlsb": "a binary workbook; save it as .xlsx",
    ".ods": "an OpenDocument sheet; save it as .xlsx or CSV",
    ".sav": "an SPSS file; export it as CSV or .xlsx",
    ".dta": "a Stata file; export it as CSV or .xlsx",
    ".sas7bdat": "a SAS file; export it as CSV or .xlsx",
    ".rds": "an R object; write it with write.csv",
}
SNIFFED_LINES = 50


@dataclass(frozen=True)
class TableFile:
    """A table as its file has it.

    Attributes
    ----------
    frame : DataFrame
        Every column as text (empty where missing; numbers of a Parquet file stay numbers) and
        `row`: the line of the file.
    remarks : tuple of str
        What was found out about the file, as sentences without a subject.
    """

    frame: pd.DataFrame
    remarks: tuple[str, ...] = ()


def read_table(path: Path, form: FileFormat | None = None) -> TableFile:
    """Read a CSV, a sheet of a workbook or a Parquet file.

    Parameters
    ----------
    form : FileFormat, optional
        What the study says about the file; the rest is found out.

    Raises
    ------
    InputRejectedError
        No such file, another format, no rows, a column name twice, or an encoding that could not
        be found out.
    """
    form = form or FileFormat()
    remarks: list[str] = []
    suffix = path.suffix.lower()
    if suffix in OTHER_FORMATS:
        raise InputRejectedError(f"{path.name}: is {OTHER_FORMATS[suffix]}")
    try:
        if suffix in PARQUET:
            frame = _parquet(path)
        elif suffix in WORKBOOKS:
            frame, remarks = _workbook(path, form)
        else:
            frame, remarks = _text(path, form)
    except FileNotFoundError:
        raise InputRejectedError(f"{path.name}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError, ValueError) as error:
        raise InputRejectedError(
            f"{path.name}: not a CSV, .xlsx or Parquet table: {error}"
        ) from None
    _check_names(frame, path)
    return TableFile(frame, tuple(remarks))


def sheets(path: Path) -> dict[str, bool]:
    """Return whether Excel shows each sheet of a workbook; empty for another file."""
    if path.suffix.lower() not in WORKBOOKS:
        return {}
    book = _open_workbook(path, data_only=True)
    return {name: book[name].sheet_state == "visible" for name in book.sheetnames}


def _check_names(frame: pd.DataFrame, path: Path) -> None:
    if "row" not in frame.columns:
        frame["row"] = np.arange(len(frame)) + 2
    frame.columns = [str(name).strip() for name in frame.columns]
    if frame.empty:
        raise InputRejectedError(f"{path.name}: the table has no rows")


def _check_twice(names: list[str], path: Path) -> None:
    twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if twice:
        raise InputRejectedError(
            f"{path.name}: the column {twice[0]!r} is there twice; rename one, "
            "or set table.header to the line that names every column once"
        )


def _parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    frame = frame.reset_index() if frame.index.name else frame
    _check_twice([str(name).strip() for name in frame.columns], path)
    if "row" in frame:
        raise InputRejectedError(
            f"{path.name}: a column is called 'row'; rename it, the word is taken"
        )
    for name in frame.select_dtypes(["datetime", "datetimetz"]):
        frame[name] = frame[name].dt.strftime("%Y-%m-%d").fillna("")
    return frame


def _text(path: Path, form: FileFormat) -> tuple[pd.DataFrame, list[str]]:
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04":
        raise InputRejectedError(f"{path.name}: holds a workbook; give it the ending .xlsx")
    if data[:4] == b"\xd0\xcf\x11\xe0":
        raise InputRejectedError(
            f"{path.name}: holds an Excel file of before 2007; save it as .xlsx or CSV"
        )
    remarks: list[str] = []
    text = _decoded(data, path.name, form, remarks)
    skipped = form.header - 1
    lines = text.splitlines()
    marked = re.fullmatch(r'"?sep=(.)"?', lines[skipped].strip()) if len(lines) > skipped else None
    if marked:
        skipped += 1
    separator = form.separator or (
        marked[1] if marked else _separator("\n".join(lines[skipped : skipped + SNIFFED_LINES]))
    )
    if not form.separator and separator != ",":
        remarks.append(f"is read with {separator!r} between the cells")
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            dtype=str,
            keep_default_na=False,
            header=None,
            skip_blank_lines=False,
            skiprows=skipped,
            low_memory=False,
            sep=separator,
        )
    except pd.errors.ParserError as error:
        opened = re.search(r"EOF inside string starting at row (\d+)", str(error))
        if opened:
            raise InputRejectedError(
                f"{path.name}: a cell near line {int(opened[1]) + skipped + 1} begins with a "
                "quotation mark that no other closes; close it or take it away"
            ) from None
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if not found:
            raise
        few, line, many = (int(part) for part in found.groups())
        raise InputRejectedError(
            f"{path.name}: line {line} has {many} cells, the first line {few}; if the names of "
            "the columns stand lower, set table.header to their line; else quote cells that hold "
            f"{separator!r}, such as numbers with a decimal comma"
        ) from None
    _check_short_rows(text, separator, path, skipped, remarks)
    return _with_header(frame.fillna(""), path, skipped + 1, remarks), remarks


def _check_short_rows(
    text: str, separator: str, path: Path, skipped: int, remarks: list[str]
) -> None:
    """Note rows with fewer cells than the first, and refuse a file that ends within one."""
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        sizes = [(reader.line_num, len(row)) for row in reader][skipped:]
    except csv.Error:  # a cell of more than 128 KiB
        return
    full = sizes[0][1] if sizes else 0
    short = [(line, cells) for line, cells in sizes if 1 < cells < full]
    if not short:
        return
    line, cells = short[-1]
    if not text.endswith(("\n", "\r")) and line == sizes[-1][0]:
        raise InputRejectedError(
            f"{path.name}: the last line has {cells} of {full} cells and no end of line: the file "
            "is cut off, and its last number may be; export it again"
        )
    line, cells = short[0]
    others = f" and {len(short) - 1} others" if len(short) > 1 else ""
    remarks.append(
        f"has {cells} of {full} cells in line {line}{others}; those at the end are read as empty"
    )


def _decoded(data: bytes, name: str, form: FileFormat, remarks: list[str]) -> str:
    encoding = form.encoding
    if encoding is None:
        encoding = find_encoding(data)
        if encoding is None:
            raise InputRejectedError(
                f"{name}: not utf-8, and its encoding could not be found out; save it as UTF-8 "
                'or set table.encoding, such as "gb18030", "cp1252" or "cp1251"'
            )
    try:
        text = data.decode("utf-8-sig" if encoding in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise InputRejectedError(
            f'{name}: table.encoding is {encoding!r}, which does not exist; write "utf-8", '
            '"gb18030" or "cp1252", for example'
        ) from None
    except UnicodeDecodeError:
        raise InputRejectedError(
            f'{name}: not {encoding}; save it as UTF-8 or set table.encoding, such as "gb18030"'
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputRejectedError(
            f"{name}: line {line} holds a NUL character, at which numbers would be cut: the file "
            "is damaged or in another encoding; export it again as UTF-8"
        )
    if form.encoding is None and encoding != "utf-8-sig":
        word = re.search(r"\w*[^\W\d_a-zA-Z]\w*", text)
        shown = f", such as {word[0][:20]!r}" if word else ""
        remarks.append(
            f"is read as {encoding}{shown}; set table.encoding where that is not what was written"
        )
    return text


def find_encoding(data: bytes) -> str | None:
    """Find the encoding of a text by its bytes; None where it stays open.

    A byte order mark decides; what is valid UTF-8 is that. Else single bytes above 127 between
    ASCII letters are Western European (cp1252), and pairs are Chinese (gb18030, big5) or Japanese
    (cp932), whichever gives the common characters of its script.
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return name
    if b"\0" in data[:200]:
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _legacy_encoding(data)
    return "utf-8-sig"


def _legacy_encoding(data: bytes) -> str | None:
    pairs = re.findall(rb"[\x81-\xfe][\x40-\xfe]", data)
    chinese = sum(0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1 for pair in pairs)
    taiwanese = sum(0xA4 <= pair[0] <= 0xC6 for pair in pairs)
    japanese = sum(pair[0] in (0x82, 0x83) for pair in pairs)
    for name, common, share in (
        ("gb18030", chinese, 0.8),
        ("cp932", japanese, 0.2),
        ("big5", taiwanese, 0.8),
    ):
        if common >= max(1.0, share * len(pairs)) and _try(data, name) is not None:
            return name
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", data)]
    single = sum(length == 1 for length in runs)
    return "cp1252" if single > 0.8 * len(runs) and _try(data, "cp1252") is not None else None


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _separator(text: str) -> str:
    """Find the separator that cuts most lines into as many cells as the first, and the most."""
    best, found = (0.0, 0), ","
    for candidate in SEPARATORS:
        try:
            counts = [len(row) for row in csv.reader(io.StringIO(text), delimiter=candidate) if row]
        except csv.Error:
            continue
        if not counts or counts[0] < 2:
            continue
        same = sum(count == counts[0] for count in counts) / len(counts)
        if (round(same, 1), counts[0]) > best:
            best, found = (round(same, 1), counts[0]), candidate
    return found


def _open_workbook(path: Path, *, data_only: bool) -> Any:
    import openpyxl  # noqa: PLC0415 (half a second, needed for workbooks only)
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return openpyxl.load_workbook(path, data_only=data_only)
    except (zipfile.BadZipFile, InvalidFileException, KeyError):
        raise InputRejectedError(
            f"{path.name}: is no workbook that can be read; it may be protected by a password or "
            "of before 2007: save it as .xlsx without a password"
        ) from None


def _workbook(path: Path, form: FileFormat) -> tuple[pd.DataFrame, list[str]]:
    if not path.exists():
        raise FileNotFoundError
    book = _open_workbook(path, data_only=True)
    names = list(book.sheetnames)
    if form.sheet is not None and form.sheet not in names:
        raise InputRejectedError(
            f"{path.name}: no sheet {form.sheet!r}; it has {', '.join(map(repr, names))}"
        )
    name = form.sheet or names[0]
    sheet = book[name]
    remarks: list[str] = []
    if form.sheet is None and len(names) > 1:
        others = ", ".join(map(repr, names[1:]))
        remarks.append(f"has several sheets: {name!r} is read, not {others} (table.sheet)")
    if not hasattr(sheet, "iter_rows"):
        raise InputRejectedError(f"{path.name}: the sheet {name!r} is a chart, not a table")
    cells = [[_cell(cell, form.decimal) for cell in row] for row in sheet.iter_rows()]
    _say_odd(path, name, sheet, form.header, remarks)
    frame = pd.DataFrame(cells[form.header - 1 :], dtype=object)
    if frame.empty:
        raise InputRejectedError(f"{path.name}: the sheet {name!r} is empty")
    # Columns that were only formatted, to the right of the table.
    used = frame.ne("").any(axis=0)
    frame = frame.loc[:, : used[used].index.max()] if used.any() else frame.iloc[:, :0]
    if frame.shape[1] == 0:
        raise InputRejectedError(f"{path.name}: the sheet {name!r} is empty")
    return _with_header(frame, path, form.header, remarks), remarks


def _cell(cell: Any, decimal: str) -> str:
    """Write a cell as text: dates as ISO, numbers with the decimal sign of the table."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        text = str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
        return text.replace(".", decimal)
    if isinstance(value, dt.datetime):
        midnight = value.time() == dt.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    return str(value)


def _say_odd(path: Path, name: str, sheet: Any, header: int, remarks: list[str]) -> None:
    merged = [str(part) for part in sheet.merged_cells.ranges if part.max_row > header]
    if merged:
        remarks.append(
            f"has merged cells ({', '.join(sorted(merged)[:3])}): only the first of each holds "
            "the value"
        )
    hidden = sum(1 for index, row in sheet.row_dimensions.items() if row.hidden and index > header)
    if hidden:
        remarks.append(f"has {hidden} hidden or filtered rows; they are read too")
    shares = Counter(
        cell.column_letter
        for row in sheet.iter_rows(min_row=header + 1, max_row=header + 5)
        for cell in row
        if isinstance(cell.value, int | float) and "%" in str(cell.number_format)
    )
    if shares:
        remarks.append(
            f"shows column {', '.join(sorted(shares))} as percentages; the cells hold fractions "
            "(35 % is 0.35)"
        )
    with zipfile.ZipFile(path) as archive:
        formulas = any(
            b"<f>" in archive.read(item) or b"<f " in archive.read(item)
            for item in archive.namelist()
            if item.startswith("xl/worksheets/")
        )
    if not formulas:
        return
    raw = _open_workbook(path, data_only=False)[name]
    lost = [
        cell.coordinate
        for row in raw.iter_rows()
        for cell in row
        if cell.data_type == "f" and sheet[cell.coordinate].value is None
    ]
    if lost:
        raise InputRejectedError(
            f"{path.name}: {len(lost)} formulas of the sheet {name!r} have no stored value (such "
            f"as {lost[0]}); open the file in Excel, let it calculate, and save it again"
        )


def _with_header(frame: pd.DataFrame, path: Path, line: int, remarks: list[str]) -> pd.DataFrame:
    names = [str(name).strip() for name in frame.iloc[0]]
    _check_twice(names, path)
    if "row" in names:
        raise InputRejectedError(
            f"{path.name}: a column is called 'row'; rename it, the word is taken"
        )
    empty = sum(not name for name in names)
    if empty > len(names) / 2:
        raise InputRejectedError(
            f"{path.name}: only {len(names) - empty} of {len(names)} cells of line {line} name a "
            "column; set table.header to the line with the names of the columns"
        )
    names = [name or f"unnamed_{index + 1}" for index, name in enumerate(names)]
    if all(re.fullmatch(r"[-+]?[\d.,]+", name) for name in names):
        raise InputRejectedError(
            f"{path.name}: line {line} holds only numbers; the table has no names of columns"
        )
    body = frame.iloc[1:].copy()
    body.columns = pd.Index(names)
    body["row"] = np.arange(len(body)) + line + 1
    blank = body[names].eq("").all(axis=1)
    again = (body[names] == names).all(axis=1)
    if again.any():
        rows = ", ".join(str(row) for row in body.loc[again, "row"])
        remarks.append(f"repeats its header in row {rows}; left out")
    return body[~blank & ~again].reset_index(drop=True)
