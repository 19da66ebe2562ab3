"""Cox models fitted by lifelines on standardised columns, as hazard ratios of the given units."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, CoxTimeVaryingFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import NDArray
from scipy import stats

from dlild_analysis.stats.cox.regression import HazardTerm, make_hazard_term
from dlild_analysis.stats.errors import StatisticsError

LARGEST_ERROR = 100.0  # per standard deviation; beyond it the likelihood has no maximum

Fitter = TypeVar("Fitter", CoxPHFitter, CoxTimeVaryingFitter)


def fit_standardised(
    x: NDArray[np.float64],
    columns: Sequence[str],
    fit: Callable[[pd.DataFrame], Fitter],
    *,
    n: int,
    level: float,
    kind: str = "hazard ratio",
) -> tuple[Fitter, tuple[HazardTerm, ...]]:
    """Fit a Cox model on columns of standard deviation 1, and convert its terms back.

    Parameters
    ----------
    x
        Shape (m, p): covariates, none of them constant.
    columns
        Their p names.
    fit
        Takes the standardised covariates, adds its own columns, and returns the fitted model.
    n
        Patients.
    level
        Coverage of the (Wald) intervals.
    kind
        What the ratios are, in words.

    Returns
    -------
    fitter
        Of lifelines, fitted.
    tuple of HazardTerm
        One for each column.

    Raises
    ------
    StatisticsError
        The model does not converge, or a coefficient is infinite.
    """
    sd = x.std(axis=0, ddof=1)
    keys = [f"x{index}" for index in range(x.shape[1])]
    frame = pd.DataFrame(x / sd, columns=keys)
    with python_warnings.catch_warnings(), np.errstate(all="ignore"):
        python_warnings.simplefilter("ignore")
        try:
            fitted = fit(frame)
        except (ConvergenceError, ValueError, np.linalg.LinAlgError) as error:
            raise StatisticsError(
                f"the model did not converge ({' '.join(str(error).split())[:120]})"
            ) from None
    beta = fitted.params_.loc[keys].to_numpy()
    spread = fitted.standard_errors_.loc[keys].to_numpy()
    if not np.isfinite(spread).all() or spread.max() > LARGEST_ERROR:
        raise StatisticsError("a coefficient is infinite: a covariate ranks all events first")
    terms = tuple(
        make_hazard_term(
            name,
            float(beta[k] / sd[k]),
            float(spread[k] / sd[k]),
            float(sd[k]),
            p_value=float(2 * stats.norm.sf(abs(beta[k] / spread[k]))),
            n=n,
            level=level,
            kind=kind,
        )
        for k, name in enumerate(columns)
    )
    return fitted, terms
