"""Restricted cubic splines (linear in both tails)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import FloatArray, as_vector
from dlild_analysis.stats.errors import StatisticsError

# Outer quantiles of Harrell's table; for 6 knots and more the inner ones are evenly spaced.
_OUTER = {3: 0.10, 4: 0.05, 5: 0.05, 6: 0.05, 7: 0.025}


def rcs_knots(x: ArrayLike, n_knots: int = 4) -> FloatArray:
    """Knots at Harrell's quantiles of x.

    With fewer than 100 values the outer knots are the fifth smallest and fifth largest, if these
    lie further in than the outer quantiles.

    Parameters
    ----------
    x
        Shape (n,).
    n_knots
        3 to 7.

    Returns
    -------
    ndarray
        Shape (n_knots,), strictly rising.

    Raises
    ------
    StatisticsError
        Too few distinct values for as many knots.

    References
    ----------
    .. [1] Harrell FE. Regression Modeling Strategies. 2nd ed. Springer 2015, section 2.4.6.
    """
    values = as_vector(x, "x", at_least=3)
    if n_knots not in _OUTER:
        raise StatisticsError(f"n_knots: {n_knots}; 3 to 7 are possible")
    outer = _OUTER[n_knots]
    knots = np.quantile(values, np.linspace(outer, 1 - outer, n_knots))
    if 9 < values.size < 100:
        ordered = np.sort(values)
        knots[0] = max(knots[0], ordered[4])
        knots[-1] = min(knots[-1], ordered[-5])
    if np.any(np.diff(knots) <= 0):
        raise StatisticsError(
            f"x: {np.unique(values).size} distinct values give no {n_knots} distinct knots; use"
            " fewer knots or a linear term"
        )
    return knots


def rcs_basis(x: ArrayLike, knots: ArrayLike) -> FloatArray:
    """Basis of the restricted cubic spline: x itself, then the non-linear terms.

    Non-linear terms are divided by the squared distance of the outer knots, so that all columns
    have the unit of x.

    Parameters
    ----------
    x
        Shape (n,).
    knots
        Shape (k,), strictly rising, k >= 3.

    Returns
    -------
    ndarray
        Shape (n, k - 1).

    Raises
    ------
    StatisticsError
        Knots that do not rise, or fewer than 3.

    References
    ----------
    .. [1] Stone CJ, Koo CY. Additive splines in statistics. Proc Stat Comp Sect ASA 1985:45-48.
    """
    values, at = as_vector(x, "x"), as_vector(knots, "knots", at_least=3)
    if np.any(np.diff(at) <= 0):
        raise StatisticsError(f"knots: {at.tolist()}; they must rise")
    last, before = at[-1], at[-2]
    columns = [values]
    for knot in at[:-2]:
        term = (
            _cube(values - knot)
            - _cube(values - before) * (last - knot) / (last - before)
            + _cube(values - last) * (before - knot) / (last - before)
        )
        columns.append(term / (last - at[0]) ** 2)
    return np.column_stack(columns)


def _cube(values: FloatArray) -> FloatArray:
    cubed: FloatArray = np.maximum(values, 0.0) ** 3
    return cubed
