"""Numbers as they are printed: a value, and the interval that rounding leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from dlild_analysis.errors import StudyError


@dataclass(frozen=True)
class Printed:
    """A printed number.

    Attributes
    ----------
    text : str
        As printed.
    value : float
        The number.
    low, high : float
        The true value lies between them: half a unit of the last printed digit to either side, or
        from 0 to the bound where the print says "<".
    """

    text: str
    value: float
    low: float
    high: float

    @property
    def is_bound(self) -> bool:
        """Whether the print is "< value"."""
        return self.text.startswith("<")

    def holds(self, low: float, high: float) -> bool:
        """Whether the printed interval and the interval [low, high] meet."""
        return self.low <= high and low <= self.high


def read_printed(value: object, where: str) -> Printed:
    """Read a number of an audit table.

    Parameters
    ----------
    value : str, int or float
        Text keeps trailing zeros ("0.010") and bounds ("< 0.001"); a bare number is taken as it
        prints.

    Raises
    ------
    StudyError
        It is no number.
    """
    text = str(value).strip().replace(" ", "")
    bare = text.lstrip("<")
    percent = bare.endswith("%")
    try:
        number = Decimal(bare.rstrip("%"))
    except InvalidOperation:
        raise StudyError(f'{where} is {value!r}; write a number, or "< 0.001"') from None
    exponent = number.as_tuple().exponent
    if isinstance(value, bool) or not isinstance(exponent, int):
        raise StudyError(f"{where} is {value!r}; write a number")
    scale = 0.01 if percent else 1.0
    middle = float(number) * scale
    half = 0.5 * 10.0**exponent * scale if not isinstance(value, int) else 0.0
    if text.startswith("<"):
        return Printed(text, middle, 0.0, middle)
    return Printed(text, middle, middle - half, middle + half)


def meets(p: Printed, low: float, high: float) -> bool:
    """Whether a printed p-value can come from a p-value between `low` and `high`."""
    return p.holds(low, high) and not (math.isnan(low) or math.isnan(high))
