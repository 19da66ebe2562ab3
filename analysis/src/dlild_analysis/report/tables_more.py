"""Tables beyond the paper."""

from __future__ import annotations

from typing import Any

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.report.table import Table
from dlild_analysis.report.tables_validation import get
from dlild_analysis.report.text import DASH, estimate, number, p_of, p_value, percent_estimate


def discrimination(analysis: Analysis) -> Table | None:
    """Time-dependent AUC and concordance."""
    at = analysis.values("time_auc").get("at", [])
    measures = analysis.values("concordance").get("measures", [])
    if not at and not measures:
        return None
    names = {item["name"]: item["label"] for item in measures}
    names |= {part["name"]: part["label"] for item in at for part in item["measures"]}
    rows: list[tuple[str, ...]] = []
    for name, label in names.items():
        found = next((item for item in measures if item["name"] == name), None)
        areas = [
            next((part["auc"] for part in item["measures"] if part["name"] == name), None)
            for item in at
        ]
        rows.append(
            (
                label,
                *(estimate(area, 3) for area in areas),
                estimate(found and found["harrell"], 3),
                estimate(found and found["uno"], 3),
            )
        )
    compared = analysis.values("time_auc").get("comparisons", [])
    for item in analysis.values("concordance").get("comparisons", []):
        areas = [
            next(
                (
                    c["result"]
                    for c in compared
                    if c["label"] == item["label"] and c["horizon_months"] == a["horizon_months"]
                ),
                None,
            )
            for a in at
        ]
        rows.append(
            (
                item["label"],
                *(_difference(area) for area in areas),
                _difference(item["harrell"]),
                _difference(item["uno"]),
            )
        )
    heads = tuple(f"AUC ({item['horizon_months']:g} months)" for item in at)
    return Table(
        "table10_discrimination",
        "Discrimination over time",
        ("Measure or difference", *heads, "Harrell's C", "Uno's C"),
        rows,
        "AUC of cases by, against patients free of the event beyond, each month, weighted for "
        "censoring. Differences with P.",
    )


def _difference(part: Any) -> str:
    if part is None or failed(part):
        return DASH
    return f"{estimate(part.difference, 3)}, P {p_of(part.difference)}"


def incremental(analysis: Analysis) -> Table | None:
    """Show what the score adds."""
    rows = []
    for item in analysis.values("incremental").get("models", []):
        time, two = item["time_to_event"], item["two_way"]
        ratio = None if failed(time) else time["likelihood_ratio"]
        compare = None if failed(time) else time["concordance"]
        classes = None if failed(two) else two["reclassification"]
        rows.append(
            (
                item["base"],
                DASH if ratio is None else str(time["n"]),
                DASH if ratio is None else f"{number(ratio.statistic)}, P {p_value(ratio.p_value)}",
                estimate(get(compare, "difference"), 3),
                p_of(get(compare, "difference")),
                estimate(get(classes, "nri")),
                estimate(get(classes, "idi"), 3),
            )
        )
    if not rows:
        return None
    return Table(
        "table11_incremental",
        f"What {analysis.data.label('score')} adds",
        (
            "To a model of",
            "n",
            "Likelihood ratio (Cox)",
            "Gain in Harrell's C (95 % CI)",
            "P",
            "Continuous NRI",
            "IDI",
        ),
        rows,
        "The likelihood ratio is the test to read. NRI and IDI are given because readers ask for "
        "them: both reward models that are merely miscalibrated, and their intervals are "
        "unreliable (Hilden and Gerds 2014; Kerr et al. 2014).",
    )


def competing(analysis: Analysis) -> Table | None:
    """Incidence with competing death, and the regressions."""
    values = analysis.values("competing_risks")
    if not values:
        return None
    sources = {"All": values["all"]}
    if not failed(values["groups"]):
        sources |= {f"{name.capitalize()} score": part for name, part in values["groups"].items()}
    rows = [
        (f"{who}: {cause}", *(percent_estimate(value) for value in part["incidence_at"].values()))
        for who, parts in sources.items()
        for cause, part in parts.items()
    ]
    horizons = list(values["all"]["progression"]["incidence_at"])
    words = []
    for title, key in (
        ("cause-specific HR", "cause_specific"),
        ("Fine-Gray subdistribution HR", "fine_gray"),
    ):
        for item in values[key]:
            if not failed(item["fit"]):
                term = item["fit"].terms[0]
                words.append(
                    f"{item['cause']}, {title} of {term.name} per SD "
                    f"{estimate(term.hazard_ratio_per_sd)}"
                )
    return Table(
        "table12_competing",
        "Cumulative incidence (Aalen-Johansen)",
        ("Group and event", *(f"{h} months (95 % CI)" for h in horizons)),
        rows,
        ("; ".join(words) + ".") if words else "",
    )


