"""Tables of the paper's own analysis."""

from __future__ import annotations

from typing import Any

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.report.table import Table
from dlild_analysis.report.text import (
    DASH,
    estimate,
    number,
    p_of,
    p_value,
    percent_estimate,
)


def table_one(analysis: Analysis) -> Table | None:
    """Patients, and those with and without progression."""
    values = analysis.values("table_one")
    if not values:
        return None
    horizon = f"{values['horizon_months']:g} months"
    rows = [
        _number_row(row) if row["kind"] == "number" else _level_row(row) for row in values["rows"]
    ]
    yes = values["progressed_at_horizon"]
    no = values["status_known_at_horizon"] - yes
    return Table(
        "table1_patients",
        "Patients",
        (
            "",
            f"All (n = {values['patients']})",
            f"Progressed by {horizon} (n = {yes})",
            f"Not progressed (n = {no})",
            "P",
            "Missing",
        ),
        rows,
        "Numbers are mean (SD), or n (%). P: Welch's t test; chi-squared or Fisher's exact test. "
        f"Groups hold the patients whose status at {horizon} is known. Quartiles, ranges and "
        "rank tests are in results.json.",
    )


def _number_row(row: dict[str, Any]) -> tuple[str, ...]:
    def cell(part: dict[str, Any]) -> str:
        return DASH if not part["n"] else f"{number(part['mean'], 1)} ({number(part['sd'], 1)})"

    return (
        row["label"],
        cell(row["all"]),
        cell(row["progressed"]),
        cell(row["stable"]),
        p_value(row["p_t"]),
        str(row["all"]["missing"]),
    )


def _level_row(row: dict[str, Any]) -> tuple[str, ...]:
    def cell(part: dict[str, Any]) -> str:
        return (
            f"{part['count']} ({number(100 * part['count'] / part['of'], 1)} %)"
            if part["of"]
            else DASH
        )

    return (
        row["label"],
        cell(row["all"]),
        cell(row["progressed"]),
        cell(row["stable"]),
        p_value(row["p"]),
        str(row["all"]["missing"]),
    )


def correlations(analysis: Analysis) -> Table | None:
    """Correlation of the scores with lung function."""
    values = analysis.values("correlations")
    if not values:
        return None
    label = analysis.data.label
    rows = [
        (
            label(pair["score"]),
            label(pair["function"]),
            str(pair["n"]),
            estimate(pair["pearson"], 3),
            p_of(pair["pearson"]),
            estimate(pair["spearman"], 3),
            p_of(pair["spearman"]),
        )
        for pair in values["pairs"]
    ]
    return Table(
        "table2_correlations",
        "Correlation with lung function",
        ("Score", "Lung function", "n", "Pearson r (95 % CI)", "P", "Spearman rho (95 % CI)", "P"),
        rows,
        "Intervals by Fisher's z (Pearson), and Bonett and Wright (Spearman).",
    )


TESTS = {
    "williams": "Williams t",
    "steiger": "Steiger Z",
    "meng": "Meng-Rosenthal-Rubin Z",
    "hotelling": "Hotelling t",
    "fisher_independent": "Fisher Z, as if independent (for comparison only)",
}


def correlation_tests(analysis: Analysis) -> Table | None:
    """Comparison of the two scores' correlations."""
    rows: list[tuple[str, ...]] = []
    label = analysis.data.label
    for item in analysis.values("correlations").get("comparisons", []):
        name = label(item["function"])
        if failed(item["result"]):
            rows.append(
                (name, f"not done, because {item['result']['not_done_because']}", DASH, DASH)
            )
            continue
        result = item["result"]
        for key, words in TESTS.items():
            if key in result.tests:
                test = result.tests[key]
                rows.append((name, words, number(test.statistic, 3), p_value(test.p_value)))
        rows.append((name, "Difference of r (Zou's 95 % CI)", estimate(result.difference, 3), DASH))
    if not rows:
        return None
    return Table(
        "table3_correlation_tests",
        f"{label('score')} against {label('visual')}: whose correlation is closer",
        ("Lung function", "Test", "Statistic", "P"),
        rows,
        "Both scores were read in the same patients, so that a dependent test is the right one. A "
        "negative difference means that the first score falls more steeply with lung function.",
    )


def roc(analysis: Analysis) -> Table | None:
    """Areas, their comparison, and the cut-off."""
    values = analysis.values("roc")
    if not values:
        return None
    rows: list[tuple[str, ...]] = []
    for item in values["curves"]:
        part = item["result"]
        label = f"{item['label']}{' (low is worse)' if item['turned_round'] else ''}"
        if failed(part):
            rows.append((label, f"not done, because {part['not_done_because']}", *(DASH,) * 4))
            continue
        youden = part["youden"]
        cells = (
            (DASH,) * 3
            if failed(youden)
            else (
                number(-youden.cutoff if item["turned_round"] else youden.cutoff),
                percent_estimate(youden.point.sensitivity),
                percent_estimate(youden.point.specificity),
            )
        )
        rows.append((label, estimate(part["auc"], 3), p_of(part["auc"]), *cells))
    for item in values["comparisons"]:
        difference = DASH if failed(item["result"]) else estimate(item["result"].difference, 3)
        p = DASH if failed(item["result"]) else p_of(item["result"].difference)
        rows.append((item["label"], difference, p, DASH, DASH, DASH))
    return Table(
        "table5_roc",
        "ROC curves and their comparison",
        (
            "Measure",
            "AUC or difference (95 % CI)",
            "P",
            "Youden's cut-off",
            "Sensitivity (95 % CI)",
            "Specificity (95 % CI)",
        ),
        rows,
        f"Progression by {values['horizon_months']:g} months. AUC by DeLong (results.json has "
        "the logit-transformed interval too); P of an AUC against 0.5, of a difference by "
        "DeLong's paired test. Sensitivity and specificity are at a cut-off that the same "
        "patients chose.",
    )


def survival(analysis: Analysis) -> Table | None:
    """Survival at the horizons."""
    values = analysis.values("kaplan_meier")
    if not values:
        return None
    groups = values["groups"]
    sources = [("All", values["all"])]
    if not failed(groups):
        sources += [
            (f"{name.capitalize()} {analysis.data.label('score')}", groups[name])
            for name in ("low", "high")
        ]
    horizons = list(values["all"]["survival_at"])
    rows = [
        (
            label,
            str(part["n"]),
            str(part["events"]),
            *(percent_estimate(part["survival_at"][h]) for h in horizons),
            number(part["curve"].median.estimate, 1),
        )
        for label, part in sources
    ]
    note = "Kaplan-Meier, 95 % CI on the log-log scale."
    if failed(groups):
        note += f" No groups, because {groups['not_done_because']}."
    else:
        test = groups["log_rank"]
        note += f" Cut-off {number(groups['cutoff'])} ({groups['origin']})."
        note += (
            ""
            if failed(test)
            else f" Log-rank chi-squared {number(test.test.statistic)}, P "
            f"{p_value(test.test.p_value)}."
        )
    return Table(
        "table6_survival",
        "Progression-free survival",
        ("Group", "n", "Events", *(f"{h} months (95 % CI)" for h in horizons), "Median (months)"),
        rows,
        note,
    )
