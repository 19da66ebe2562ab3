"""What a score adds to a model that is already there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_risks,
    normal_quantile,
)
from dlild_analysis.stats.cox.regression import CoxFit
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic.regression import LogisticFit
from dlild_analysis.stats.results import Estimate, HypothesisTest, Result


@dataclass(frozen=True, kw_only=True)
class Reclassification(Result):
    """Continuous NRI and IDI, with the reason not to rest on them.

    Attributes
    ----------
    nri, nri_events, nri_non_events
        Category-free net reclassification improvement, whole (-2 to 2) and by class (-1 to 1).
    idi
        Integrated discrimination improvement.
    caveat
        To be printed wherever the numbers are.
    """

    nri: Estimate
    nri_events: float
    nri_non_events: float
    idi: Estimate
    n: int
    events: int
    caveat: str
    warnings: tuple[str, ...] = ()


def likelihood_ratio_test(
    smaller: LogisticFit | CoxFit, larger: LogisticFit | CoxFit
) -> HypothesisTest:
    """Likelihood-ratio test of nested models fitted to the same patients.

    Parameters
    ----------
    smaller, larger
        Two logistic or two Cox fits; every covariate of the smaller is in the larger.

    Returns
    -------
    HypothesisTest
        Chi-squared on the number of covariates added.

    Raises
    ------
    StatisticsError
        Different kinds of model, different patients or penalties, or models not nested.
    """
    _check_nested(smaller, larger)
    df = len(larger.names) - len(smaller.names)
    statistic = max(0.0, 2 * (larger.log_likelihood - smaller.log_likelihood))
    added = [name for name in larger.names if name not in smaller.names]
    return HypothesisTest(
        statistic=statistic,
        df=df,
        p_value=float(stats.chi2.sf(statistic, df)),
        n=larger.n,
        method=f"likelihood-ratio test of adding {', '.join(added)}",
    )


def reclassification(
    outcome: ArrayLike, risk_old: ArrayLike, risk_new: ArrayLike, *, level: float = 0.95
) -> Reclassification:
    """Continuous NRI and IDI of new against old risks.

    Parameters
    ----------
    outcome
        Shape (n,), 0 or 1.
    risk_old, risk_new
        Shape (n,), in [0, 1].
    level
        Coverage of the intervals.

    Returns
    -------
    Reclassification
        With its caveat.

    Raises
    ------
    StatisticsError
        Risks outside [0, 1], one class only.

    References
    ----------
    .. [1] Pencina MJ, D'Agostino RB, Steyerberg EW. Extensions of net reclassification improvement
       calculations to measure usefulness of new biomarkers. Stat Med 2011;30:11-21.
    .. [2] Kerr KF, Wang Z, Janes H, et al. Net reclassification indices for evaluating risk
       prediction instruments: a critical review. Epidemiology 2014;25:114-121.
    .. [3] Hilden J, Gerds TA. A note on the evaluation of novel biomarkers: do not rely on
       integrated discrimination improvement and net reclassification index. Stat Med
       2014;33:3405-3414.
    """
    event = as_binary(outcome)
    old = as_risks(risk_old, event.size, "risk_old")
    new = as_risks(risk_new, event.size, "risk_new")
    moves, gains = np.sign(new - old), new - old
    nri_events, nri_others = float(moves[event].mean()), -float(moves[~event].mean())
    return Reclassification(
        nri=_difference(moves, event, "category-free NRI", level),
        nri_events=nri_events,
        nri_non_events=nri_others,
        idi=_difference(gains, event, "IDI", level),
        n=event.size,
        events=int(event.sum()),
        caveat=_CAVEAT,
    )


_CAVEAT = (
    "NRI and IDI can rise when a useless marker is added or a model is miscalibrated, their"
    " intervals do not hold under the null, and they measure no clinical benefit; judge the gain"
    " by the likelihood-ratio test, the difference in AUC or C, and decision curves."
)


def _check_nested(smaller: LogisticFit | CoxFit, larger: LogisticFit | CoxFit) -> None:
    if type(smaller) is not type(larger):
        raise StatisticsError("models: one logistic and one Cox model cannot be compared")
    for fit in (smaller, larger):
        if isinstance(fit, LogisticFit) and fit.penalty != "none":
            raise StatisticsError(
                "models: penalised likelihoods of two fits cannot be compared; read the penalised"
                " likelihood-ratio p-value of the added term, or fit with penalty='none'"
            )
        if not math.isfinite(fit.log_likelihood):
            raise StatisticsError("models: a log-likelihood is not finite")
    same = smaller.n == larger.n and smaller.events == larger.events
    if not same or abs(smaller.log_likelihood_null - larger.log_likelihood_null) > 1e-6 * larger.n:
        raise StatisticsError(
            f"models: fitted to different patients ({smaller.n} and {larger.n}, {smaller.events}"
            f" and {larger.events} events); fit both to the complete cases of the larger"
        )
    if not set(smaller.names) < set(larger.names):
        missing = sorted(set(smaller.names) - set(larger.names)) or ["nothing was added"]
        raise StatisticsError(f"models: not nested ({', '.join(missing)})")


def _difference(values: FloatArray, event: BoolArray, method: str, level: float) -> Estimate:
    """Mean among events minus mean among the others, with a normal interval."""
    cases, others = values[event], values[~event]
    estimate = float(cases.mean() - others.mean())
    warnings: list[str] = []
    error = math.nan
    if min(cases.size, others.size) > 1:
        error = math.sqrt(cases.var(ddof=1) / cases.size + others.var(ddof=1) / others.size)
    if not error > 0:
        warnings.append("the variance is zero or unknown: no test is possible")
    half = normal_quantile(level) * error
    return Estimate(
        estimate=estimate,
        ci_low=estimate - half,
        ci_high=estimate + half,
        p_value=float(2 * stats.norm.sf(abs(estimate) / error)) if error > 0 else math.nan,
        std_error=error,
        n=event.size,
        level=level,
        method=f"{method}, normal interval",
        warnings=tuple(warnings),
    )
