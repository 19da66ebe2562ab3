"""A concordance and the influence of each patient on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_survival,
    as_vector,
    check_lengths,
    horizon_among,
    merge_near_ties,
)
from dlild_analysis.stats.dominance import PairCounts, count_pairs
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.risktable import censoring_curve

NO_PAIR = (
    "no two patients can be compared: no event comes before another patient's time; concordance"
    " needs at least one such pair"
)


@dataclass(frozen=True, eq=False)
class ConcordanceParts:
    """A concordance and the influence of each patient on it (they sum to zero)."""

    value: float
    influence: FloatArray
    events: int
    warnings: tuple[str, ...]


def _weights(
    times: FloatArray, events: BoolArray, weight: str, horizon: float | None
) -> FloatArray:
    weights = events.astype(np.float64)
    if weight == "uno":
        before = censoring_curve(times, events).before(times)
        weights = np.where(events, 1 / np.maximum(before, 1e-300) ** 2, 0.0)
    if horizon is not None:
        weights = np.where(times <= horizon_among(horizon, times), weights, 0.0)
    return weights


def concordance_parts(
    time: ArrayLike, event: ArrayLike, score: ArrayLike, weight: str, horizon: float | None
) -> ConcordanceParts:
    """Compute C, weighted as asked, and each patient's influence."""
    times, events = as_survival(time, event)
    scores = merge_near_ties(as_vector(score, "score"))
    check_lengths(time=times, score=scores)
    weights = _weights(times, events, weight, horizon)
    pairs = count_pairs(times, scores, weights)
    total = float(weights @ pairs.later)
    if total == 0:
        raise StatisticsError(NO_PAIR)
    value = float(weights @ (pairs.lower + pairs.tied / 2)) / total
    warnings: tuple[str, ...] = ()
    if np.ptp(scores) == 0:
        warnings = (f"score: all values are {scores[0]:g}; concordance is 0.5 by convention",)
    return ConcordanceParts(
        value=value,
        influence=_influence(pairs, weights, value, total),
        events=int(np.count_nonzero(weights)),
        warnings=warnings,
    )


def _influence(pairs: PairCounts, weights: FloatArray, value: float, total: float) -> FloatArray:
    """Differentiate C by the weight of each patient, as the earlier and as the later of a pair."""
    right = weights * (pairs.lower + pairs.tied / 2) + pairs.higher_before + pairs.tied_before / 2
    all_pairs = weights * pairs.later + pairs.before
    influence: FloatArray = (right - value * all_pairs) / total
    return influence
