"""The six intraclass correlations out of the mean squares, with exact F intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from dlild_analysis.stats.results import Estimate


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
