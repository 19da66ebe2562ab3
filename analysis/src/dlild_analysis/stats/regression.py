"""What regressions on log ratios share (logistic, Cox, Fine and Gray): terms, ratios, tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import FloatArray, as_design
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result

CUSTOMARY = 10.0
"""Events per parameter below which a model carries a warning."""


@dataclass(frozen=True, kw_only=True)
class Term(Result):
    """One covariate of a model.

    Attributes
    ----------
    name
        Of the covariate.
    beta, std_error
        Log ratio per unit and its standard error.
    sd
        Standard deviation (n - 1) of the covariate in the fitting data.
    """

    name: str
    beta: float
    std_error: float
    sd: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression(Result):
    """A fitted model; ``terms`` has one term for each covariate, in the order given."""

    terms: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return tuple(term.name for term in self.terms)

    def rows(self, design: ArrayLike) -> FloatArray:
        """Return new patients as an array, shape (m, p).

        Raises
        ------
        StatisticsError
            A wrong number of columns or a value that is not finite.
        """
        x, _ = as_design(design, None)
        if x.shape[1] != len(self.terms):
            raise StatisticsError(
                f"design: {x.shape[1]} columns; the model has {len(self.terms)}:"
                f" {', '.join(self.names)}"
            )
        return x


def ratios(
    beta: float,
    low: float,
    high: float,
    *,
    units: tuple[float, float],
    kind: str,
    how: str,
    p_value: float,
    n: int,
    level: float,
    warnings: tuple[str, ...] = (),
) -> tuple[Estimate, Estimate]:
    """Turn a log ratio and its limits into the ratio per unit and per standard deviation.

    Parameters
    ----------
    beta, low, high
        On the log scale; an infinite ``beta`` gives a ratio of infinity or zero.
    units
        What ``beta`` is multiplied by for one unit, and for one standard deviation.
    kind, how
        Name of the ratio, and of interval and test, for ``method``.
    p_value, n, level, warnings
        As of the estimates.
    """
    per_unit, per_sd = (
        Estimate(
            estimate=_exponential(unit * beta),
            ci_low=_exponential(unit * low),
            ci_high=_exponential(unit * high),
            p_value=p_value,
            n=n,
            level=level,
            method=f"{kind} per {what}, {how}",
            warnings=warnings,
        )
        for unit, what in zip(units, ("unit", "standard deviation"), strict=True)
    )
    return per_unit, per_sd


def _exponential(value: float) -> float:
    return math.inf if value >= 700 else math.exp(value)


def wald_p(beta: float, std_error: float) -> float:
    """Two-sided P of Wald's test of a coefficient."""
    return float(2 * stats.norm.sf(abs(beta) / std_error))


def few_events(per_parameter: float) -> tuple[str, ...]:
    """Warn of fewer events per parameter than is customary."""
    if per_parameter >= CUSTOMARY:
        return ()
    return (f"{per_parameter:.1f} events per parameter: fewer than the customary 10",)
