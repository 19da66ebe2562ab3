"""The study and its cohort: the TOML, the tables, and what is wrong with them."""

from __future__ import annotations

from dlild_analysis.cohort.cohort import Cohort, load_cohort
from dlild_analysis.cohort.study import Study
from dlild_analysis.cohort.study_toml import load_study, parse_study

__all__ = ["Cohort", "Study", "load_cohort", "load_study", "parse_study"]
