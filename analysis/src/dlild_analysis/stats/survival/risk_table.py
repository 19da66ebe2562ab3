"""Counts at each distinct follow-up time, and the censoring curve made from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlild_analysis.stats.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class RiskTable:
    """Counts by distinct time, rising; each shape (k,).

    Attributes
    ----------
    at_risk
        Patients whose follow-up reaches the time.
    row
        Shape (n,): index of each patient's own time.
    """

    times: FloatArray
    at_risk: IntArray
    events: IntArray
    censored: IntArray
    row: IntArray


@dataclass(frozen=True, eq=False)
class CensoringCurve:
    """Kaplan-Meier of censoring, G; at equal times events come before censorings.

    Attributes
    ----------
    at_risk
        Shape (k,): at risk of censoring, patients with an event at that time no longer counted.
    hazard
        Shape (k,): censoring hazard at each distinct time.
    survival
        Shape (k,): G just after each distinct time.
    """

    table: RiskTable
    at_risk: FloatArray
    hazard: FloatArray
    survival: FloatArray

    def before(self, times: FloatArray) -> FloatArray:
        """G just before each time."""
        row = np.searchsorted(self.table.times, times, side="left")
        return np.concatenate([[1.0], self.survival])[row]

    def martingale_pull(self, censored: BoolArray, loads: FloatArray) -> FloatArray:
        """Influence of each patient, through G, on a mean weighted by 1 / G(t-).

        Parameters
        ----------
        censored
            Shape (n,): who was censored.
        loads
            Shape (k,): mean over patients of what is weighted by 1 / G(t-), by the distinct time t
            at which G is read.

        Returns
        -------
        ndarray
            Shape (n,); its mean is zero.
        """
        # A censoring at s raises every weight read after s.
        later: FloatArray = np.cumsum(loads[::-1])[::-1] - loads
        return self._pull(censored, later)

    def martingale_pull_before(
        self, censored: BoolArray, horizon: float, load: float
    ) -> FloatArray:
        """Influence, through G, on a mean weighted by 1 / G(horizon-)."""
        return self._pull(censored, np.where(self.table.times < horizon, load, 0.0))

    def _pull(self, censored: BoolArray, reach: FloatArray) -> FloatArray:
        n = censored.size
        share = np.maximum(self.at_risk, 1.0) / n
        jump = np.where(censored, (reach / share)[self.table.row], 0.0)
        drift = np.cumsum(reach * self.hazard / share)
        # A patient with an event at s was no longer at risk of censoring at s.
        before = np.concatenate([[0.0], drift])
        row = self.table.row
        return jump - np.where(censored, drift[row], before[row])


def risk_table(time: FloatArray, event: BoolArray) -> RiskTable:
    """Count patients at risk, events and censorings at each distinct time."""
    times, row, total = np.unique(time, return_inverse=True, return_counts=True)
    events = np.bincount(row, weights=event, minlength=times.size).astype(np.int64)
    at_risk = np.cumsum(total[::-1])[::-1]
    return RiskTable(
        times=times,
        at_risk=at_risk.astype(np.int64),
        events=events,
        censored=(total - events).astype(np.int64),
        row=row.astype(np.int64),
    )


def product_limit(table: RiskTable) -> FloatArray:
    """Kaplan-Meier survival just after each distinct time."""
    return np.asarray(np.cumprod(1 - table.events / table.at_risk), dtype=np.float64)


def censoring_curve(time: FloatArray, event: BoolArray) -> CensoringCurve:
    """Kaplan-Meier estimate of the probability of not being censored."""
    table = risk_table(time, event)
    at_risk = (table.at_risk - table.events).astype(np.float64)
    hazard = table.censored / np.maximum(at_risk, 1.0)
    survival = np.asarray(np.cumprod(1 - hazard), dtype=np.float64)
    return CensoringCurve(table=table, at_risk=at_risk, hazard=hazard, survival=survival)
