"""The steps of the analysis, in the order in which they are taken and reported."""

from __future__ import annotations

from typing import Any

from dlild_analysis.cohort import Study
from dlild_analysis.steps.agreement.agreement import AGREEMENT
from dlild_analysis.steps.agreement.change import CHANGES
from dlild_analysis.steps.correlation.correlations import CORRELATIONS
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.discrimination.concordance import CONCORDANCE
from dlild_analysis.steps.discrimination.incremental import INCREMENTAL
from dlild_analysis.steps.discrimination.time_auc import TIME_AUC
from dlild_analysis.steps.logistic.logistic import LOGISTIC
from dlild_analysis.steps.longitudinal.fvc_decline import FVC_DECLINE
from dlild_analysis.steps.longitudinal.landmarks import LANDMARKS
from dlild_analysis.steps.longitudinal.time_between_visits import TIME_BETWEEN_VISITS
from dlild_analysis.steps.longitudinal.time_varying import TIME_VARYING
from dlild_analysis.steps.patients.sample_size import SAMPLE_SIZE
from dlild_analysis.steps.patients.table_one import TABLE_ONE
from dlild_analysis.steps.risk_table import RISK_TABLE
from dlild_analysis.steps.roc.roc import ROC
from dlild_analysis.steps.sensitivity.cutoffs import CUTOFFS
from dlild_analysis.steps.sensitivity.imputation import IMPUTATION
from dlild_analysis.steps.sensitivity.rules import RULES
from dlild_analysis.steps.step import Step
from dlild_analysis.steps.subgroups.interaction import SUBGROUPS
from dlild_analysis.steps.subgroups.sites import SITES
from dlild_analysis.steps.survival.competing_risks import COMPETING_RISKS
from dlild_analysis.steps.survival.kaplan_meier import KAPLAN_MEIER
from dlild_analysis.steps.validation.calibration import CALIBRATION
from dlild_analysis.steps.validation.cross_validation import CROSS_VALIDATION
from dlild_analysis.steps.validation.decision_curves import DECISION_CURVES
from dlild_analysis.steps.validation.optimism import OPTIMISM

STEPS: tuple[Step[Any], ...] = (
    TABLE_ONE,
    CORRELATIONS,
    LOGISTIC,
    ROC,
    KAPLAN_MEIER,
    COX,
    CROSS_VALIDATION,
    OPTIMISM,
    CALIBRATION,
    DECISION_CURVES,
    TIME_AUC,
    CONCORDANCE,
    INCREMENTAL,
    COMPETING_RISKS,
    TIME_BETWEEN_VISITS,
    SUBGROUPS,
    SITES,
    LANDMARKS,
    TIME_VARYING,
    FVC_DECLINE,
    AGREEMENT,
    CHANGES,
    RISK_TABLE,
    SAMPLE_SIZE,
    CUTOFFS,
    IMPUTATION,
    RULES,
)


def steps_of(study: Study, *, all_rules: bool) -> list[Step[Any]]:
    """List the steps that a study asks for.

    Parameters
    ----------
    study : Study
        Whether missing values are imputed, and whether there are readers, repeats and scores of
        later visits.
    all_rules : bool
        Whether every progression rule is compared.
    """
    left_out: list[Step[Any]] = []
    if not study.readings.columns:
        left_out.append(AGREEMENT)
    if not study.visits.given:
        left_out += [FVC_DECLINE, TIME_BETWEEN_VISITS]
    if study.plan.site is None:
        left_out.append(SITES)
    if "score" not in study.visits.columns:
        left_out.append(TIME_VARYING)
    stated = study.score is not None and study.score.repeatability is not None
    if not (study.repeats or stated or "score" in study.visits.columns):
        left_out.append(CHANGES)
    if study.table.missing != "multiple-imputation":
        left_out.append(IMPUTATION)
    if not all_rules:
        left_out.append(RULES)
    return [step for step in STEPS if step not in left_out]
