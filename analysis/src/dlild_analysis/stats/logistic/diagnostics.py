"""What to look at before believing a logistic model: separation, collinearity, linearity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import linprog

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_design,
    as_vector,
    check_lengths,
    check_regressors,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic.likelihood import Likelihood, maximise_logistic
from dlild_analysis.stats.results import HypothesisTest, Result
from dlild_analysis.stats.splines import rcs_basis, rcs_knots


@dataclass(frozen=True, kw_only=True)
class Separation(Result):
    """Whether covariates divide events from non-events without overlap.

    Attributes
    ----------
    kind
        "none", "quasi" (they touch) or "complete".
    columns
        Covariates that take part in the dividing plane; empty for "none".
    """

    kind: str
    columns: tuple[str, ...]
    method: str


@dataclass(frozen=True, kw_only=True)
class Linearity(Result):
    """Whether the log odds (or log hazard) rise linearly with a covariate.

    Attributes
    ----------
    test
        Likelihood ratio of the spline's non-linear terms; a small p speaks against linearity.
    knots
        Of the restricted cubic spline.
    """

    name: str
    test: HypothesisTest
    knots: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def detect_separation(
    design: ArrayLike, outcome: ArrayLike, names: Sequence[str] | None = None
) -> Separation:
    """Detect complete or quasi-complete separation by a linear programme.

    Parameters
    ----------
    design
        Shape (n, p), without a column of ones.
    outcome
        Shape (n,), 0 or 1.
    names
        Of the columns.

    Returns
    -------
    Separation
        Kind and columns.

    Raises
    ------
    StatisticsError
        As :func:`dlild_analysis.stats.logistic.fit_logistic`.

    References
    ----------
    .. [1] Albert A, Anderson JA. On the existence of maximum likelihood estimates in logistic
       regression models. Biometrika 1984;71:1-10.
    .. [2] Konis K. Linear programming algorithms for detecting separated data in binary logistic
       regression models. DPhil thesis, Oxford 2007.
    """
    x, columns = as_design(design, names)
    event = as_binary(outcome)
    check_lengths(design=x, outcome=event)
    check_regressors(x, columns)
    method = "linear programme over dividing planes (Konis)"
    overlap = Separation(kind="none", columns=(), method=method)
    scaled = np.column_stack([np.ones(event.size), (x - x.mean(axis=0)) / x.std(axis=0)])
    if _has_maximum(scaled, event):
        return overlap
    signed = np.where(event, 1.0, -1.0)[:, None] * scaled
    bounds = [(-1, 1)] * scaled.shape[1]
    solution = linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(event.size), bounds=bounds, method="highs"
    )
    if not solution.success or -solution.fun < 1e-7 * event.size:
        return overlap
    taking = np.abs(solution.x[1:]) > 1e-7
    alone = np.array([_divides(column, event) for column in x.T])
    return Separation(
        kind="complete" if _widest_gap(signed) > 1e-9 else "quasi",
        columns=tuple(np.array(columns)[alone if alone.any() else taking].tolist()),
        method=method,
    )


def variance_inflation(design: ArrayLike, names: Sequence[str] | None = None) -> dict[str, float]:
    """Variance inflation factor of each column: 1 / (1 - R2) on the others.

    Parameters
    ----------
    design
        Shape (n, p), without a column of ones.
    names
        Of the columns.

    Returns
    -------
    dict
        Factor by column; ``inf`` for a column that the others determine, 1 for a single column.

    Raises
    ------
    StatisticsError
        A constant column or a value that is not finite.
    """
    x, columns = as_design(design, names)
    if np.any(np.ptp(x, axis=0) == 0):
        raise StatisticsError("design: a constant column has no variance to inflate; leave it out")
    if len(columns) == 1:
        return {columns[0]: 1.0}
    correlation = np.corrcoef(x, rowvar=False)
    values, vectors = np.linalg.eigh(correlation)
    with np.errstate(divide="ignore"):
        inverse = np.where(values > 1e-12, 1 / values, math.inf)
    spread = np.where(np.abs(vectors) > 1e-6, vectors**2, 0.0)
    factors = np.array([float(s[s > 0] @ inverse[s > 0]) for s in spread])
    return {name: float(f) for name, f in zip(columns, factors, strict=True)}


def linearity_test(
    x: ArrayLike,
    outcome: ArrayLike,
    covariates: ArrayLike | None = None,
    *,
    name: str = "x",
    n_knots: int = 4,
) -> Linearity:
    """Test linearity of the log odds in x by a restricted cubic spline.

    Parameters
    ----------
    x
        Shape (n,).
    outcome
        Shape (n,), 0 or 1.
    covariates
        Shape (n, q), held in both models.
    name
        Of x, for the result.
    n_knots
        3 to 7; fewer are used, with a warning, when x has too few distinct values.

    Returns
    -------
    Linearity
        Likelihood-ratio test on n_knots - 2 degrees of freedom.

    Raises
    ------
    StatisticsError
        As :func:`dlild_analysis.stats.logistic.fit_logistic`, or x with fewer than 3 distinct
        values.
    """
    values = as_vector(x, name, at_least=3)
    event = as_binary(outcome)
    check_lengths(x=values, outcome=event)
    knots, warnings = _feasible_knots(values, name, n_knots)
    basis = rcs_basis(values, knots)
    others: FloatArray = np.empty((values.size, 0))
    if covariates is not None:
        others, _ = as_design(covariates, None)
        check_lengths(x=values, covariates=others)
    straight = np.column_stack([values, others])
    curved = np.column_stack([basis, others])
    gain = _log_likelihood(curved, event) - _log_likelihood(straight, event)
    statistic = max(0.0, 2 * gain)
    df = len(knots) - 2
    return Linearity(
        name=name,
        test=HypothesisTest(
            statistic=statistic,
            df=df,
            p_value=float(stats.chi2.sf(statistic, df)),
            n=values.size,
            method="likelihood ratio of the non-linear terms of a restricted cubic spline with"
            f" {len(knots)} knots",
            warnings=warnings,
        ),
        knots=tuple(float(k) for k in knots),
        warnings=warnings,
    )


def _has_maximum(scaled: FloatArray, event: BoolArray) -> bool:
    """Whether a few Newton steps already settle on a maximum: spares the linear programme."""
    likelihood = Likelihood(scaled, event.astype(np.float64), firth=False)
    beta = np.zeros(scaled.shape[1])
    for _ in range(12):
        _, gradient, information = likelihood.parts(beta)
        if np.linalg.eigvalsh(information)[0] < 1e-6 * event.size:
            return False
        step = np.linalg.solve(information, gradient)
        beta = beta + step
        if np.abs(beta).max() > 8:
            return False
        if np.abs(step).max() < 1e-8:
            return True
    return False


def _divides(column: FloatArray, event: BoolArray) -> bool:
    """Whether a single cut-off parts the classes, equal values on the cut-off allowed."""
    return bool(
        column[event].min() >= column[~event].max() or column[event].max() <= column[~event].min()
    )


def _widest_gap(signed: FloatArray) -> float:
    """Width of the widest empty strip between the classes; zero where they touch."""
    n, p = signed.shape
    rows = np.column_stack([-signed, np.ones(n)])
    goal = np.append(np.zeros(p), -1.0)
    bounds = [(-1, 1)] * p + [(0, None)]
    solution = linprog(goal, A_ub=rows, b_ub=np.zeros(n), bounds=bounds, method="highs")
    return float(-solution.fun) if solution.success else 0.0


def _feasible_knots(
    values: FloatArray, name: str, wanted: int
) -> tuple[FloatArray, tuple[str, ...]]:
    for count in range(wanted, 2, -1):
        try:
            knots = rcs_knots(values, count)
        except StatisticsError:
            if not 3 <= wanted <= 7:
                raise
            continue
        remarks = (f"{name}: {count} knots instead of {wanted}, for want of distinct values",)
        return knots, () if count == wanted else remarks
    raise StatisticsError(
        f"{name}: {np.unique(values).size} distinct values carry no spline; linearity cannot be"
        " tested"
    )


def _log_likelihood(design: FloatArray, event: BoolArray) -> float:
    check_regressors(design, [f"term {k + 1}" for k in range(design.shape[1])])
    found = detect_separation(design, event)
    if found.kind != "none":
        raise StatisticsError(
            f"design: {found.kind} separation; linearity cannot be tested by maximum likelihood"
        )
    scaled = np.column_stack(
        [np.ones(event.size), (design - design.mean(axis=0)) / design.std(axis=0)]
    )
    likelihood = Likelihood(scaled, event.astype(np.float64), firth=False)
    free = np.ones(scaled.shape[1], dtype=np.bool_)
    return maximise_logistic(likelihood, np.zeros(scaled.shape[1]), free)[1]
