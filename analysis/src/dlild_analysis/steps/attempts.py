"""A part of a step: its result, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats.errors import StatisticsError

P = ParamSpec("P")
T = TypeVar("T")

# StatisticsError is a ValueError.
BROKEN = (NotDoneError, ValueError, np.linalg.LinAlgError, ArithmeticError)


@dataclass(frozen=True)
class NotDone:
    """What stands for a result that this cohort does not support.

    Attributes
    ----------
    not_done_because : str
        The reason; it completes "not done, because ...". The key in results.json.
    """

    not_done_because: str


def attempt(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | NotDone:
    """Call a part of a step; what this cohort cannot support becomes its reason, never a crash."""
    try:
        return call(*args, **kwargs)
    except BROKEN as error:
        return NotDone(reason(error))


def reason(error: Exception) -> str:
    """State why something was not done."""
    if isinstance(error, NotDoneError | StatisticsError):
        return str(error)
    return f"the computation broke down ({type(error).__name__}: {error})"
