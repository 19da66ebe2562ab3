"""What a cut-off does, and the cut-off of highest Youden index.

A score **at or above** the cut-off is called positive; a higher score means the event is likelier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import (
    as_binary,
    as_vector,
    check_lengths,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.intervals import wilson_interval
from dlild_analysis.stats.results import Estimate, Result
from dlild_analysis.stats.roc.curves import binary_inputs, positives_by_threshold


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Result):
    """What a cut-off does; a score at or above ``cutoff`` is called positive.

    Attributes
    ----------
    sensitivity, specificity, ppv, npv, accuracy
        Proportions with Wilson's interval; ``estimate`` is NaN, with a warning, where the
        denominator is zero.
    youden
        Sensitivity + specificity - 1.
    """

    cutoff: float
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    accuracy: Estimate
    youden: float
    n: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class YoudenCutoff(Result):
    """The cut-off of highest sensitivity + specificity.

    Attributes
    ----------
    cutoff
        Midpoint between two neighbouring observed scores; at or above it is positive.
    tied_cutoffs
        All cut-offs that reach the same Youden index, rising, the chosen one included.
    point
        Operating characteristics at ``cutoff``. They are optimistic, since the same data chose
        the cut-off.
    """

    cutoff: float
    tied_cutoffs: tuple[float, ...]
    point: OperatingPoint
    warnings: tuple[str, ...] = ()


def operating_point(
    outcome: ArrayLike, score: ArrayLike, cutoff: float, *, level: float = 0.95
) -> OperatingPoint:
    """Sensitivity, specificity, PPV, NPV and accuracy at a cut-off, with Wilson's intervals.

    Parameters
    ----------
    outcome, score
        As :func:`auc`; one class alone is allowed and warned about.
    cutoff
        A score at or above it is positive.
    level
        Coverage of the intervals.

    Returns
    -------
    OperatingPoint
        Counts and proportions.

    Raises
    ------
    StatisticsError
        An outcome that is not 0/1, a score or cut-off that is not finite.
    """
    event = as_binary(outcome, "outcome", both=False)
    scores = as_vector(score, "score")
    check_lengths(outcome=event, score=scores)
    if not math.isfinite(cutoff):
        raise StatisticsError(f"cutoff: {cutoff}; a finite number is needed")
    high = scores >= cutoff
    tp, fp = int((high & event).sum()), int((high & ~event).sum())
    fn, tn = int((~high & event).sum()), int((~high & ~event).sum())
    shares = {
        "sensitivity": wilson_interval(tp, tp + fn, level=level, name="sensitivity"),
        "specificity": wilson_interval(tn, tn + fp, level=level, name="specificity"),
        "ppv": wilson_interval(tp, tp + fp, level=level, name="positive predictive value"),
        "npv": wilson_interval(tn, tn + fn, level=level, name="negative predictive value"),
        "accuracy": wilson_interval(tp + tn, event.size, level=level, name="accuracy"),
    }
    return OperatingPoint(
        cutoff=float(cutoff),
        true_positive=tp,
        false_positive=fp,
        true_negative=tn,
        false_negative=fn,
        sensitivity=shares["sensitivity"],
        specificity=shares["specificity"],
        ppv=shares["ppv"],
        npv=shares["npv"],
        accuracy=shares["accuracy"],
        youden=shares["sensitivity"].estimate + shares["specificity"].estimate - 1,
        n=event.size,
        warnings=tuple(w for share in shares.values() for w in share.warnings),
    )


def youden_cutoff(outcome: ArrayLike, score: ArrayLike, *, level: float = 0.95) -> YoudenCutoff:
    """Find the cut-off of highest Youden index.

    Among ties the one nearest the corner (sensitivity 1, specificity 1) is chosen, then the lowest;
    the others are listed.

    Parameters
    ----------
    outcome, score
        As :func:`auc`.
    level
        Coverage of the intervals.

    Returns
    -------
    YoudenCutoff
        Cut-off, ties and operating characteristics.

    Raises
    ------
    StatisticsError
        As :func:`auc`, or a constant score.
    """
    event, scores = binary_inputs(outcome, score)
    observed, true_positive, false_positive = positives_by_threshold(event, scores)
    if observed.size < 2:
        raise StatisticsError(f"score: all values are {observed[0]:g}; no cut-off divides them")
    # Calling everybody positive (the last count) divides nothing. Whole numbers keep ties exact.
    m, k = int(event.sum()), int((~event).sum())
    index = (true_positive * k - false_positive * m)[:-1]
    tied = np.flatnonzero(index == index.max())
    missed, false = 1 - true_positive[tied] / m, false_positive[tied] / k
    distance = np.round(missed**2 + false**2, 12)
    chosen = tied[np.flatnonzero(distance == distance.min())[-1]]
    middle = (observed[:-1] + observed[1:]) / 2
    # A midpoint that rounds down onto its lower neighbour would put that patient in the high group.
    middle = np.where(middle > observed[1:], middle, observed[:-1])
    cutoffs = tuple(float(c) for c in np.sort(middle[tied]))
    warnings = [
        "the cut-off was chosen in these data: its sensitivity and specificity are optimistic"
    ]
    if len(cutoffs) > 1:
        warnings.append(f"{len(cutoffs)} cut-offs share the highest Youden index")
    if index.max() <= 0:
        warnings.append("no cut-off does better than chance")
    cutoff = float(middle[chosen])
    return YoudenCutoff(
        cutoff=cutoff,
        tied_cutoffs=cutoffs,
        point=operating_point(event, scores, cutoff, level=level),
        warnings=tuple(warnings),
    )