def agreement(analysis: Analysis) -> Table | None:
    """Agreement of repeated readings."""
    values = analysis.values("agreement")
    if not values:
        return None
    rows: list[tuple[str, ...]] = []
    if not failed(values["icc"]):
        icc = values["icc"]
        rows += [
            ("ICC(2,1), absolute agreement", estimate(icc.icc_2_1, 3)),
            ("ICC(3,1), consistency", estimate(icc.icc_3_1, 3)),
        ]
    for pair in values["pairs"]:
        part = pair["bland_altman"]
        if not failed(part):
            name = f"{pair['a']} \N{MINUS SIGN} {pair['b']}"
            rows += [
                (f"{name}: bias", estimate(part.bias)),
                (f"{name}: lower limit", estimate(part.lower_limit)),
                (f"{name}: upper limit", estimate(part.upper_limit)),
                (
                    f"{name}: slope of difference on mean",
                    f"P {p_value(part.proportional_bias.p_value)}",
                ),
            ]
    if not failed(values["repeatability"]):
        rows += [
            ("Within-subject SD", estimate(values["repeatability"].within_subject_sd)),
            ("Repeatability coefficient", estimate(values["repeatability"].coefficient)),
        ]
    return Table(
        "table13_agreement",
        "Agreement of repeated readings",
        ("Quantity", "Estimate (95 % CI)"),
        rows,
        f"{values['n']} patients with all readings; {values['incomplete']} without were left out.",
    )


def rules(analysis: Analysis) -> Table | None:
    """Conclusions under every rule."""
    rows: list[tuple[str, ...]] = []
    for row in analysis.values("rules").get("rules", []):
        if "not_done_because" in row:
            rows.append(
                (
                    row["rule"],
                    row["death"],
                    f"not done, because {row['not_done_because']}",
                    *(DASH,) * 4,
                )
            )
            continue
        term, test = row["cox_score"], row["log_rank"]
        rows.append(
            (
                row["rule"],
                row["death"],
                f"{row['events']} of {row['patients']}"
                + (f" (+ {row['competing_events']} deaths)" if row["competing_events"] else ""),
                DASH if failed(term) else estimate(term.hazard_ratio_per_sd),
                DASH if failed(term) else p_of(term.hazard_ratio),
                estimate(row["time_auc_score"], 3),
                DASH if failed(test) else p_value(test.test.p_value),
            )
        )
    if not rows:
        return None
    return Table(
        "table14_rules",
        "How the conclusions change with the rule",
        (
            "Rule",
            "Death as",
            "Events",
            "HR per SD (95 % CI)",
            "P",
            "AUC at the horizon (95 % CI)",
            "Log-rank P",
        ),
        rows,
        "HR and AUC of the score. Cut-offs for the log-rank test were chosen anew under each rule.",
    )


def imputed(analysis: Analysis) -> Table | None:
    """Pooled models after multiple imputation."""
    values = analysis.values("imputation")
    if not values:
        return None
    rows: list[tuple[str, ...]] = []
    for key, title in (("cox", "Cox, HR"), ("logistic", "Logistic, OR")):
        if failed(values[key]):
            rows.append(
                (title, f"not done, because {values[key]['not_done_because']}", DASH, DASH, DASH)
            )
            continue
        for item in values[key]:
            low, high = item["ratio_ci"]
            rows.append(
                (
                    title,
                    item["name"],
                    f"{item['n']} ({item['events']})",
                    f"{number(item['ratio'], 3)} ({number(low, 3)} to {number(high, 3)})",
                    p_value(item["log_ratio"].p_value),
                )
            )
    return Table(
        "table15_imputed",
        "Multivariable models after multiple imputation",
        ("Model", "Covariate", "n (events)", "Ratio per unit (95 % CI)", "P"),
        rows,
        f"{values['imputations']} tables; {values['values_imputed']} values imputed. "
        f"{values['method']}.",
    )
