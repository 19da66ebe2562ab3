"""Statistics of DL-ILD scores: cohorts, progression rules, the paper's analysis, and its report.

Stands alone: no server, no network, no deep learning. Research use only.
"""

from __future__ import annotations

from dlild_analysis.audit import Finding, audit
from dlild_analysis.cohort import Cohort, load_cohort
from dlild_analysis.cohort.study import Study
from dlild_analysis.cohort.study_toml import load_study, parse_study
from dlild_analysis.errors import (
    AnalysisError,
    CohortError,
    Fault,
    InputRejectedError,
    ModelFileError,
    NotDoneError,
    OutOfRangeError,
    StudyError,
    UsageError,
)
from dlild_analysis.prediction import predict_table, read_model
from dlild_analysis.progression import Outcome, all_rules, assess, find_rule, register
from dlild_analysis.report import write_report
from dlild_analysis.serving import add_to_repository
from dlild_analysis.simulate import calibrate, draw_cohort, draw_visits, truths
from dlild_analysis.steps import Analysis, Progress, analyse, build_model
from dlild_analysis.steps.external_validation import validate_model

__all__ = [
    "Analysis",
    "AnalysisError",
    "Cohort",
    "CohortError",
    "Fault",
    "Finding",
    "InputRejectedError",
    "ModelFileError",
    "NotDoneError",
    "OutOfRangeError",
    "Outcome",
    "Progress",
    "Study",
    "StudyError",
    "UsageError",
    "add_to_repository",
    "all_rules",
    "analyse",
    "assess",
    "audit",
    "build_model",
    "calibrate",
    "draw_cohort",
    "draw_visits",
    "find_rule",
    "load_cohort",
    "load_study",
    "parse_study",
    "predict_table",
    "read_model",
    "register",
    "truths",
    "validate_model",
    "write_report",
]
