"""Faults of a table: each with its row, its column, its value and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from dlild_analysis.cohort.table.dates import looks_like_date
from dlild_analysis.errors import CohortError, Fault
from dlild_analysis.stats.arrays import FloatArray


@dataclass(frozen=True)
class Dropped:
    """What faults leave out.

    Attributes
    ----------
    rows : set of (str, int)
        Table (empty for the patients') and line.
    ids : set of str
        Patients left out with all their rows.
    """

    rows: frozenset[tuple[str, int]] = frozenset()
    ids: frozenset[str] = frozenset()

    def keep(self, frame: pd.DataFrame, file: str = "") -> pd.DataFrame:
        """Take the rows that are not left out."""
        rows = [row for name, row in self.rows if name == file]
        return frame[~frame["row"].isin(rows) & ~frame["id"].isin(self.ids)]


@dataclass
class FaultLog:
    """Faults as they are found; `settle` ends in an error or in the rows to leave out.

    Attributes
    ----------
    source : str
        Name of the table.
    items : list of Fault
        What was found.
    originals : dict
        By row and column: what the file has in a cell that was converted.
    places : dict
        By column: the other table that it was joined from, and the row of each id there.
    """

    source: str
    items: list[Fault] = field(default_factory=list)
    originals: dict[tuple[int, str], str] = field(default_factory=dict)
    places: dict[str, tuple[str, Mapping[str, int]]] = field(default_factory=dict)

    def reject(
        self,
        row: int | None,
        column: str,
        identifier: str,
        value: object,
        problem: str,
        *,
        whole: bool = False,
        file: str = "",
    ) -> None:
        """Note a fault for which the row, or the whole patient, cannot be used."""
        value = self._as_written(row, column, value)
        problem += self._place(row, column, identifier)
        self.items.append(
            Fault(row, column, identifier, _shown(value), problem, whole=whole, file=file)
        )

    def warn(
        self, row: int | None, column: str, identifier: str, value: object, problem: str
    ) -> None:
        """Note what the reader should know, though the row is used."""
        value = self._as_written(row, column, value)
        problem += self._place(row, column, identifier)
        self.items.append(Fault(row, column, identifier, _shown(value), problem, rejects=False))

    def _as_written(self, row: int | None, column: str, value: object) -> object:
        """Show a converted cell as the file has it, and what it was converted to."""
        original = None if row is None else self.originals.get((row, column))
        if original is None or value is None or not str(value) or str(value) == original:
            return value
        return f"{original} ({value})" if looks_like_date(original) else original

    def _place(self, row: int | None, column: str, identifier: str) -> str:
        """Name the row of the joined table that a value comes from."""
        if row is None or column not in self.places:
            return ""
        source, rows = self.places[column]
        return f" ({source} row {rows[identifier]})" if identifier in rows else ""

    @property
    def rejected(self) -> list[Fault]:
        """The faults that reject, in the order of the rows."""
        return sorted((item for item in self.items if item.rejects), key=_order)

    @property
    def warnings(self) -> list[Fault]:
        """The rest, in the order of the rows."""
        return sorted((item for item in self.items if not item.rejects), key=_order)

    def absorb(self, other: FaultLog) -> None:
        """Take over the faults of another table."""
        self.items += [replace(item, file=other.source) for item in other.items]

    def settle(self, policy: str) -> Dropped:
        """End the search for faults.

        Parameters
        ----------
        policy : {"reject", "exclude"}
            What the study's `table.faults` says.

        Returns
        -------
        Dropped
            Rows (lines of their file) and patients to leave out; empty under "reject".

        Raises
        ------
        CohortError
            Under "reject" with any fault, and under both with a fault that lies in no single row.
        """
        faults = self.rejected
        rows = {(item.file, item.row) for item in faults if item.row is not None}
        ids = {item.identifier for item in faults if item.whole}
        if faults and (policy == "reject" or any(item.row is None for item in faults)):
            raise CohortError(faults, self.source)
        self.items = [
            replace(
                item,
                problem=f"{item.problem}; the {'patient' if item.whole else 'row'} is left out",
                rejects=False,
            )
            if item.rejects
            else item
            for item in self.items
        ]
        return Dropped(frozenset(rows), frozenset(ids))

    def raise_if_any(self) -> None:
        """Raise `CohortError` if a fault rejects."""
        if self.rejected:
            raise CohortError(self.rejected, self.source)


@dataclass(frozen=True)
class Limits:
    """What a value may be, and what a value out of the ordinary hints at.

    The limits are wide on purpose: they catch what cannot be, not what is rare.
    """

    low: float
    high: float
    meaning: str


PERCENT_PREDICTED = Limits(5.0, 200.0, "percent predicted")
DLCO_PREDICTED = Limits(2.0, 200.0, "percent predicted")
LITRES = Limits(0.2, 9.0, "litres")
SHARE = Limits(0.0, 100.0, "percent of the lung")
ANY = Limits(float("-inf"), float("inf"), "")


def check_limits(
    values: FloatArray,
    limits: Limits,
    frame: pd.DataFrame,
    column: str,
    log: FaultLog,
    *,
    factor: float = 1.0,
) -> None:
    """Note every value outside its limits.

    Parameters
    ----------
    values : array of shape (n,)
        In the unit of `limits`, NaN where missing.
    frame : DataFrame
        Holds `row` and `id` of each value.
    factor : float
        What the file's values were multiplied with; the message shows the value as the file has it.
    """
    with np.errstate(invalid="ignore"):
        outside = np.flatnonzero((values < limits.low) | (values > limits.high))
    low, high = limits.low / factor, limits.high / factor
    for index in outside:
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            f"{values[index] / factor:.10g}",
            f"is impossible: {limits.meaning} must lie in {low:g} ... {high:g}",
        )


def check_mixed_units(
    values: FloatArray,
    split: float,
    frame: pd.DataFrame,
    column: str,
    log: FaultLog,
    *,
    names: tuple[str, str],
) -> FloatArray:
    """Note the minority of values that look as if written in another unit.

    Parameters
    ----------
    values : array of shape (n,)
        As the file has them.
    split : float
        Values at or under it look like `names[0]`, values above like `names[1]`.

    Returns
    -------
    array of shape (n,)
        The values, NaN where a unit was doubted, so that one cell is one fault.
    """
    known = np.isfinite(values)
    small = known & (values <= split) & (values > 0)
    large = known & (values > split)
    if not small.any() or not large.any():
        return values
    odd, odd_name, name = (
        (small, *names) if small.sum() <= large.sum() else (large, names[1], names[0])
    )
    for index in np.flatnonzero(odd):
        log.reject(
            int(frame["row"].iloc[index]),
            column,
            str(frame["id"].iloc[index]),
            f"{values[index]:.10g}",
            f"looks like {odd_name} in a column of {name}: mixed units; write the whole column in "
            "one unit",
        )
    return np.where(odd, np.nan, values)


def check_repeats(
    frame: pd.DataFrame, keys: list[str], what: str, policy: str, log: FaultLog
) -> pd.DataFrame:
    """Name every row that repeats another, and keep one only where the study asks for it.

    Parameters
    ----------
    frame : DataFrame
        With `row`, `id` and the `keys`; other columns show whether repeats agree.
    policy : {"reject", "first", "last"}
        What the study's `table.duplicates` says. Repeats are never averaged.
    """
    repeated = frame.duplicated(keys, keep=False)
    if not repeated.any():
        return frame
    content = [name for name in frame.columns if name != "row"]
    drop: list[int] = []
    for _, group in frame[repeated].groupby(keys, sort=False, dropna=False):
        rows = [int(row) for row in group["row"]]
        same = not group.duplicated(content, keep=False).eq(False).any()
        agree = "with the same values" if same else "with other values"
        kept = rows[-1] if policy == "last" else rows[0]
        for row in rows:
            if row == kept:
                continue
            text = f"repeats row {kept} (same {what}) {agree}"
            identifier = str(group["id"].iloc[0])
            if policy == "reject":
                hint = 'correct the table, or set table.duplicates = "first" or "last"'
                log.reject(row, "", identifier, "", f"{text}; {hint}")
            else:
                log.warn(
                    row,
                    "",
                    identifier,
                    "",
                    f"{text}; row {kept} is kept, as table.duplicates = {policy!r} asks",
                )
                drop.append(row)
    return frame[~frame["row"].isin(drop)]


def _order(fault: Fault) -> tuple[int, str, str]:
    return (fault.row if fault.row is not None else -1, fault.column, fault.problem)


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
