"""Intraclass correlation of two measurements of the same subjects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from dlild_export.evaluation.statistics import CONFIDENCE, Estimate

_NAN = float("nan")


def intraclass_correlation(values: npt.ArrayLike) -> Estimate:
    """Return the intraclass correlation for absolute agreement of single measurements, ICC(A,1).

    Two-way random effects without replication: ICC(2,1) of Shrout and Fleiss [1]_; interval of
    McGraw and Wong [2]_. A bias of one rater lowers it.

    Parameters
    ----------
    values : array_like, shape (subjects, raters)

    Returns
    -------
    Estimate
        NaN for fewer than three subjects, or where nothing varies.

    References
    ----------
    .. [1] Shrout PE, Fleiss JL. Psychol Bull 1979;86:420-428.
    .. [2] McGraw KO, Wong SP. Psychol Methods 1996;1:30-46.
    """
    x = np.asarray(values, np.float64)
    n, k = x.shape
    if n < 3 or np.ptp(x) == 0:
        return Estimate(_NAN, _NAN, _NAN, n)
    rows, columns, grand = x.mean(axis=1), x.mean(axis=0), x.mean()
    between = k * float(((rows - grand) ** 2).sum()) / (n - 1)
    raters = n * float(((columns - grand) ** 2).sum()) / (k - 1)
    residual = x - rows[:, None] - columns[None] + grand
    error = float((residual**2).sum()) / ((n - 1) * (k - 1))
    whole = between + (k - 1) * error + k * (raters - error) / n
    if whole <= 0:
        return Estimate(_NAN, _NAN, _NAN, n)
    icc = (between - error) / whole
    if error <= 0 or icc >= 1:
        return Estimate(icc, _NAN, _NAN, n)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * raters + b * error) ** 2 / (
        (a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    share = (1 + CONFIDENCE) / 2
    f_low = float(stats.f.ppf(share, n - 1, freedom))
    f_high = float(stats.f.ppf(share, freedom, n - 1))
    rest = k * raters + (k * n - k - n) * error
    low = n * (between - f_low * error) / (f_low * rest + n * between)
    high = n * (f_high * between - error) / (rest + n * f_high * between)
    return Estimate(icc, low, high, n)
