"""The serial measurements of one patient, as a progression rule reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlild_analysis.cohort.table.units import TIME_SLACK
from dlild_analysis.stats.arrays import FloatArray

DECLINE_SLACK = 1e-5
"""Percent or points: what the rounding of binary numbers, of single precision too, may take from a
decline. 3.0 to 2.7 L is 10 %, though 100 * (3.0 - 2.7) / 3.0 is 9.999999999999995."""


def reaches(decline: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Whether declines are at least a threshold, but for rounding; False where NaN.

    Parameters
    ----------
    decline : array of shape (v,)
        Percent or points.
    threshold : float
        In the same unit.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(decline >= threshold - DECLINE_SLACK)


def by(time: FloatArray, months: float) -> NDArray[np.bool_]:
    """Whether times are at or before so many months, but for rounding; False where NaN.

    Parameters
    ----------
    time : array of shape (v,)
        Months.
    months : float
        The last month that counts.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(time <= months + TIME_SLACK)


@dataclass(frozen=True)
class Visits:
    """Visits of one patient, in the order of time.

    Attributes
    ----------
    time : array of shape (v,)
        Months from the time origin.
    fvc_percent, fvc_litres, dlco_percent : array of shape (v,)
        NaN where not measured.
    symptoms, radiology : array of shape (v,)
        1 where worse than at baseline, 0 where not, NaN where not recorded.
    window : float
        How far from the origin, in months, a baseline measurement may lie.
    """

    time: FloatArray
    fvc_percent: FloatArray
    fvc_litres: FloatArray
    dlco_percent: FloatArray
    symptoms: FloatArray
    radiology: FloatArray
    window: float

    def fvc(self) -> FloatArray:
        """Choose litres where the baseline has them, else percent predicted."""
        return self.fvc_litres if self.baseline(self.fvc_litres) is not None else self.fvc_percent

    def baseline(self, values: FloatArray) -> int | None:
        """Find the measurement nearest to the origin, within the window."""
        known = np.flatnonzero(np.isfinite(values) & by(np.abs(self.time), self.window))
        if known.size == 0:
            return None
        return int(known[np.argmin(np.abs(self.time[known]))])

    def decline_since(self, values: FloatArray) -> FloatArray:
        """Decline since the baseline, in the unit of the values; NaN at and before it."""
        start = self.baseline(values)
        if start is None:
            return np.full(self.time.size, np.nan)
        decline: FloatArray = values[start] - values
        decline[: start + 1] = np.nan
        decline[self.time <= 0] = np.nan
        return decline

    def relative_decline(self, values: FloatArray) -> FloatArray:
        """Decline since the baseline, in percent of the baseline; NaN at and before it."""
        start = self.baseline(values)
        if start is None:
            return np.full(self.time.size, np.nan)
        decline: FloatArray = 100.0 * self.decline_since(values) / values[start]
        return decline

    def absolute_decline(self, values: FloatArray, within: float) -> FloatArray:
        """Decline, in points, since the earliest measurement of the `within` months before."""
        out = np.full(self.time.size, np.nan)
        known = np.flatnonzero(np.isfinite(values) & by(-self.time, self.window))
        for position, index in enumerate(known):
            if self.time[index] <= 0:
                continue
            earlier = known[:position]
            earlier = earlier[by(self.time[index] - self.time[earlier], within)]
            if earlier.size:
                out[index] = values[earlier[0]] - values[index]
        return out

    def flag_since(self, values: FloatArray, within: float) -> FloatArray:
        """1 where a worsening was recorded in the `within` months up to a visit; else 0."""
        out = np.zeros(self.time.size)
        for index in range(self.time.size):
            near = (
                (self.time <= self.time[index])
                & (self.time > self.time[index] - within + TIME_SLACK)
                & (self.time > 0)
            )
            out[index] = float(np.any(values[near] == 1.0))
        return out
