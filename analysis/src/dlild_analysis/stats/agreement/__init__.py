"""Agreement of readers and repeats: ICC, kappa, repeatability, Bland-Altman, important change."""

from __future__ import annotations

from dlild_analysis.stats.agreement.important_change import (
    ImportantDifference,
    important_difference,
)
from dlild_analysis.stats.agreement.kappa import Kappa, Weights, cohen_kappa
from dlild_analysis.stats.agreement.limits import BlandAltman, LimitInterval, bland_altman
from dlild_analysis.stats.agreement.reliability import (
    IntraclassCorrelation,
    Repeatability,
    intraclass_correlation,
    repeatability,
)

__all__ = [
    "BlandAltman",
    "ImportantDifference",
    "IntraclassCorrelation",
    "Kappa",
    "LimitInterval",
    "Repeatability",
    "Weights",
    "bland_altman",
    "cohen_kappa",
    "important_difference",
    "intraclass_correlation",
    "repeatability",
]
