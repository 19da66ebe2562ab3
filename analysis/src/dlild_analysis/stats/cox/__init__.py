"""Cox regression, its predictions, and the test of proportional hazards."""

from __future__ import annotations

from dlild_analysis.stats.cox.proportional_hazards import (
    ProportionalHazards,
    proportional_hazards_test,
)
from dlild_analysis.stats.cox.regression import (
    CoxFit,
    HazardTerm,
    fit_cox,
    linear_predictor,
    predict_cox,
)
from dlild_analysis.stats.cox.sites import fit_clustered_cox, fit_stratified_cox
from dlild_analysis.stats.cox.time_varying import TimeVaryingCox, fit_time_varying_cox

__all__ = [
    "CoxFit",
    "HazardTerm",
    "ProportionalHazards",
    "TimeVaryingCox",
    "fit_clustered_cox",
    "fit_cox",
    "fit_stratified_cox",
    "fit_time_varying_cox",
    "linear_predictor",
    "predict_cox",
    "proportional_hazards_test",
]
