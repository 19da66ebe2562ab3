"""Pointwise limits of a survival curve, and its median."""

from __future__ import annotations

import math

import numpy as np

from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.risktable import RiskTable


def greenwood(table: RiskTable) -> FloatArray:
    """Variance of log survival; infinite once survival is zero."""
    left = table.at_risk - table.events
    with np.errstate(divide="ignore"):
        steps = np.where(table.events > 0, table.events / (table.at_risk * left), 0.0)
    return np.cumsum(steps)


def pointwise_limits(
    survival: FloatArray, error: FloatArray, conf_type: str, quantile: float
) -> tuple[FloatArray, FloatArray]:
    """Pointwise limits; (1, 1) before the first event and NaN once survival is zero, as in R."""
    low, high = np.ones_like(survival), np.ones_like(survival)
    inner = (survival > 0) & (survival < 1)
    s, se = survival[inner], error[inner]
    if conf_type == "log-log":
        half = quantile * se / (s * np.abs(np.log(s)))
        low[inner], high[inner] = s ** np.exp(half), s ** np.exp(-half)
    elif conf_type == "log":
        half = quantile * se / s
        low[inner], high[inner] = s * np.exp(-half), np.minimum(1.0, s * np.exp(half))
    else:
        low[inner] = np.maximum(0.0, s - quantile * se)
        high[inner] = np.minimum(1.0, s + quantile * se)
    low[survival == 0], high[survival == 0] = np.nan, np.nan
    return low, high


def time_at_half(times: FloatArray, values: FloatArray) -> float:
    """First time at or below one half; midway to the next drop where it equals one half."""
    below = np.flatnonzero(np.nan_to_num(values, nan=1.0) <= 0.5 + 1e-12)
    if below.size == 0:
        return math.nan
    first = below[0]
    if abs(values[first] - 0.5) < 1e-12:
        lower = np.flatnonzero(values < 0.5 - 1e-12)
        last = lower[0] if lower.size else values.size - 1
        return float(times[first] + times[last]) / 2
    return float(times[first])
