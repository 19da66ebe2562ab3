"""Logistic regression, and what to look at before believing it."""

from __future__ import annotations

from dlild_analysis.stats.logistic.diagnostics import (
    Linearity,
    Separation,
    detect_separation,
    linearity_test,
    variance_inflation,
)
from dlild_analysis.stats.logistic.regression import (
    Interval,
    LogisticFit,
    OddsTerm,
    Penalty,
    fit_logistic,
    predict_logistic,
)

__all__ = [
    "Interval",
    "Linearity",
    "LogisticFit",
    "OddsTerm",
    "Penalty",
    "Separation",
    "detect_separation",
    "fit_logistic",
    "linearity_test",
    "predict_logistic",
    "variance_inflation",
]
