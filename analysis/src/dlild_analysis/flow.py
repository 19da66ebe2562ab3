"""From the rows of a table to the patients of its cohort: who was left out, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from dlild_analysis.faults import Fault


@dataclass(frozen=True)
class LeftOut:
    """Patients left out for one reason."""

    reason: str
    patients: int


@dataclass(frozen=True)
class TableFlow:
    """The way from a table to a cohort.

    Attributes
    ----------
    rows : int
        Of the table.
    patients : int
        Different ids in it.
    left_out : tuple of LeftOut
        In the order in which they left.
    """

    rows: int = 0
    patients: int = 0
    left_out: tuple[LeftOut, ...] = ()

    @property
    def kept(self) -> int:
        """Patients of the cohort."""
        return self.patients - sum(item.patients for item in self.left_out)

    def after(self, frame: pd.DataFrame, reason: str) -> TableFlow:
        """Add a stage.

        Parameters
        ----------
        frame : DataFrame
            With the `id` of those who are still there.
        reason : str
            Why the others are not.
        """
        lost = self.kept - int(frame["id"].nunique())
        if lost <= 0:
            return self
        return replace(self, left_out=(*self.left_out, LeftOut(reason, lost)))

    def notes(self) -> list[Fault]:
        """Write the totals as notes of a table."""
        return [
            Fault(
                None,
                "",
                "",
                f"{item.patients} of {self.patients} patients",
                f"are left out: {item.reason}",
                rejects=False,
            )
            for item in self.left_out
        ]
