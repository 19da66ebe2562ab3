"""What a Cox model, or its relatives, returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dlild_analysis.stats.arrays import (
    FloatArray,
    normal_quantile,
)
from dlild_analysis.stats.results import Estimate, HypothesisTest, Result


@dataclass(frozen=True, kw_only=True)
class HazardTerm(Result):
    """One covariate of a Cox model.

    Attributes
    ----------
    beta, std_error
        Log hazard ratio per unit and its standard error.
    hazard_ratio
        Per unit of the covariate.
    hazard_ratio_per_sd
        Per standard deviation (n - 1) of the covariate in these data, ``sd``.
    """

    name: str
    beta: float
    std_error: float
    sd: float
    hazard_ratio: Estimate
    hazard_ratio_per_sd: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class CoxFit(Result):
    """A fitted Cox model, with what prediction needs.

    Attributes
    ----------
    terms
        One for each covariate, in the order given.
    covariance
        Shape (p, p), of the coefficients.
    log_likelihood, log_likelihood_null
        Partial.
    likelihood_ratio, wald, score
        The three global tests.
    concordance
        Harrell's C of the linear predictor in the fitting data (optimistic).
    centre
        Shape (p,): covariate means; the baseline is that of a patient at the means.
    lower, upper
        Shape (p,): range of each covariate in the data, for refusing to extrapolate.
    baseline_times, baseline_hazard, baseline_variance
        Shape (k,): event times; cumulative hazard of the patient at the means; and its variance,
        coefficients held fixed.
    baseline_gradient
        Shape (k, p): derivative of the baseline hazard by the coefficients.
    last_time
        Longest follow-up.
    """

    terms: tuple[HazardTerm, ...]
    covariance: FloatArray
    log_likelihood: float
    log_likelihood_null: float
    likelihood_ratio: HypothesisTest
    wald: HypothesisTest
    score: HypothesisTest
    concordance: Estimate
    centre: FloatArray
    lower: FloatArray
    upper: FloatArray
    baseline_times: FloatArray
    baseline_hazard: FloatArray
    baseline_variance: FloatArray
    baseline_gradient: FloatArray
    last_time: float
    events_per_parameter: float
    n: int
    events: int
    level: float
    method: str
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return tuple(term.name for term in self.terms)


def make_hazard_term(
    name: str,
    beta: float,
    error: float,
    sd: float,
    *,
    p_value: float,
    n: int,
    level: float,
    finite: bool = True,
    kind: str = "hazard ratio",
) -> HazardTerm:
    """Turn a log hazard ratio into its ratios per unit and per SD."""
    quantile = normal_quantile(level)

    def ratio(unit: float, what: str) -> Estimate:
        low, high = unit * (beta - quantile * error), unit * (beta + quantile * error)
        return Estimate(
            estimate=_exponential(unit * beta) if finite else math.inf if beta > 0 else 0.0,
            ci_low=_exponential(low) if finite else math.nan,
            ci_high=_exponential(high) if finite else math.nan,
            p_value=p_value,
            n=n,
            level=level,
            method=f"{kind} per {what}, "
            + ("Wald interval and test" if finite else "likelihood-ratio test"),
            warnings=() if finite else (f"{name}: no finite estimate exists",),
        )

    return HazardTerm(
        name=name,
        beta=beta if finite else math.copysign(math.inf, beta),
        std_error=error if finite else math.nan,
        sd=sd,
        hazard_ratio=ratio(1.0, "unit"),
        hazard_ratio_per_sd=ratio(sd, "standard deviation"),
    )


def _exponential(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
