"""Value objects shared by every statistic: frozen, and able to become a dict for JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from dlild_analysis.stats.arrays import FloatArray

OPTIONAL = {"optional": True}
"""Metadata of a field that JSON leaves out where it is None or empty."""


def to_plain(value: Any) -> Any:
    """Turn a result, or anything inside one, into what JSON can hold.

    Numbers that are not finite become ``None``: the ``warnings`` of the result that holds them
    say why.
    """
    if is_dataclass(value) and not isinstance(value, type):
        pairs = [(f, getattr(value, f.name)) for f in fields(value)]
        return {
            f.name: to_plain(part)
            for f, part in pairs
            if not (f.metadata.get("optional") and part in (None, ()))
        }
    if isinstance(value, np.ndarray):
        return [to_plain(v) for v in value.tolist()]
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True, kw_only=True)
class Result:
    """Anything that a statistic returns."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as nested dicts, lists, numbers and strings."""
        plain: dict[str, Any] = to_plain(self)
        return plain


@dataclass(frozen=True, kw_only=True)
class Estimate(Result):
    """A number with its uncertainty.

    Attributes
    ----------
    estimate
        The point estimate, on the scale that ``method`` names.
    ci_low, ci_high
        Confidence limits at ``level``; NaN (and a warning) where none exist.
    p_value
        Two-sided p-value against no effect; ``None`` where no test belongs to the estimate.
    std_error
        Standard error, on the scale of the estimate unless ``method`` says otherwise; ``None``
        where the interval does not come from one.
    n
        Subjects (or pairs, where pairs are the unit) behind the estimate.
    level
        Coverage that the interval claims.
    method
        How it was computed, in words fit for a methods section.
    warnings
        Every reservation. Empty when there is none.
    """

    estimate: float
    ci_low: float
    ci_high: float
    p_value: float | None = None
    std_error: float | None = None
    n: int
    level: float = 0.95
    method: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HypothesisTest(Result):
    """A test statistic with its p-value.

    Attributes
    ----------
    statistic
        Value of the statistic that ``method`` names.
    df
        Degrees of freedom; ``None`` for a normal or a permutation reference.
    p_value
        Two-sided p-value.
    """

    statistic: float
    df: float | None = None
    p_value: float
    n: int
    method: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskPrediction(Result):
    """Predicted risks with pointwise intervals; each shape (n,), in [0, 1]."""

    risk: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    level: float
    method: str
    warnings: tuple[str, ...] = ()
