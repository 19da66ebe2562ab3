"""Every cut-off there is, and the price of choosing the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    IntArray,
    as_binary,
    as_survival,
    as_vector,
    check_lengths,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Result
from dlild_analysis.stats.survival.risk_table import risk_table

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class CutoffScan(Result):
    """What each admissible cut-off would have shown.

    Attributes
    ----------
    cutoffs
        Shape (k,), rising: midpoints between observed scores; at or above is "high".
    high
        Shape (k,): patients in the high group.
    statistic
        Shape (k,): standardised two-sample statistic, |z|.
    naive_p
        Shape (k,): two-sided p as if that cut-off had been fixed beforehand.
    best_cutoff, best_statistic, best_naive_p
        The maximum.
    corrected_p
        Permutation p of the maximum: the honest one for a cut-off that the data chose.
    approximate_p
        Lausen and Schumacher's (1994) bound for the same, free of chance.
    permutations
        How many.
    used_p
        Permutation p of the cut-off that is used: how often the best of a permutation reaches its
        statistic. None where no cut-off was given, or it leaves a group too small.
    """

    cutoffs: FloatArray
    high: IntArray
    statistic: FloatArray
    naive_p: FloatArray
    best_cutoff: float
    best_statistic: float
    best_naive_p: float
    corrected_p: float
    approximate_p: float
    permutations: int
    n: int
    method: str
    warnings: tuple[str, ...] = ()
    used_p: float | None = None


def scan_cutoffs_survival(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    permutations: int = 1000,
    smallest_group: float = 0.1,
    used: float | None = None,
    progress: Progress | None = None,
) -> CutoffScan:
    """Log-rank statistic at every cut-off, with the maximum's p-value corrected.

    Parameters
    ----------
    time, event, score
        Shape (n,).
    rng
        Source of the permutations.
    permutations
        At least 100.
    smallest_group
        Share of patients that both groups must have.
    used
        A cut-off that was chosen in these data, by this or another criterion.
    progress
        Called with (done, total).

    Returns
    -------
    CutoffScan
        Log-rank scores in Lausen and Schumacher's standardisation.

    Raises
    ------
    StatisticsError
        No events, a constant score, no admissible cut-off.

    References
    ----------
    .. [1] Lausen B, Schumacher M. Maximally selected rank statistics. Biometrics 1992;48:73-85.
    .. [2] Altman DG, Lausen B, Sauerbrei W, Schumacher M. Dangers of using "optimal" cutpoints in
       the evaluation of prognostic factors. J Natl Cancer Inst 1994;86:829-835.
    """
    times, events = as_survival(time, event)
    scores = as_vector(score, "score")
    check_lengths(time=times, score=scores)
    if not events.any():
        raise StatisticsError("event: 0 events; no cut-off can be judged")
    table = risk_table(times, events)
    lived = np.cumsum(table.events / table.at_risk)[table.row]
    return _scan(
        events - lived,
        scores,
        rng=rng,
        permutations=permutations,
        smallest_group=smallest_group,
        used=used,
        progress=progress,
        what="standardised log-rank statistic",
    )


def scan_cutoffs_binary(
    outcome: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    permutations: int = 1000,
    smallest_group: float = 0.1,
    progress: Progress | None = None,
) -> CutoffScan:
    """Two-by-two statistic at every cut-off, with the maximum's p-value corrected.

    Parameters
    ----------
    outcome, score
        Shape (n,); outcome 0 or 1.
    rng, permutations, smallest_group, progress
        As :func:`scan_cutoffs_survival`.

    Returns
    -------
    CutoffScan
        Statistics are square roots of (n - 1)/n times Pearson's chi-squared.

    Raises
    ------
    StatisticsError
        One class only, a constant score, no admissible cut-off.

    References
    ----------
    .. [1] Miller R, Siegmund D. Maximally selected chi square statistics. Biometrics
       1982;38:1011-1016.
    """
    flags = as_binary(outcome)
    scores = as_vector(score, "score")
    check_lengths(outcome=flags, score=scores)
    return _scan(
        flags.astype(np.float64),
        scores,
        rng=rng,
        permutations=permutations,
        smallest_group=smallest_group,
        used=None,
        progress=progress,
        what="standardised two-by-two statistic",
    )


def _admissible(scores: FloatArray, smallest_group: float) -> tuple[FloatArray, IntArray]:
    """Cut-offs between observed scores that leave both groups large enough, and sizes below."""
    if not 0 < smallest_group < 0.5:
        raise StatisticsError(f"smallest_group: {smallest_group}; give a share in (0, 0.5)")
    observed, counts = np.unique(scores, return_counts=True)
    if observed.size < 2:
        raise StatisticsError(f"score: all values are {observed[0]:g}; no cut-off divides them")
    below = np.cumsum(counts)[:-1]
    middle = (observed[:-1] + observed[1:]) / 2
    middle = np.where(middle > observed[:-1], middle, observed[1:])
    least = smallest_group * scores.size
    fits = (below >= least) & (scores.size - below >= least)
    if not fits.any():
        raise StatisticsError(
            f"smallest_group: no cut-off leaves {least:.1f} patients on both sides; allow smaller"
            " groups"
        )
    return middle[fits], below[fits]


def _scan(
    residuals: FloatArray,
    scores: FloatArray,
    *,
    rng: np.random.Generator,
    permutations: int,
    smallest_group: float,
    used: float | None,
    progress: Progress | None,
    what: str,
) -> CutoffScan:
    if permutations < 100:
        raise StatisticsError(f"permutations: {permutations}; at least 100 are needed")
    cutoffs, below = _admissible(scores, smallest_group)
    n = scores.size
    centred = residuals - residuals.mean()
    variance = float(centred @ centred) / (n - 1)
    if variance == 0:
        raise StatisticsError("outcome: the same in all patients; no cut-off can be judged")
    # Variance of a sum of m values drawn without replacement.
    deviation = np.sqrt(variance * below * (n - below) / n)
    statistic = np.abs(np.cumsum(centred[np.argsort(scores, kind="stable")])[below - 1]) / deviation
    best = int(np.argmax(statistic))
    low = -1 if used is None else int((scores < used).sum())
    chosen = np.flatnonzero(below == low)
    level = float(statistic[chosen[0]]) if chosen.size else math.inf
    reached = used_reached = 0
    for done in range(permutations):
        shuffled = np.cumsum(rng.permutation(centred))[below - 1]
        # The tolerance lets ties with the observed maximum count, whatever the rounding.
        largest = float(np.max(np.abs(shuffled) / deviation))
        reached += largest >= statistic[best] * (1 - 1e-12)
        used_reached += largest >= level * (1 - 1e-12)
        if progress is not None:
            progress(done + 1, permutations)
    warnings = []
    tied = int((statistic >= statistic[best] * (1 - 1e-12)).sum())
    if tied > 1:
        warnings.append(f"{tied} cut-offs share the highest statistic; the lowest is named")
    return CutoffScan(
        cutoffs=cutoffs,
        high=n - below,
        statistic=statistic,
        naive_p=2 * stats.norm.sf(statistic),
        best_cutoff=float(cutoffs[best]),
        best_statistic=float(statistic[best]),
        best_naive_p=float(2 * stats.norm.sf(statistic[best])),
        corrected_p=(reached + 1) / (permutations + 1),
        approximate_p=_lausen_bound(float(statistic[best]), below, n),
        permutations=permutations,
        n=n,
        method=f"{what} at {cutoffs.size} cut-offs, {permutations} permutations",
        warnings=tuple(warnings),
        used_p=(used_reached + 1) / (permutations + 1) if chosen.size else None,
    )


def _lausen_bound(b: float, below: IntArray, n: int) -> float:
    """Bound the maximum's p-value by improved Bonferroni (Lausen, Sauerbrei, Schumacher 1994)."""
    m = below.astype(np.float64)
    first, second = m[:-1], m[1:]
    overlap = np.sqrt(np.maximum(0.0, 1 - first * (n - second) / ((n - first) * second)))
    bridge = np.exp(-(b**2) / 2) / math.pi * (overlap - (b**2 / 4 - 1) * overlap**3 / 6)
    return float(min(1.0, max(0.0, 2 * stats.norm.sf(b) + bridge.sum())))
