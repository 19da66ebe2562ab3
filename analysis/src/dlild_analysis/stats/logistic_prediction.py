"""Risks predicted by a logistic model, with intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from dlild_analysis.stats.arrays import (
    as_design,
    normal_quantile,
)
from dlild_analysis.stats.designs import outside_range
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic_results import LogisticFit, RiskPrediction


def predict_logistic(fit: LogisticFit, design: ArrayLike, *, level: float = 0.95) -> RiskPrediction:
    """Predict risks, with Wald intervals formed on the log-odds scale.

    Parameters
    ----------
    fit
        A fitted model.
    design
        Shape (m, p), columns in the order of ``fit.names``.
    level
        Coverage of the intervals.

    Returns
    -------
    RiskPrediction
        With a warning that counts the rows outside the range of the fitted data.

    Raises
    ------
    StatisticsError
        A wrong number of columns or a value that is not finite.
    """
    x, _ = as_design(design, None)
    if x.shape[1] != len(fit.terms):
        raise StatisticsError(
            f"design: {x.shape[1]} columns; the model has {len(fit.terms)}: {', '.join(fit.names)}"
        )
    rows = np.column_stack([np.ones(x.shape[0]), x])
    eta = rows @ np.array([fit.intercept, *(term.beta for term in fit.terms)])
    error = np.sqrt(np.einsum("ij,jk,ik->i", rows, fit.covariance, rows))
    half = normal_quantile(level) * error
    return RiskPrediction(
        risk=expit(eta),
        ci_low=expit(eta - half),
        ci_high=expit(eta + half),
        level=level,
        method="logistic risk, Wald interval on the log-odds scale",
        warnings=outside_range(x, fit.lower, fit.upper),
    )
