"""Calibration, Brier score and decision curves of predicted risks."""

from __future__ import annotations

from dlild_analysis.stats.calibration.brier import brier_binary, brier_survival
from dlild_analysis.stats.calibration.calibration import (
    Calibration,
    calibrate_binary,
    calibrate_survival,
)
from dlild_analysis.stats.calibration.net_benefit import (
    DecisionCurve,
    decision_curve,
    decision_curve_survival,
)

__all__ = [
    "Calibration",
    "DecisionCurve",
    "brier_binary",
    "brier_survival",
    "calibrate_binary",
    "calibrate_survival",
    "decision_curve",
    "decision_curve_survival",
]
