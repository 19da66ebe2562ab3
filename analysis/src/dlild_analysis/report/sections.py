"""The results section, in sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlild_analysis.pipeline import Analysis
from dlild_analysis.report import flow
from dlild_analysis.report import sections_more as more
from dlild_analysis.report import sections_paper as paper


@dataclass
class Part:
    """One part of the report.

    Attributes
    ----------
    step : str
        Name of the step it tells of.
    title : str
        Its heading.
    sentences : list of str
        The results; empty where the step was not done.
    tables, figures : list of str
        Names of what belongs here.
    """

    step: str
    title: str
    sentences: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    because: str = ""
    warnings: list[str] = field(default_factory=list)


PLACES: dict[str, tuple[list[str], list[str]]] = {
    "table_one": (["table1_patients"], []),
    "correlations": (["table2_correlations", "table3_correlation_tests"], ["figure1_scatter"]),
    "logistic": (["table4_logistic"], []),
    "roc": (["table5_roc"], ["figure2_roc"]),
    "kaplan_meier": (["table6_survival"], ["figure3_survival"]),
    "cox": (["table7_cox"], ["figure4_forest"]),
    "cross_validation": (["table8_validation"], []),
    "optimism": ([], []),
    "calibration": (["table9_calibration"], ["figure5_calibration"]),
    "decision_curves": ([], ["figure6_decision"]),
    "time_auc": (["table10_discrimination"], ["figure7_time_auc"]),
    "concordance": ([], []),
    "incremental": (["table11_incremental"], []),
    "competing_risks": (["table12_competing"], ["figure8_incidence"]),
    "agreement": (["table13_agreement"], ["figure9_agreement"]),
    "sample_size": ([], []),
    "cutoffs": ([], ["figure10_cutoffs"]),
    "imputation": (["table15_imputed"], []),
    "rules": (["table14_rules"], ["figure11_rules"]),
}


def parts(analysis: Analysis) -> list[Part]:
    """Write every step's part of the report."""
    found = []
    if analysis.flow:
        found.append(
            Part(
                "flow",
                "Flow of patients",
                flow.sentences(analysis.flow),
                ["table16_flow"],
                ["figure12_flow"],
            )
        )
    for name, step in analysis.steps.items():
        tables, figures = PLACES[name]
        writer = WRITERS.get(name)
        sentences = writer(analysis, step.values) if writer and step.done else []
        found.append(
            Part(name, step.title, sentences, tables, figures, step.because, step.warnings)
        )
    return found


WRITERS = {
    "table_one": paper.patients,
    "correlations": paper.correlations,
    "logistic": paper.logistic,
    "roc": paper.roc,
    "kaplan_meier": paper.survival,
    "cox": paper.cox,
    "calibration": more.calibration,
    "time_auc": more.time_auc,
    "concordance": more.concordance,
    "competing_risks": more.competing,
    "cross_validation": paper.crossed,
    "optimism": more.optimism,
    "decision_curves": more.decisions,
    "incremental": more.incremental,
    "agreement": more.agreement,
    "sample_size": more.size,
    "cutoffs": more.cutoffs,
    "rules": more.rules,
}
