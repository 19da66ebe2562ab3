"""Within-subject statistics: how far two scans of one patient differ when nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dlild_export.evaluation.statistics import CONFIDENCE, Estimate

FACTOR = float(stats.norm.ppf(0.975) * np.sqrt(2.0))
"""2.77: two scans differ by less than this many within-subject SDs, 95 times in 100."""


@dataclass(frozen=True)
class Repeatability:
    """How much repeated measurements of the same patients differ, in points of DL-ILD.

    Attributes
    ----------
    patients, scans : int
        Patients with two scans or more, and their scans.
    within_sd : Estimate
        Within-subject standard deviation; the interval by chi-square. `cases` counts patients.
    coefficient : Estimate
        Repeatability coefficient, 2.77 times as large: a smaller change may be noise.
    """

    patients: int
    scans: int
    within_sd: Estimate
    coefficient: Estimate


def repeatability(groups: Sequence[Sequence[float]]) -> Repeatability:
    """Sum up repeated measurements (Bland and Altman 1996; QIBA, Raunig et al. 2015).

    ``within_sd^2`` is the mean of the patients' own variances, weighted by their degrees of
    freedom; ``df within_sd^2 / sigma^2`` follows chi-square where errors are normal.

    Parameters
    ----------
    groups : sequence of sequence of float
        The measurements of each patient. NaN (no lung found) makes the result NaN; patients with
        one measurement tell nothing and are left out.

    Returns
    -------
    Repeatability
        NaN where no patient has two measurements.
    """
    told = [np.asarray(group, dtype=np.float64) for group in groups if len(group) >= 2]
    freedom = sum(len(group) - 1 for group in told)
    scans = sum(len(group) for group in told)
    if not freedom:
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        return Repeatability(0, 0, nothing, nothing)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in told)
    within = float(np.sqrt(squares / freedom))
    tail = (1 - CONFIDENCE) / 2
    low = within * float(np.sqrt(freedom / stats.chi2.ppf(1 - tail, freedom)))
    high = within * float(np.sqrt(freedom / stats.chi2.ppf(tail, freedom)))
    return Repeatability(
        patients=len(told),
        scans=scans,
        within_sd=Estimate(within, low, high, len(told)),
        coefficient=Estimate(FACTOR * within, FACTOR * low, FACTOR * high, len(told)),
    )
