"""Competing risks: Aalen-Johansen incidence, cause-specific Cox, Fine and Gray."""

from __future__ import annotations

from dlild_analysis.stats.competing_risks.fine_gray import FineGrayFit, fit_fine_gray
from dlild_analysis.stats.competing_risks.incidence import (
    CumulativeIncidence,
    aalen_johansen,
    fit_cause_specific,
    incidence_at,
)

__all__ = [
    "CumulativeIncidence",
    "FineGrayFit",
    "aalen_johansen",
    "fit_cause_specific",
    "fit_fine_gray",
    "incidence_at",
]
