"""Agreement of repeated readings: intraclass correlation, repeatability, Bland-Altman."""

from __future__ import annotations

from dlild_analysis.stats.agreement.limits import BlandAltman, LimitInterval, bland_altman
from dlild_analysis.stats.agreement.reliability import (
    IntraclassCorrelation,
    Repeatability,
    intraclass_correlation,
    repeatability,
)

__all__ = [
    "BlandAltman",
    "IntraclassCorrelation",
    "LimitInterval",
    "Repeatability",
    "bland_altman",
    "intraclass_correlation",
    "repeatability",
]
