"""Checks of design matrices that all regressions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlild_analysis.stats.arrays import FloatArray, constant_columns
from dlild_analysis.stats.errors import StatisticsError

_COLLINEAR = 1e-9


def check_regressors(x: FloatArray, names: Sequence[str]) -> None:
    """Raise on constant and on collinear columns, naming them.

    Raises
    ------
    StatisticsError
        A column of one value; a column that the ones before it determine; more columns than
        patients.
    """
    constant = constant_columns(x, names)
    if constant:
        raise StatisticsError(
            f"{', '.join(constant)}: the same value in all {x.shape[0]} patients; leave it out"
        )
    if x.shape[1] >= x.shape[0]:
        raise StatisticsError(
            f"design: {x.shape[1]} covariates for {x.shape[0]} patients; use fewer covariates"
        )
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    triangle = np.linalg.qr(scaled / np.sqrt(x.shape[0]), mode="r")
    determined = [
        name
        for name, pivot in zip(names, np.abs(np.diag(triangle)), strict=True)
        if pivot < _COLLINEAR
    ]
    if determined:
        raise StatisticsError(
            f"{', '.join(determined)}: determined by the other covariates (collinear); leave it out"
        )


def outside_range(x: FloatArray, lower: FloatArray, upper: FloatArray) -> tuple[str, ...]:
    """Warn when rows lie outside the range of the data that a model was fitted to."""
    count = int(np.any((x < lower) | (x > upper), axis=1).sum())
    if count == 0:
        return ()
    return (f"{count} of {x.shape[0]} rows lie outside the range of the fitted data",)
