"""Bootstrap and cross-validation that know nothing of the model they validate."""

from __future__ import annotations

from dlild_analysis.stats.resampling.bootstrap import (
    Fit,
    Metric,
    Optimism,
    Predict,
    Progress,
    optimism_bootstrap,
)
from dlild_analysis.stats.resampling.cross_validation import CrossValidation, cross_validate

__all__ = [
    "CrossValidation",
    "Fit",
    "Metric",
    "Optimism",
    "Predict",
    "Progress",
    "cross_validate",
    "optimism_bootstrap",
]
