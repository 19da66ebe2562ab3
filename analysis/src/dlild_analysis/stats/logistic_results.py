"""What a logistic model returns."""

from __future__ import annotations

from dataclasses import dataclass

from dlild_analysis.stats.arrays import (
    FloatArray,
)
from dlild_analysis.stats.results import Estimate, HypothesisTest, Result


@dataclass(frozen=True, kw_only=True)
class OddsTerm(Result):
    """One covariate of a logistic model.

    Attributes
    ----------
    beta, std_error
        Log odds ratio per unit and its standard error.
    odds_ratio
        Per unit of the covariate.
    odds_ratio_per_sd
        Per standard deviation (n - 1) of the covariate in these data, ``sd``.
    vif
        Variance inflation factor; 1 in a model of one covariate.
    """

    name: str
    beta: float
    std_error: float
    sd: float
    odds_ratio: Estimate
    odds_ratio_per_sd: Estimate
    vif: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticFit(Result):
    """A fitted logistic model.

    Attributes
    ----------
    terms
        One for each covariate, in the order given.
    intercept
        Log odds at all covariates zero.
    covariance
        Shape (p + 1, p + 1), intercept first.
    lower, upper
        Shape (p,): range of each covariate in the data, for refusing to extrapolate.
    log_likelihood, log_likelihood_null
        Of the model and of the intercept alone; penalised both, when ``penalty`` is "firth".
    likelihood_ratio
        Model against intercept.
    penalty
        "none" or "firth".
    events_per_parameter
        min(events, non-events) / p.
    """

    terms: tuple[OddsTerm, ...]
    intercept: float
    covariance: FloatArray
    lower: FloatArray
    upper: FloatArray
    log_likelihood: float
    log_likelihood_null: float
    likelihood_ratio: HypothesisTest
    penalty: str
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


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskPrediction(Result):
    """Predicted risks with pointwise intervals; each shape (n,), in [0, 1]."""

    risk: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    level: float
    method: str
    warnings: tuple[str, ...] = ()
