"""The methods section: what was done, with its sources."""

from __future__ import annotations

from dlild_analysis.cohort.study import Study
from dlild_analysis.steps import Analysis
from dlild_analysis.steps.presentation.text import joined
from dlild_analysis.steps.step import collect_methods


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
    return [
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
        (
            "Correlations are Pearson's (Fisher's z interval) and Spearman's; two scores' "
            "correlations with one variable are compared by tests for dependent overlapping "
            "correlations, with Zou's interval, and the independent Fisher test is shown for "
            "comparison only."
        ),
        (
            "Logistic and Cox models were fitted to each covariate alone and together "
            f"({names}); Firth's penalty was used where events were few or separated. AUCs have "
            "DeLong's interval and paired test. Survival is Kaplan-Meier's, compared by the "
            "log-rank test; proportional hazards were tested, and restricted mean times are "
            "given where hazards cross."
        ),
        (
            f"Internal validation: {plan.folds}-fold stratified cross-validation, {plan.repeats} "
            f"repeats, and {plan.bootstraps} bootstraps for optimism, with every data-driven "
            f"choice repeated inside. Horizons were {horizons} months."
        ),
        (
            f"{missing_values(study)} Intervals cover 95 %; P is two-sided and not adjusted for "
            "the number of tests."
        ),
    ]


def method_list(analysis: Analysis) -> list[str]:
    """Gather the methods that the results name."""
    return sorted(set().union(*(collect_methods(item.result) for item in analysis.steps.values())))
