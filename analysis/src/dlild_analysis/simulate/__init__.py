"""Cohorts drawn from one stated generative model."""

from __future__ import annotations

from dlild_analysis.simulate.draw import (
    STUDY_TOML,
    VISITS_TOML,
    draw_cohort,
    draw_visits,
    parameters_like,
    statement,
    truths,
)
from dlild_analysis.simulate.model import Parameters, Targets, calibrate

__all__ = [
    "STUDY_TOML",
    "VISITS_TOML",
    "Parameters",
    "Targets",
    "calibrate",
    "draw_cohort",
    "draw_visits",
    "parameters_like",
    "statement",
    "truths",
]
