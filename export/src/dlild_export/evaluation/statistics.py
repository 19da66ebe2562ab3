"""Agreement of DL-ILD with the truth over cases, and means with their uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
_NAN = float("nan")

FACTOR = float(stats.norm.ppf(0.975) * np.sqrt(2.0))
"""2.77: two scans differ by less than this many within-subject SDs, 95 times in 100."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval, and the number of cases behind it.

    NaN where there are too few cases.
    """

    value: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Bland-Altman limits of predicted minus true DL-ILD, in points.

    Attributes
    ----------
    bias, sd : float
        Mean and standard deviation of the differences.
    lower, upper : Estimate
        ``bias - 1.96 sd`` and ``bias + 1.96 sd``.
    """

    bias: float
    sd: float
    lower: Estimate
    upper: Estimate


@dataclass(frozen=True)
class ScoreAgreement:
    """Agreement of DL-ILD with the truth; errors are predicted minus true, in points.

    Attributes
    ----------
    cases : int
    mean_absolute_error, bias, rmse : Estimate
    limits : LimitsOfAgreement
    pearson : Estimate
        Correlation; the interval by Fisher's z.
    concordance : float
        Lin's coefficient: correlation that a bias or another slope lowers.
    """

    cases: int
    mean_absolute_error: Estimate
    bias: Estimate
    rmse: Estimate
    limits: LimitsOfAgreement
    pearson: Estimate
    concordance: float


def mean(values: npt.ArrayLike) -> Estimate:
    """Return the mean over cases with a bootstrap interval; NaN are cases that do not count."""
    return bootstrap(values, lambda v, axis=-1: np.mean(v, axis=axis))


def bootstrap(values: npt.ArrayLike, statistic: Callable[..., Any]) -> Estimate:
    """Estimate a statistic over cases; cases are resampled (BCa, Efron 1987).

    Parameters
    ----------
    values : array_like, shape (cases,)
        NaN are left out.
    statistic : callable
        Called as ``statistic(values, axis=-1)``.

    Returns
    -------
    Estimate
        The same for the same values. NaN for no case; no interval for fewer than three.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return Estimate(_NAN, _NAN, _NAN, 0)
    value = float(statistic(known, axis=-1))
    if len(known) < 3:
        return Estimate(value, _NAN, _NAN, len(known))
    if np.ptp(known) == 0:
        return Estimate(value, value, value, len(known))
    with warnings.catch_warnings():
        # BCa gives NaN for a sample without spread; the next line replaces it.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        low, high = _interval(known, statistic, "BCa")
    if not np.isfinite([low, high]).all():
        low, high = _interval(known, statistic, "percentile")
    return Estimate(value, low, high, len(known))


def _interval(values: Values, statistic: Callable[..., Any], method: str) -> tuple[float, float]:
    found = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method=method,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def limits_of_agreement(differences: npt.ArrayLike) -> LimitsOfAgreement:
    """Return the 95 % limits of agreement (Bland and Altman 1999).

    The variance of a limit is ``sd^2 (1/n + 1.96^2 / (2 (n - 1)))``, its interval Student's t.

    Parameters
    ----------
    differences : array_like, shape (cases,)
        Predicted minus true.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    bias = float(d.mean()) if n else _NAN
    if n < 3:
        unknown = Estimate(_NAN, _NAN, _NAN, n)
        return LimitsOfAgreement(bias, _NAN, unknown, unknown)
    sd, z = float(d.std(ddof=1)), float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd
    reach *= float(np.sqrt(1 / n + z**2 / (2 * (n - 1))))
    lower, upper = bias - z * sd, bias + z * sd
    return LimitsOfAgreement(
        bias,
        sd,
        Estimate(lower, lower - reach, lower + reach, n),
        Estimate(upper, upper - reach, upper + reach, n),
    )


def agree(true_percent: npt.ArrayLike, measured_percent: npt.ArrayLike) -> ScoreAgreement:
    """Describe how DL-ILD agrees with the truth.

    Parameters
    ----------
    true_percent, measured_percent : array_like, shape (cases,)
        DL-ILD. A measured NaN (no lung found) makes every figure NaN: it is no agreement.
    """
    true = np.asarray(true_percent, dtype=np.float64)
    measured = np.asarray(measured_percent, dtype=np.float64)
    errors = measured - true
    if np.isnan(errors).any():
        nothing = Estimate(_NAN, _NAN, _NAN, len(errors))
        limits = LimitsOfAgreement(_NAN, _NAN, nothing, nothing)
        return ScoreAgreement(len(errors), nothing, nothing, nothing, limits, nothing, _NAN)
    return ScoreAgreement(
        cases=len(errors),
        mean_absolute_error=mean(np.abs(errors)),
        bias=mean(errors),
        rmse=bootstrap(errors, lambda v, axis=-1: np.sqrt(np.mean(v**2, axis=axis))),
        limits=limits_of_agreement(errors),
        pearson=_pearson(true, measured),
        concordance=concordance(true, measured),
    )


def concordance(first: Values, second: Values) -> float:
    """Return Lin's concordance correlation coefficient (Lin 1989), NaN where nothing varies."""
    if len(first) < 3:
        return _NAN
    spread = float(first.var() + second.var() + (first.mean() - second.mean()) ** 2)
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return 2 * covariance / spread if spread else _NAN


def _pearson(first: Values, second: Values) -> Estimate:
    n = len(first)
    if n < 4 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Estimate(_NAN, _NAN, _NAN, n)
    found = stats.pearsonr(first, second)
    interval = found.confidence_interval(CONFIDENCE)
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), n)


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
        one measurement carry no information and are left out.

    Returns
    -------
    Repeatability
        NaN where no patient has two measurements.
    """
    repeated = [np.asarray(group, dtype=np.float64) for group in groups if len(group) >= 2]
    freedom = sum(len(group) - 1 for group in repeated)
    scans = sum(len(group) for group in repeated)
    if not freedom:
        nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
        return Repeatability(0, 0, nothing, nothing)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in repeated)
    within = float(np.sqrt(squares / freedom))
    tail = (1 - CONFIDENCE) / 2
    low = within * float(np.sqrt(freedom / stats.chi2.ppf(1 - tail, freedom)))
    high = within * float(np.sqrt(freedom / stats.chi2.ppf(tail, freedom)))
    return Repeatability(
        patients=len(repeated),
        scans=scans,
        within_sd=Estimate(within, low, high, len(repeated)),
        coefficient=Estimate(FACTOR * within, FACTOR * low, FACTOR * high, len(repeated)),
    )
