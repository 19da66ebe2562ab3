"""Every error that this package raises on purpose, in one tree.

::

    AnalysisError               something stands between the table and its report    exit 1
    ├── UsageError              the command or the call asks for what does not exist exit 2
    ├── NotDoneError            a step that this cohort cannot support; the pipeline
    │                           writes it down as "not done, because ..." and goes on
    └── InputRejectedError      a file cannot be used as it is                       exit 3
        ├── StudyError          the TOML that describes the study is wrong
        ├── CohortError         the table holds faults; `faults` lists every one
        ├── ModelFileError      a saved progression model that cannot be read
        └── OutOfRangeError     a patient outside the data that the model was fitted on

A message says what is wrong, where, with which value, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the table.

    Attributes
    ----------
    row : int or None
        Line of the file, the header being line 1; None where the fault is not in one row.
    column, identifier, value : str
        Where it stands and what stands there; empty where that says nothing.
    problem : str
        What is wrong, and what to do.
    rejects : bool
        False for a warning: the row is used all the same, or its repeat was left out as asked.
    whole : bool
        Whether the fault is the patient's, not the row's.
    file : str
        Table that the row is in, where that is not the patients' table.
    """

    row: int | None
    column: str
    identifier: str
    value: str
    problem: str
    rejects: bool = True
    whole: bool = False
    file: str = ""

    def __str__(self) -> str:
        """Write the fault in one line."""
        where = [f"{self.file} row {self.row}".strip()] if self.row is not None else []
        where += [f"column {self.column!r}"] if self.column else []
        where += [f"id {self.identifier}"] if self.identifier else []
        what = f"{self.value!r} {self.problem}" if self.value else self.problem
        return f"{', '.join(where)}: {what}" if where else what

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """Write the fault for results.json."""
        return {
            "row": self.row,
            "column": self.column,
            "id": self.identifier,
            "value": self.value,
            "problem": self.problem,
            "rejects": self.rejects,
            **({"file": self.file} if self.file else {}),
        }


class AnalysisError(Exception):
    """Root of the tree.

    Attributes
    ----------
    exit_code : int
        What the command `dlild-analysis` exits with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(AnalysisError):
    """The command or the call asks for what does not exist."""

    exit_code = 2


class NotDoneError(AnalysisError):
    """A step that this cohort cannot support; the message completes "not done, because ..."."""


class InputRejectedError(AnalysisError):
    """A file cannot be used as it is."""

    exit_code = 3


class StudyError(InputRejectedError):
    """The TOML that describes the study is wrong."""


class ModelFileError(InputRejectedError):
    """A saved progression model that cannot be read."""


class OutOfRangeError(InputRejectedError):
    """A patient outside the data that the model was fitted on."""


class CohortError(InputRejectedError):
    """The table holds faults.

    Parameters
    ----------
    faults : sequence of Fault
        Every fault that was found, in the order of the rows.
    """

    def __init__(self, faults: Sequence[Fault], source: str) -> None:
        count = len(faults)
        noun = "fault" if count == 1 else "faults"
        super().__init__(f"{source}: {count} {noun} in the table; the first: {faults[0]}")
        self.faults = tuple(faults)
