"""ROC curves: AUC with DeLong's variance.

Throughout, ``outcome`` is 0/1 with 1 the event, and a **higher score means the event is likelier**.
No direction is ever guessed: a protective score (FVC) is negated by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    normal_quantile,
)
from dlild_analysis.stats.auc_comparison import (
    AucComparison,
    compare_auc_paired,
    compare_auc_unpaired,
)
from dlild_analysis.stats.delong import (
    auc_estimate,
    auc_with_interval,
    binary_inputs,
    logit_auc_estimate,
    positives_by_threshold,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.operating import (
    OperatingPoint,
    YoudenCutoff,
    operating_point,
    youden_cutoff,
)
from dlild_analysis.stats.results import Estimate, Result

AucInterval = Literal["delong", "logit"]

__all__ = [
    "AucComparison",
    "AucInterval",
    "OperatingPoint",
    "RocCurve",
    "YoudenCutoff",
    "auc",
    "auc_value",
    "compare_auc_paired",
    "compare_auc_unpaired",
    "hanley_mcneil",
    "operating_point",
    "roc_curve",
    "youden_cutoff",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve(Result):
    """The empirical ROC curve, from (0, 0) to (1, 1).

    Attributes
    ----------
    thresholds
        Shape (k,), falling; a score at or above the threshold is called positive. The first is
        ``inf`` (nobody is positive).
    false_positive_rate, true_positive_rate
        Shape (k,).
    """

    thresholds: FloatArray
    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    n: int
    events: int


def auc(
    outcome: ArrayLike,
    score: ArrayLike,
    *,
    level: float = 0.95,
    interval: AucInterval = "delong",
) -> Estimate:
    """Area under the ROC curve with DeLong's interval.

    Estimand: the probability that a patient with the event scores above one without, ties
    counting one half. O(n log n) by midranks.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    score
        Shape (n,); higher means the event is likelier.
    level
        Coverage of the interval.
    interval
        "delong": on the AUC scale, clipped to [0, 1], as most software and papers have it. "logit":
        on the logit scale with the same variance; it never leaves [0, 1], and its coverage is
        nearer to the claim where the AUC is high and the classes are small [3]_.

    Returns
    -------
    Estimate
        AUC; the p-value tests AUC = 0.5.

    Raises
    ------
    StatisticsError
        An outcome that is not 0/1, only one class, a score that is not finite, or an interval
        of another name.

    References
    ----------
    .. [1] DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more
       correlated receiver operating characteristic curves. Biometrics 1988;44:837-845.
    .. [2] Sun X, Xu W. Fast implementation of DeLong's algorithm. IEEE Signal Process Lett
       2014;21:1389-1393.
    .. [3] Pepe MS. The statistical evaluation of medical tests for classification and prediction.
       Oxford University Press 2003, section 5.2.5.
    """
    if interval not in ("delong", "logit"):
        raise StatisticsError(f"interval: {interval!r}; use 'delong' or 'logit'")
    event, scores = binary_inputs(outcome, score)
    finish = auc_estimate if interval == "delong" else logit_auc_estimate
    return auc_with_interval(event, scores, level, finish)


def auc_value(outcome: ArrayLike, score: ArrayLike) -> float:
    """AUC without its variance: what a bootstrap repeats thousands of times.

    Parameters
    ----------
    outcome, score
        As :func:`auc`.

    Returns
    -------
    float
        AUC in [0, 1].

    Raises
    ------
    StatisticsError
        As :func:`auc`.
    """
    event, scores = binary_inputs(outcome, score)
    ranks = stats.rankdata(scores)
    m = int(event.sum())
    return float((ranks[event].sum() - m * (m + 1) / 2) / (m * (event.size - m)))


def roc_curve(outcome: ArrayLike, score: ArrayLike) -> RocCurve:
    """Empirical ROC curve, one point for every distinct score.

    Parameters
    ----------
    outcome, score
        As :func:`auc`.

    Returns
    -------
    RocCurve
        Its trapezoidal area is :func:`auc_value`.

    Raises
    ------
    StatisticsError
        As :func:`auc`.
    """
    event, scores = binary_inputs(outcome, score)
    thresholds, true_positive, false_positive = positives_by_threshold(event, scores)
    return RocCurve(
        thresholds=np.concatenate([[np.inf], thresholds]),
        false_positive_rate=np.concatenate([[0.0], false_positive / (~event).sum()]),
        true_positive_rate=np.concatenate([[0.0], true_positive / event.sum()]),
        n=event.size,
        events=int(event.sum()),
    )


def hanley_mcneil(auc: float, events: int, non_events: int, *, level: float = 0.95) -> Estimate:
    """Interval of a printed AUC from its counts alone.

    Parameters
    ----------
    auc
        Printed AUC, in [0, 1].
    events, non_events
        Counts, at least 1 each.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        The AUC with Hanley and McNeil's interval.

    Raises
    ------
    StatisticsError
        An AUC outside [0, 1], or a count below 1.

    References
    ----------
    .. [1] Hanley JA, McNeil BJ. The meaning and use of the area under a receiver operating
       characteristic (ROC) curve. Radiology 1982;143:29-36.
    """
    if not 0 <= auc <= 1:
        raise StatisticsError(f"auc: {auc}; give an area between 0 and 1")
    if min(events, non_events) < 1:
        raise StatisticsError(f"counts: {events} events, {non_events} non-events; need both")
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc) + (events - 1) * (q1 - auc**2) + (non_events - 1) * (q2 - auc**2)
    ) / (events * non_events)
    error = math.sqrt(max(variance, 0.0))
    half = normal_quantile(level) * error
    return Estimate(
        estimate=auc,
        ci_low=max(0.0, auc - half),
        ci_high=min(1.0, auc + half),
        std_error=error,
        n=events + non_events,
        level=level,
        method="Hanley-McNeil interval from printed AUC and counts",
        warnings=("an AUC of 0 or 1 leaves the interval without width",) if auc in (0, 1) else (),
    )
