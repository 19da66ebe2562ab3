"""A table: written as CSV, and as HTML that pastes into Word with its rules."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dlild_analysis.steps.presentation.text import DASH, MINUS, NBSP


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    name : str
        Stem of its files.
    title, footnote : str
        Above and below it.
    columns : tuple of str
        Heads.
    rows : list of tuple of str
        Cells.
    with_headings : bool
        Whether the report adds the unit, or the reference level, to a covariate that stands in a
        cell.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]] = field(default_factory=list)
    footnote: str = ""
    with_headings: bool = True

    def csv(self) -> str:
        """Write the table as CSV: hyphens for minus signs, empty cells for dashes."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow(
                [
                    "" if cell == DASH else cell.replace(MINUS, "-").replace(NBSP, " ")
                    for cell in row
                ]
            )
        return buffer.getvalue()


def without_empty_columns(table: Table) -> Table:
    """Leave out the columns in which no row has a value, and name them below the table."""
    empty = [
        index
        for index in range(1, len(table.columns))
        if table.rows and all(row[index] in ("", DASH) for row in table.rows)
    ]
    if not empty:
        return table
    kept = [index for index in range(len(table.columns)) if index not in empty]
    names = "; ".join(table.columns[index] or "unnamed" for index in empty)
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=[tuple(row[index] for index in kept) for row in table.rows],
        footnote=f"{table.footnote} Not in this cohort, and left out: {names}.".strip(),
    )
