"""Agreement of repeated readings: intraclass correlation, Bland-Altman, repeatability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import FloatArray, as_vector, check_lengths
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result


@dataclass(frozen=True, kw_only=True)
class IntraclassCorrelation(Result):
    """Intraclass correlations of a table of subjects by raters, in Shrout and Fleiss's names.

    Attributes
    ----------
    icc_1_1
        One-way random, single rating.
    icc_2_1
        Two-way random, single rating, absolute agreement: what to report for interchangeable
        readers. McGraw and Wong's ICC(A,1).
    icc_3_1
        Two-way mixed, single rating, consistency. McGraw and Wong's ICC(C,1).
    icc_1_k, icc_2_k, icc_3_k
        The same for the mean of the k ratings.
    ms_subjects, ms_raters, ms_error, ms_within
        Mean squares of the analysis of variance.
    """

    icc_1_1: Estimate
    icc_2_1: Estimate
    icc_3_1: Estimate
    icc_1_k: Estimate
    icc_2_k: Estimate
    icc_3_k: Estimate
    ms_subjects: float
    ms_raters: float
    ms_error: float
    ms_within: float
    n: int
    raters: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Repeatability(Result):
    """Spread of repeated readings of the same subject, in the unit of the reading.

    Attributes
    ----------
    within_subject_sd
        Square root of the mean variance within subjects.
    coefficient
        1.96 x sqrt(2) x within-subject SD: two readings of one subject differ by less in 95 %.
    """

    within_subject_sd: Estimate
    coefficient: Estimate
    subjects: int
    readings: int
    method: str
    warnings: tuple[str, ...] = ()


def intraclass_correlation(ratings: ArrayLike, *, level: float = 0.95) -> IntraclassCorrelation:
    """Intraclass correlations with exact F intervals.

    Parameters
    ----------
    ratings
        Shape (n, k): n subjects, each read by the same k raters; no missing values.
    level
        Coverage of the intervals.

    Returns
    -------
    IntraclassCorrelation
        All six forms; p-values test ICC = 0. Estimates may be below zero.

    Raises
    ------
    StatisticsError
        Fewer than 2 subjects or raters, a value that is not finite, all ratings equal.

    References
    ----------
    .. [1] Shrout PE, Fleiss JL. Intraclass correlations: uses in assessing rater reliability.
       Psychol Bull 1979;86:420-428.
    .. [2] McGraw KO, Wong SP. Forming inferences about some intraclass correlation coefficients.
       Psychol Methods 1996;1:30-46.
    """
    table = _ratings(ratings)
    n, k = table.shape
    grand = table.mean()
    by_subject, by_rater = table.mean(axis=1), table.mean(axis=0)
    ss_subjects = k * float(((by_subject - grand) ** 2).sum())
    ss_raters = n * float(((by_rater - grand) ** 2).sum())
    residual = table - by_subject[:, None] - by_rater[None, :] + grand
    ss_error = float((residual**2).sum())
    squares = MeanSquares(
        n=n,
        k=k,
        subjects=ss_subjects / (n - 1),
        raters=ss_raters / (k - 1),
        error=ss_error / ((n - 1) * (k - 1)),
        within=(ss_raters + ss_error) / (n * (k - 1)),
    )
    nothing = 1e-14 * float(table.var())
    if max(squares.subjects, squares.error) <= nothing:
        raise StatisticsError(
            "ratings: every subject was given the same ratings; nothing varies between subjects"
        )
    warnings: tuple[str, ...] = ()
    if squares.subjects <= nothing:
        warnings = ("subjects have one mean: correlations of averaged ratings have no bound",)
    elif squares.error <= nothing:
        warnings = ("raters differ by a constant only: intervals of consistency have no width",)
    forms = icc_forms(squares, level, warnings)
    return IntraclassCorrelation(
        icc_1_1=forms["icc_1_1"],
        icc_2_1=forms["icc_2_1"],
        icc_3_1=forms["icc_3_1"],
        icc_1_k=forms["icc_1_k"],
        icc_2_k=forms["icc_2_k"],
        icc_3_k=forms["icc_3_k"],
        ms_subjects=squares.subjects,
        ms_raters=squares.raters,
        ms_error=squares.error,
        ms_within=squares.within,
        n=n,
        raters=k,
        warnings=warnings,
    )


def repeatability(subject: ArrayLike, value: ArrayLike, *, level: float = 0.95) -> Repeatability:
    """Within-subject standard deviation and repeatability coefficient.

    Parameters
    ----------
    subject
        Shape (m,): any labels; subjects may have different numbers of readings.
    value
        Shape (m,): readings, in one unit.
    level
        Coverage of the (chi-squared) intervals.

    Returns
    -------
    Repeatability
        In the unit of ``value``.

    Raises
    ------
    StatisticsError
        No subject with two readings, or a value that is not finite.

    References
    ----------
    .. [1] Bland JM, Altman DG. Measurement error. BMJ 1996;313:744.
    """
    values = as_vector(value, "value")
    labels = np.asarray(subject).astype(str)
    check_lengths(subject=labels, value=values)
    _, member = np.unique(labels, return_inverse=True)
    count = np.bincount(member)
    mean = np.bincount(member, weights=values) / count
    df = int((count - 1).sum())
    if df == 0:
        raise StatisticsError("subject: no subject has two readings; give repeated readings")
    within = math.sqrt(float(((values - mean[member]) ** 2).sum()) / df)
    low = within * math.sqrt(df / float(stats.chi2.ppf(0.5 + level / 2, df)))
    high = within * math.sqrt(df / float(stats.chi2.ppf(0.5 - level / 2, df)))
    single = int((count == 1).sum())
    warnings = (f"{single} subjects have one reading only and are left out",) if single else ()
    factor = stats.norm.ppf(0.975) * math.sqrt(2)

    def scaled(by: float, method: str) -> Estimate:
        return Estimate(
            estimate=by * within,
            ci_low=by * low,
            ci_high=by * high,
            n=count.size - single,
            level=level,
            method=method,
            warnings=warnings,
        )

    return Repeatability(
        within_subject_sd=scaled(1.0, "within-subject SD, chi-squared interval"),
        coefficient=scaled(factor, "repeatability coefficient, 1.96 sqrt(2) within-subject SD"),
        subjects=count.size,
        readings=values.size,
        method=f"one-way analysis of variance, {df} degrees of freedom within",
        warnings=warnings,
    )


def _ratings(ratings: ArrayLike) -> FloatArray:
    try:
        table = np.asarray(ratings, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"ratings: not numeric ({error})") from error
    if table.ndim != 2 or min(table.shape) < 2:
        raise StatisticsError(
            f"ratings: shape {table.shape}; give at least 2 subjects (rows) by 2 raters (columns)"
        )
    as_vector(table.ravel(), "ratings")
    if np.ptp(table) == 0:
        raise StatisticsError(f"ratings: all are {table[0, 0]:g}; nothing varies between subjects")
    return table


@dataclass(frozen=True)
class MeanSquares:
    """Two-way analysis of variance of n subjects by k raters."""

    n: int
    k: int
    subjects: float
    raters: float
    error: float
    within: float


@dataclass(frozen=True)
class _Form:
    estimate: float
    low: float
    high: float
    p_value: float


def icc_forms(squares: MeanSquares, level: float, warnings: tuple[str, ...]) -> dict[str, Estimate]:
    """All six forms by name, ``icc_1_1`` to ``icc_3_k`` (McGraw and Wong 1996, table 7)."""
    single = {
        "1": _one_way(squares, level),
        "2": _agreement(squares, level),
        "3": _consistency(squares, level),
    }
    names = {
        "1": "one-way random",
        "2": "two-way random, absolute agreement",
        "3": "two-way mixed, consistency",
    }
    forms = {}
    for number, form in single.items():
        for suffix, raters in (("1", 1), ("k", squares.k)):
            what = "single rating" if raters == 1 else f"mean of {raters} ratings"
            forms[f"icc_{number}_{suffix}"] = Estimate(
                estimate=_spearman_brown(form.estimate, raters),
                ci_low=_spearman_brown(form.low, raters),
                ci_high=_spearman_brown(form.high, raters),
                p_value=form.p_value,
                n=squares.n,
                level=level,
                method=f"ICC({number},{suffix}), {names[number]}, {what}, F interval",
                warnings=warnings,
            )
    return forms


def _spearman_brown(icc: float, raters: int) -> float:
    if raters == 1:
        return icc
    denominator = 1 + (raters - 1) * icc
    return raters * icc / denominator if denominator > 0 else -math.inf


def _from_f(f: float, k: int) -> float:
    return (f - 1) / (f + k - 1) if math.isfinite(f) else 1.0


def _f_based(f: float, df: tuple[int, int], k: int, level: float) -> _Form:
    upper = 0.5 + level / 2
    return _Form(
        estimate=_from_f(f, k),
        low=_from_f(f / float(stats.f.ppf(upper, *df)), k),
        high=_from_f(f * float(stats.f.ppf(upper, *df[::-1])), k),
        p_value=float(stats.f.sf(f, *df)),
    )


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else math.inf


def _one_way(squares: MeanSquares, level: float) -> _Form:
    n, k = squares.n, squares.k
    return _f_based(_ratio(squares.subjects, squares.within), (n - 1, n * (k - 1)), k, level)


def _consistency(squares: MeanSquares, level: float) -> _Form:
    n, k = squares.n, squares.k
    df = (n - 1, (n - 1) * (k - 1))
    return _f_based(_ratio(squares.subjects, squares.error), df, k, level)


def _agreement(squares: MeanSquares, level: float) -> _Form:
    n, k = squares.n, squares.k
    s, r, e = squares.subjects, squares.raters, squares.error
    icc = (s - e) / (s + (k - 1) * e + k * (r - e) / n)
    p_value = float(stats.f.sf(_ratio(s, e), n - 1, (n - 1) * (k - 1)))
    if icc >= 1:
        return _Form(1.0, 1.0, 1.0, p_value)
    # Satterthwaite's degrees of freedom of the denominator, McGraw and Wong's v.
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    v = (a * r + b * e) ** 2 / ((a * r) ** 2 / (k - 1) + (b * e) ** 2 / ((n - 1) * (k - 1)))
    upper = 0.5 + level / 2
    lower_f = float(stats.f.ppf(upper, n - 1, v))
    upper_f = float(stats.f.ppf(upper, v, n - 1))
    spread = k * r + (k * n - k - n) * e
    return _Form(
        estimate=icc,
        low=n * (s - lower_f * e) / (lower_f * spread + n * s),
        high=n * (upper_f * s - e) / (spread + n * upper_f * s),
        p_value=p_value,
    )
