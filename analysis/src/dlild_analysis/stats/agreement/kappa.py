"""Cohen's kappa of two readers, weighted by how far their categories lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dlild_analysis.stats.arrays import FloatArray, check_lengths
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result

Weights = Literal["none", "linear", "quadratic"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kappa(Result):
    """Agreement of two readers on categories beyond chance.

    Attributes
    ----------
    kappa
        With the large-sample interval; the p-value is that of kappa = 0, with the variance under
        that hypothesis.
    observed, expected
        Weighted agreement, and what chance gives.
    table
        Shape (k, k): counts, rows of the first reader.
    """

    kappa: Estimate
    observed: float
    expected: float
    table: FloatArray
    n: int
    method: str
    warnings: tuple[str, ...] = ()


def cohen_kappa(
    a: ArrayLike,
    b: ArrayLike,
    *,
    categories: int | None = None,
    weights: Weights = "quadratic",
    level: float = 0.95,
) -> Kappa:
    """Cohen's kappa with its large-sample interval.

    Parameters
    ----------
    a, b
        Shape (n,): categories of the same subjects by two readers, as 0 ... k-1 in their order.
    categories
        Number of categories k; by default the highest that occurs, plus 1.
    weights
        "none" counts equal categories only; "linear" and "quadratic" give credit that falls with
        the distance of the categories.
    level
        Coverage of the interval.

    Raises
    ------
    StatisticsError
        Fewer than 2 subjects, a value that is no category, or both readers give every subject one
        and the same category.

    References
    ----------
    .. [1] Cohen J. Weighted kappa: nominal scale agreement with provision for scaled disagreement
       or partial credit. Psychol Bull 1968;70:213-220.
    .. [2] Fleiss JL, Cohen J, Everitt BS. Large sample standard errors of kappa and weighted kappa.
       Psychol Bull 1969;72:323-327.
    """
    if weights not in ("none", "linear", "quadratic"):
        raise StatisticsError(f"weights: {weights!r}; use 'none', 'linear' or 'quadratic'")
    first, second = _categories(a, "a"), _categories(b, "b")
    check_lengths(a=first, b=second)
    n = first.size
    if n < 2:
        raise StatisticsError(f"a: {n} subjects; at least 2 are needed")
    k = int(max(first.max(), second.max())) + 1
    if categories is not None:
        if categories < k:
            raise StatisticsError(f"categories: {categories}, but category {k - 1} occurs")
        k = categories
    counts = np.zeros((k, k))
    np.add.at(counts, (first, second), 1.0)
    shares = counts / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    if (rows == 1).any() and (columns == 1).any() and rows.argmax() == columns.argmax():
        raise StatisticsError("a: both readers give every subject the same category")
    weight = _weight(k, weights)
    chance = np.outer(rows, columns)
    observed, expected = float((weight * shares).sum()), float((weight * chance).sum())
    kappa = (observed - expected) / (1 - expected)
    # Mean weights of each reader's categories, Fleiss, Cohen and Everitt's (9) and (10).
    both = (weight @ columns)[:, None] + (weight.T @ rows)[None, :]
    variance = float(
        (shares * (weight * (1 - expected) - both * (1 - observed)) ** 2).sum()
        - (observed * expected - 2 * expected + observed) ** 2
    ) / (n * (1 - expected) ** 4)
    null = float((chance * (weight - both) ** 2).sum() - expected**2) / (n * (1 - expected) ** 2)
    error = math.sqrt(max(variance, 0.0))
    z = float(stats.norm.ppf(0.5 + level / 2))
    few = (f"{n} subjects are few for the large-sample interval of kappa",) if n < 30 else ()
    words = {"none": "", "linear": "linearly weighted ", "quadratic": "quadratically weighted "}
    method = f"{words[weights]}kappa, interval of Fleiss, Cohen and Everitt"
    return Kappa(
        kappa=Estimate(
            estimate=kappa,
            ci_low=max(kappa - z * error, -1.0),
            ci_high=min(kappa + z * error, 1.0),
            p_value=float(2 * stats.norm.sf(abs(kappa) / math.sqrt(null))) if null > 0 else None,
            std_error=error,
            n=n,
            level=level,
            method=method,
            warnings=few,
        ),
        observed=observed,
        expected=expected,
        table=counts,
        n=n,
        method=method,
        warnings=few,
    )


def _categories(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise StatisticsError(f"{name}: missing or not a vector of categories")
    if (array < 0).any() or (array != np.round(array)).any():
        raise StatisticsError(f"{name}: categories are written 0, 1, 2, ...")
    return array.astype(np.int64)


def _weight(k: int, weights: Weights) -> FloatArray:
    steps = np.abs(np.subtract.outer(np.arange(k), np.arange(k))) / max(k - 1, 1)
    if weights == "none":
        return np.eye(k)
    return np.asarray(1 - (steps if weights == "linear" else steps**2), dtype=np.float64)
