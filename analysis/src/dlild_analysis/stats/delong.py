"""Parts of DeLong's method that the ROC modules share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_vector,
    check_lengths,
    merge_near_ties,
    normal_quantile,
)
from dlild_analysis.stats.normal_tests import z_test
from dlild_analysis.stats.results import Estimate


def binary_inputs(outcome: ArrayLike, score: ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Return event flags and scores, checked."""
    event, scores = as_binary(outcome), merge_near_ties(as_vector(score, "score"))
    check_lengths(outcome=event, score=scores)
    return event, scores


def placements(event: BoolArray, scores: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUC, and each case's and each control's share of pairs that are in the right order."""
    ranks = stats.rankdata(scores)
    m, k = int(event.sum()), int((~event).sum())
    cases = (ranks[event] - stats.rankdata(scores[event])) / k
    controls = 1 - (ranks[~event] - stats.rankdata(scores[~event])) / m
    return float(cases.mean()), cases, controls


def variance_of(placements: FloatArray) -> float:
    """Sample variance; zero for a single value."""
    return float(placements.var(ddof=1)) if placements.size > 1 else 0.0


def auc_warnings(theta: float, variance: float, cases: int, controls: int) -> tuple[str, ...]:
    """Reservations about an AUC's interval."""
    warnings = []
    if min(cases, controls) == 1:
        warnings.append("a class of one patient: its share of the variance is taken as zero")
    if theta in (0.0, 1.0):
        warnings.append("the score separates the classes: DeLong's interval has no width")
    elif variance == 0:
        warnings.append("the variance is zero (a constant score, or too few patients)")
    return tuple(warnings)


def auc_estimate(
    theta: float, variance: float, n: int, *, level: float, warnings: tuple[str, ...]
) -> Estimate:
    """Return an AUC with its interval and the test against one half."""
    half = normal_quantile(level) * math.sqrt(variance)
    return Estimate(
        estimate=theta,
        ci_low=max(0.0, theta - half),
        ci_high=min(1.0, theta + half),
        p_value=z_test(theta - 0.5, variance)[1],
        std_error=math.sqrt(variance),
        n=n,
        level=level,
        method="AUC, DeLong interval",
        warnings=warnings,
    )


def logit_auc_estimate(
    theta: float, variance: float, n: int, *, level: float, warnings: tuple[str, ...]
) -> Estimate:
    """Return an AUC whose interval is formed on the logit scale.

    The variance of logit(AUC) is that of the AUC over (AUC (1 - AUC))^2 (delta method). At an AUC
    of 0 or 1, or without variance, there is no logit interval and DeLong's own is returned.
    """
    plain = auc_estimate(theta, variance, n, level=level, warnings=warnings)
    if not 0 < theta < 1 or variance <= 0:
        return plain
    half = normal_quantile(level) * math.sqrt(variance) / (theta * (1 - theta))
    return replace(
        plain,
        ci_low=float(expit(logit(theta) - half)),
        ci_high=float(expit(logit(theta) + half)),
        method="AUC, DeLong variance, logit-transformed interval",
    )


def auc_with_interval(
    event: BoolArray,
    scores: FloatArray,
    level: float,
    finish: Callable[..., Estimate] = auc_estimate,
) -> Estimate:
    """Return the AUC of checked inputs with DeLong's variance; `finish` forms the interval."""
    theta, cases, controls = placements(event, scores)
    variance = variance_of(cases) / cases.size + variance_of(controls) / controls.size
    warnings = auc_warnings(theta, variance, cases.size, controls.size)
    return finish(theta, variance, event.size, level=level, warnings=warnings)


def positives_by_threshold(
    event: BoolArray, scores: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct scores from the top, and the true and false positives at or above each."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)
    true_positive = np.cumsum(event[order])[last].astype(np.float64)
    return ordered[last], true_positive, last + 1 - true_positive
