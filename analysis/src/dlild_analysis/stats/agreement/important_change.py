"""Minimal important difference: the change that goes with an important change of an anchor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import FloatArray, as_vector, check_lengths
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result

WEAK = 0.3
"""An anchor that correlates less with the measure is none (Revicki et al.)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportantDifference(Result):
    """Anchor-based minimal important difference, in the unit of the measure.

    Attributes
    ----------
    correlation
        Spearman's rho of the change of the measure and that of the anchor.
    group_difference
        Mean change of the patients whose anchor changed by a little, minus that of the stable;
        with Welch's interval.
    regression
        Change of the measure that a straight line gives for the anchor's threshold, with the
        interval of the mean.
    roc_cutoff
        Change that separates those beyond the threshold best (Youden), without an interval.
    changed, little, stable
        Patients beyond the threshold, with a little change, and stable.
    """

    correlation: Estimate
    group_difference: Estimate | None
    regression: Estimate
    roc_cutoff: float | None
    threshold: float
    changed: int
    little: int
    stable: int
    n: int
    method: str
    warnings: tuple[str, ...] = ()


def important_difference(
    change: ArrayLike,
    anchor: ArrayLike,
    *,
    threshold: float = -10.0,
    little: tuple[float, float] = (-10.0, -5.0),
    stable: float = 5.0,
    level: float = 0.95,
) -> ImportantDifference:
    """Minimal important difference by an anchor of which lower is worse.

    Parameters
    ----------
    change
        Shape (n,): change of the measure of which higher is worse, follow-up minus baseline.
    anchor
        Shape (n,): change of the anchor, such as the relative change of FVC in percent.
    threshold
        Change of the anchor that is important.
    little
        From and to: a change of the anchor that is small but there.
    stable
        Patients whose anchor changed by less than this either way are stable.
    level
        Coverage of the intervals.

    Raises
    ------
    StatisticsError
        Fewer than 10 pairs, or one of the two does not vary.

    References
    ----------
    .. [1] Revicki D, Hays RD, Cella D, Sloan J. Recommended methods for determining responsiveness
       and minimally important differences for patient-reported outcomes. J Clin Epidemiol
       2008;61:102-109.
    """
    x, y = as_vector(anchor, "anchor", at_least=10), as_vector(change, "change", at_least=10)
    check_lengths(change=y, anchor=x)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise StatisticsError("anchor: the anchor or the measure does not change")
    n, warnings = x.size, []
    rho = stats.spearmanr(x, y)
    z, spread = np.arctanh(np.clip(rho.statistic, -1 + 1e-12, 1 - 1e-12)), 1.03 / np.sqrt(n - 3)
    half = float(stats.norm.ppf(0.5 + level / 2)) * spread
    if abs(rho.statistic) < WEAK:
        warnings.append(
            f"the anchor correlates weakly with the measure (rho {rho.statistic:.2f}, less than "
            f"{WEAK}): no minimal important difference can be based on it"
        )
    few, calm = y[(x > little[0]) & (x <= little[1])], y[np.abs(x) < stable]
    beyond = x <= threshold
    if beyond.sum() < 10:
        warnings.append(f"only {int(beyond.sum())} patients are beyond the anchor's threshold")
    return ImportantDifference(
        correlation=Estimate(
            estimate=float(rho.statistic),
            ci_low=float(np.tanh(z - half)),
            ci_high=float(np.tanh(z + half)),
            p_value=float(rho.pvalue),
            n=n,
            level=level,
            method="Spearman's rho, Fisher's z with the variance of Fieller",
        ),
        group_difference=_difference(few, calm, level),
        regression=_line(x, y, threshold, level),
        roc_cutoff=_youden(y, beyond),
        threshold=threshold,
        changed=int(beyond.sum()),
        little=few.size,
        stable=calm.size,
        n=n,
        method=(
            f"anchor-based minimal important difference: little change {little[0]:g} to "
            f"{little[1]:g}, stable within {stable:g}"
        ),
        warnings=tuple(warnings),
    )


def _difference(few: FloatArray, calm: FloatArray, level: float) -> Estimate | None:
    if min(few.size, calm.size) < 3:
        return None
    test = stats.ttest_ind(few, calm, equal_var=False)
    interval = test.confidence_interval(level)
    return Estimate(
        estimate=float(few.mean() - calm.mean()),
        ci_low=float(interval.low),
        ci_high=float(interval.high),
        p_value=float(test.pvalue),
        n=few.size + calm.size,
        level=level,
        method="difference of mean change, little change minus stable, Welch's interval",
    )


def _line(x: FloatArray, y: FloatArray, at: float, level: float) -> Estimate:
    line = stats.linregress(x, y)
    n = x.size
    residual = y - line.intercept - line.slope * x
    scale = float(np.sqrt((residual**2).sum() / (n - 2)))
    error = scale * float(np.sqrt(1 / n + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()))
    half = float(stats.t.ppf(0.5 + level / 2, n - 2)) * error
    value = float(line.intercept + line.slope * at)
    return Estimate(
        estimate=value,
        ci_low=value - half,
        ci_high=value + half,
        std_error=error,
        n=n,
        level=level,
        method=f"straight line of the change on the anchor, at {at:g}, interval of the mean",
    )


def _youden(y: FloatArray, beyond: np.ndarray) -> float | None:
    if beyond.sum() < 3 or (~beyond).sum() < 3:
        return None
    cuts = np.unique(y)
    scores = [(y[beyond] >= c).mean() - (y[~beyond] >= c).mean() for c in cuts]
    return float(cuts[int(np.argmax(scores))])
