"""Reads CSV tables as spreadsheets save them: detects encoding and separator.

Excel saves CSV with a byte order mark or in the code page of the machine, with semicolons where the
decimal separator is a comma, and "Unicode text" as UTF-16 with tabs.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

from dlild_client.errors import BadSettingsError

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes
    ----------
    line : int
        Last line of the row in the file, from 1.
    cells : dict of str to str
        By column name; every column is present.
    """

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    columns : tuple of str
        Names, in lower case and stripped.
    rows : tuple of Row
        Without empty rows.
    encoding, separator : str
        As detected.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    encoding: str
    separator: str


def read_table(data: bytes, name: str, column: str) -> Table:
    """Read a table with a required column.

    Parameters
    ----------
    data : bytes
    name : str
        Name of the file, for messages.
    column : str
        Required column, by which the separator is detected.

    Raises
    ------
    BadSettingsError
        Not text, no such column, or a row with more cells than columns.
    """
    text, encoding = _decode(data, name)
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    declared = lines[first].strip().strip('"').lower() if lines else ""
    separators: tuple[str, ...] = _SEPARATORS
    if declared.startswith("sep=") and len(declared) == len("sep=") + 1:
        # Excel's declaration of the separator; the columns follow.
        separators, first = (declared[-1],), first + 1
    separator = _find_separator(lines[first] if first < len(lines) else "", separators, column)
    if separator is None:
        named = lines[first].strip()[:60] if first < len(lines) else ""
        found = f"it is {named!r}" if named else "the file is empty"
        raise BadSettingsError(
            f"{name}: no column {column}; the first line must name it, and {found}"
        )
    return _parse(text, name, encoding, separator, first)


def _decode(data: bytes, name: str) -> tuple[str, str]:
    if data.startswith(b"PK"):
        raise BadSettingsError(f"{name}: a workbook or an archive, not text; save it as CSV")
    encodings = [encoding for mark, encoding in _MARKS if data.startswith(mark)][:1]
    if not encodings and b"\0" in data:
        start = data[:2].find(b"\0")
        encodings = [("utf-16-be", "utf-16-le", "utf-8")[start]]
    for encoding in encodings or ["utf-8", "cp1252", "latin-1"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            # Normalises the three kinds of line ends.
            return io.StringIO(text, newline=None).getvalue(), encoding
    raise BadSettingsError(f"{name}: not a table of text; save it as CSV in UTF-8")


def _find_separator(line: str, separators: tuple[str, ...], column: str) -> str | None:
    """Find the separator that yields the column and the most columns in the first line."""
    counts = {}
    for separator in separators:
        names = [_name(cell) for cell in next(csv.reader([line], delimiter=separator), [])]
        if column in names:
            counts[separator] = len(names)
    return max(counts, key=lambda s: counts[s]) if counts else None


def _parse(text: str, name: str, encoding: str, separator: str, first: int) -> Table:
    source = io.StringIO(text, newline="")
    for _ in range(first):
        source.readline()
    reader = csv.reader(source, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        columns = _columns(next(reader), name)
        rows = [
            Row(line, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True)))
            for line, cells in _filled(reader, name, len(columns), first)
        ]
    except csv.Error as error:
        line = reader.line_num + first
        raise BadSettingsError(f"{name}, line {line}: {error}; look at its quotes") from None
    return Table(columns, tuple(rows), encoding, separator)


def _columns(cells: list[str], name: str) -> tuple[str, ...]:
    names = [_name(cell) for cell in cells]
    while names and not names[-1]:
        names.pop()
    (most, count), *_ = Counter(filter(None, names)).most_common(1)
    if count > 1:
        raise BadSettingsError(f"{name}: the column {most} is there {count} times; keep one")
    return tuple(text or f"column {number}" for number, text in enumerate(names, start=1))


def _filled(reader: Any, name: str, count: int, first: int) -> list[tuple[int, list[str]]]:
    """Rows with their line numbers, stripped, without empty ones."""
    rows = []
    for cells in reader:
        texts = [cell.strip() for cell in cells]
        line = reader.line_num + first
        if any(texts[count:]):
            raise BadSettingsError(
                f"{name}, line {line}: {len(cells)} cells for {count} columns; "
                "put quotes round a cell that holds the separator"
            )
        if any(texts):
            rows.append((line, texts[:count]))
    return rows


def _name(cell: str) -> str:
    return cell.strip().lower()
