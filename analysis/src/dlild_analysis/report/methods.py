"""The methods section: what was done, with its sources."""

from __future__ import annotations

from typing import Any

from dlild_analysis.cohort.study import Study
from dlild_analysis.steps import Analysis
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.correlation.correlations import CORRELATIONS
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.logistic.logistic import LOGISTIC
from dlild_analysis.steps.presentation.text import joined
from dlild_analysis.steps.roc.roc import ROC
from dlild_analysis.steps.step import Step, collect_methods
from dlild_analysis.steps.survival.kaplan_meier import KAPLAN_MEIER
from dlild_analysis.steps.validation.cross_validation import CROSS_VALIDATION
from dlild_analysis.steps.validation.optimism import OPTIMISM


def missing_values(study: Study) -> str:
    """State what was done with missing values."""
    words = "Each analysis uses the patients that are complete for it, and states their number."
    if study.table.missing != "multiple-imputation":
        return words
    return (
        f"{words} The multivariable logistic and Cox models were also fitted in "
        f"{study.table.imputations} imputed tables and pooled by Rubin's rules."
    )


def paragraphs(analysis: Analysis) -> list[str]:
    """Write the methods section."""
    study, plan = analysis.data.study, analysis.data.study.plan
    names = joined([analysis.data.label(name) for name in analysis.data.available(plan.adjust)])
    horizons = joined([f"{h:g}" for h in plan.horizons_months])
    found = [
        (
            f"Times count from {study.table.time_origin} in months of 365.25/12 days. "
            f"{analysis.outcome.statement} The two-way outcome is progression by "
            f"{plan.horizon:g} months; a patient censored more than {plan.tolerance_months:g} "
            "month before counts as unknown and enters only the time-to-event analyses."
        ),
        (
            "Percent-predicted lung function is taken from the table. Working it out from litres "
            "(GLI equations) is outside this software."
        ),
    ]
    if _done(analysis, CORRELATIONS):
        found.append(
            "Correlations are Pearson's (Fisher's z interval) and Spearman's; two scores' "
            "correlations with one variable are compared by tests for dependent overlapping "
            "correlations, with Zou's interval, and the independent Fisher test is shown for "
            "comparison only."
        )
    models = [
        words for step, words in ((LOGISTIC, "Logistic"), (COX, "Cox")) if _done(analysis, step)
    ]
    sentences = []
    if models:
        sentences.append(
            f"{joined(models)} models were fitted to each covariate alone"
            + (f" and together ({names})." if names else ".")
        )
    if _done(analysis, LOGISTIC):
        sentences.append("Firth's penalty was used where events were few or separated.")
    if _done(analysis, ROC):
        sentences.append("AUCs have DeLong's interval and paired test.")
    if _done(analysis, KAPLAN_MEIER):
        sentences.append("Survival is Kaplan-Meier's, compared by the log-rank test.")
    if _done(analysis, COX):
        sentences.append(
            "Proportional hazards were tested; restricted mean times stand beside the hazard ratio."
        )
    if sentences:
        found.append(" ".join(sentences))
    resampled = []
    if _done(analysis, CROSS_VALIDATION):
        resampled.append(f"{plan.folds}-fold stratified cross-validation, {plan.repeats} repeats")
    if _done(analysis, OPTIMISM):
        resampled.append(f"{plan.bootstraps} bootstraps for optimism")
    validated = (
        f"Internal validation: {joined(resampled)}, with every data-driven choice repeated inside. "
        if resampled
        else ""
    )
    return [
        *found,
        f"{validated}Horizons were {horizons} months.",
        (
            f"{missing_values(study)} Intervals cover 95 %; P is two-sided and, except for a "
            "cut-off that was chosen here, not adjusted for the number of tests."
        ),
    ]


def _done(analysis: Analysis, step: Step[Any]) -> bool:
    return not isinstance(analysis.of(step), NotDone)


def method_list(analysis: Analysis) -> list[str]:
    """Gather the methods that the results name."""
    return sorted(set().union(*(collect_methods(item.result) for item in analysis.steps.values())))
