"""Odds ratios of a fitted logistic likelihood, by Wald or by profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from dlild_analysis.stats.arrays import (
    FloatArray,
    normal_quantile,
)
from dlild_analysis.stats.logistic_likelihood import Likelihood, profile_interval, profile_maximum
from dlild_analysis.stats.logistic_results import OddsTerm
from dlild_analysis.stats.results import Estimate


@dataclass(frozen=True, eq=False)
class ScaledFit:
    """A maximum, in centred and scaled columns."""

    likelihood: Likelihood
    beta: FloatArray
    covariance: FloatArray
    highest: float


def odds_term(
    name: str,
    k: int,
    sd: float,
    vif: float,
    fitted: ScaledFit,
    *,
    profile: bool,
    level: float,
) -> OddsTerm:
    """Turn coefficient ``k`` into odds ratios per unit and per SD."""
    beta, error = float(fitted.beta[k]), math.sqrt(fitted.covariance[k, k])
    n = fitted.likelihood.y.size
    if profile:
        low, high = profile_interval(
            fitted.likelihood, fitted.beta, fitted.highest, k, error=error, level=level
        )
        without = profile_maximum(fitted.likelihood, fitted.beta, k, 0.0)
        p_value = float(stats.chi2.sf(max(0.0, 2 * (fitted.highest - without)), 1))
        how = "profile likelihood interval, likelihood-ratio test"
    else:
        half = normal_quantile(level) * error
        low, high = beta - half, beta + half
        p_value = float(2 * stats.norm.sf(abs(beta) / error))
        how = "Wald interval and test"
    if fitted.likelihood.firth:
        how = f"Firth penalty, {how}"
    unbounded = not (math.isfinite(low) and math.isfinite(high))
    warnings = (f"{name}: a confidence limit is infinite",) if unbounded else ()

    def ratio(unit: float, what: str) -> Estimate:
        return Estimate(
            estimate=_exponential(beta * unit),
            ci_low=_exponential(low * unit),
            ci_high=_exponential(high * unit),
            p_value=p_value,
            n=n,
            level=level,
            method=f"odds ratio per {what}, {how}",
            warnings=warnings,
        )

    return OddsTerm(
        name=name,
        beta=beta / sd,
        std_error=error / sd,
        sd=sd,
        odds_ratio=ratio(1 / sd, "unit"),
        odds_ratio_per_sd=ratio(1.0, "standard deviation"),
        vif=vif,
    )


def _exponential(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
