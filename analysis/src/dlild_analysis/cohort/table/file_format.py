"""What the study says about a table's file: sheet, header, encoding, separator, decimal sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FileFormat:
    """How a table's file is written.

    Attributes
    ----------
    sheet : str or None
        Of a workbook; None for its first.
    header : int
        Line with the names of the columns, the first being 1.
    encoding, separator : str or None
        Of a text file; None where they are to be found.
    decimal : {".", ","}
        Decimal sign of numbers that are written as text.
    missing_codes : tuple of str
        Values that stand for a missing one in every column.
    column_codes : mapping of str to tuple of str
        The same for one column.
    """

    sheet: str | None = None
    header: int = 1
    encoding: str | None = None
    separator: str | None = None
    decimal: str = "."
    missing_codes: tuple[str, ...] = ()
    column_codes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def codes(self, column: str) -> tuple[str, ...]:
        """List what stands for a missing value in a column."""
        return (*self.missing_codes, *self.column_codes.get(column, ()))


DEFAULT = FileFormat()
