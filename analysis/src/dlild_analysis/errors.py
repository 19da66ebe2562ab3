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

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlild_analysis.faults import Fault


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
