"""Fine and Gray's regression on the subdistribution hazard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import BoolArray, FloatArray, as_design, check_lengths
from dlild_analysis.stats.competing import as_causes
from dlild_analysis.stats.cox_results import HazardTerm, make_hazard_term
from dlild_analysis.stats.designs import check_regressors
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Result
from dlild_analysis.stats.subdistribution import Subdistribution, maximise_subdistribution, sandwich


@dataclass(frozen=True, kw_only=True, eq=False)
class FineGrayFit(Result):
    """A fitted Fine-Gray model.

    Attributes
    ----------
    terms
        Subdistribution hazard ratios, one for each covariate.
    covariance
        Shape (p, p): sandwich, including the estimation of the censoring weights.
    log_likelihood, log_likelihood_null
        Partial pseudo-likelihood.
    """

    terms: tuple[HazardTerm, ...]
    covariance: FloatArray
    log_likelihood: float
    log_likelihood_null: float
    n: int
    events: int
    competing_events: int
    level: float
    method: str
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return tuple(term.name for term in self.terms)


def fit_fine_gray(
    design: ArrayLike,
    time: ArrayLike,
    cause: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    of: int = 1,
    level: float = 0.95,
) -> FineGrayFit:
    """Fit the subdistribution hazard of one cause (ties by Breslow, as R's ``cmprsk::crr``).

    Parameters
    ----------
    design
        Shape (n, p): DataFrame or array.
    time
        Shape (n,), not negative.
    cause
        Shape (n,): 0 censored, 1, 2, ... kinds of event.
    names
        Of the columns; taken from a DataFrame when left out.
    of
        Cause of interest.
    level
        Coverage of the intervals.

    Returns
    -------
    FineGrayFit
        Ratios above 1 mean a higher incidence of the cause.

    Raises
    ------
    StatisticsError
        No event of the cause, a constant or collinear column, no convergence.

    References
    ----------
    .. [1] Fine JP, Gray RJ. A proportional hazards model for the subdistribution of a competing
       risk. J Am Stat Assoc 1999;94:496-509.
    """
    x, columns = as_design(design, names)
    times, causes = as_causes(time, cause)
    check_lengths(design=x, time=times)
    check_regressors(x, columns)
    mine, competing = causes == of, (causes > 0) & (causes != of)
    if not mine.any():
        raise StatisticsError(f"cause: no event of cause {of}; codes found: {np.unique(causes)}")
    scale = x.std(axis=0)
    data = Subdistribution.of((x - x.mean(axis=0)) / scale, times, mine, competing)
    beta, highest, lowest, information = maximise_subdistribution(data)
    covariance = sandwich(data, beta, information) / np.outer(scale, scale)
    coefficients = beta / scale
    events = int(mine.sum())
    warnings = _reservations(len(columns), events, competing)
    sd = x.std(axis=0, ddof=1)
    terms = []
    for k, name in enumerate(columns):
        error = math.sqrt(covariance[k, k])
        terms.append(
            make_hazard_term(
                name,
                float(coefficients[k]),
                error,
                float(sd[k]),
                p_value=float(2 * stats.norm.sf(abs(coefficients[k]) / error)),
                n=times.size,
                level=level,
                kind="subdistribution hazard ratio",
            )
        )
    return FineGrayFit(
        terms=tuple(terms),
        covariance=covariance,
        log_likelihood=highest,
        log_likelihood_null=lowest,
        n=times.size,
        events=events,
        competing_events=int(competing.sum()),
        level=level,
        method=f"Fine-Gray subdistribution hazards of cause {of}, Breslow ties, sandwich variance",
        warnings=warnings,
    )


def _reservations(parameters: int, events: int, competing: BoolArray) -> tuple[str, ...]:
    told = []
    if events / parameters < 10:
        told.append(f"{events / parameters:.1f} events per parameter: fewer than the customary 10")
    if not competing.any():
        told.append("no competing event: the model is Cox's, with robust variance")
    return tuple(told)
