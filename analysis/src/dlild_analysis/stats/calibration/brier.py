"""The Brier score, for an outcome known in all and for survival at a horizon."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_risks,
    as_survival,
    as_vector,
    horizon_within,
    normal_quantile,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate
from dlild_analysis.stats.survival.risk_table import censoring_curve

_EDGE = 1e-7  # risks of 0 and 1 have no logit; they are moved inwards by so much, with a warning


def brier_binary(outcome: ArrayLike, risk: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Brier score: mean of (risk - outcome) squared, with a normal interval.

    Parameters
    ----------
    outcome, risk, level
        As :func:`calibrate_binary`; one class alone is allowed.

    Returns
    -------
    Estimate
        In [0, 1]; lower is better.

    Raises
    ------
    StatisticsError
        Risks outside [0, 1].
    """
    event = as_binary(outcome, both=False)
    checked_risks(risk, event.size)
    raw = as_vector(risk, "risk")
    squares = (raw - event) ** 2
    error = float(squares.std(ddof=1) / math.sqrt(squares.size)) if squares.size > 1 else math.nan
    return _mean_estimate(
        float(squares.mean()), error, squares.size, level=level, method="Brier score"
    )


def brier_survival(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, *, level: float = 0.95
) -> Estimate:
    """Brier score at a horizon by inverse probability of censoring weights.

    Parameters
    ----------
    time, event, risk, horizon, level
        As :func:`calibrate_survival`.

    A patient counts as free of the event at the horizon who was followed to it or beyond without
    the event: one censored exactly there, too, since events come before censorings at equal times.
    Each such patient is weighted by 1 / G(horizon-), each with the event at t by 1 / G(t-).

    Returns
    -------
    Estimate
        In [0, 1]; lower is better. The variance includes the estimation of the weights.

    Raises
    ------
    StatisticsError
        As :func:`calibrate_survival`.
    """
    times, events = as_survival(time, event)
    horizon = check_horizon(times, events, horizon)
    checked_risks(risk, times.size)
    raw = as_vector(risk, "risk")
    curve = censoring_curve(times, events)
    case = events & (times <= horizon)
    free = (times >= horizon) & ~case
    at_horizon = float(curve.before(np.array([horizon]))[0])
    before = np.where(case, curve.before(times), 1.0)
    of_case = np.where(case, (1 - raw) ** 2 / before, 0.0)
    of_free = np.where(free, raw**2 / at_horizon, 0.0)
    mean = float((of_case + of_free).mean())
    loads = np.bincount(curve.table.row, weights=of_case, minlength=curve.at_risk.size)
    influence = (
        of_case
        + of_free
        - mean
        + curve.martingale_pull(~events, loads / times.size)
        + curve.martingale_pull_before(~events, horizon, float(of_free.mean()))
    )
    error = float(influence.std(ddof=1)) / math.sqrt(times.size) if times.size > 1 else math.nan
    method = f"Brier score at {horizon:g}, IPCW"
    return _mean_estimate(mean, error, times.size, level=level, method=method)


def _mean_estimate(mean: float, error: float, n: int, *, level: float, method: str) -> Estimate:
    half = normal_quantile(level) * error
    return Estimate(
        estimate=mean,
        ci_low=max(0.0, mean - half),
        ci_high=min(1.0, mean + half),
        std_error=error,
        n=n,
        level=level,
        method=f"{method}, normal interval",
        warnings=("one patient: no interval",) if math.isnan(error) else (),
    )


def checked_risks(risk: ArrayLike, n: int) -> tuple[FloatArray, tuple[str, ...]]:
    """Return risks inside (0, 1), and a warning if any had to be moved."""
    risks = as_risks(risk, n)
    edge = int(((risks < _EDGE) | (risks > 1 - _EDGE)).sum())
    remarks = (f"{edge} risks of 0 or 1 were moved inwards by {_EDGE:g}",) if edge else ()
    return np.clip(risks, _EDGE, 1 - _EDGE), remarks


def check_horizon(times: FloatArray, events: BoolArray, horizon: float) -> float:
    """Return the horizon as it stands among the times (see :func:`horizon_within`).

    Raises
    ------
    StatisticsError
        Follow-up does not reach the horizon, or no event happens by it.
    """
    horizon = horizon_within(horizon, times)
    if not (events & (times <= horizon)).any():
        raise StatisticsError(f"horizon: no event by {horizon:g}; choose a later one")
    return horizon
