"""Tables of logistic and Cox regression."""

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
)


def logistic(analysis: Analysis) -> Table | None:
    """Uni- and multivariable logistic regression."""
    values = analysis.values("logistic")
    if not values:
        return None
    return _ratios(
        values,
        "table4_logistic",
        "Logistic regression",
        short="OR",
        key="odds_ratio",
        note=f"Outcome: {values['outcome']}. Per SD: of the patients in the model. VIF: variance "
        "inflation factor.",
    )


def cox(analysis: Analysis) -> Table | None:
    """Uni- and multivariable Cox regression."""
    values = analysis.values("cox")
    if not values:
        return None
    return _ratios(
        values,
        "table7_cox",
        "Cox regression",
        short="HR",
        key="hazard_ratio",
        note="Ties by Efron. PH: P of the test of proportional hazards (Grambsch and Therneau); a "
        "small P speaks against proportional hazards.",
    )


def _ratios(
    values: dict[str, Any], name: str, title: str, *, short: str, key: str, note: str
) -> Table:
    rows: list[tuple[str, ...]] = []
    for item in values["univariable"]:
        rows += _ratio_rows(item["fit"], "univariable", item["label"], key)
    rows += _ratio_rows(values["multivariable"], "multivariable", "All together", key)
    if name == "table7_cox":
        rows += _ratio_rows(values["high_against_low"], "univariable", "High against low", key)
    last = "VIF" if short == "OR" else "PH"
    return Table(
        name,
        title,
        (
            "Model",
            "Covariate",
            "n (events)",
            f"{short} per unit (95 % CI)",
            "P",
            f"{short} per SD (95 % CI)",
            last,
        ),
        rows,
        note,
    )


def _ratio_rows(part: Any, model: str, label: str, key: str) -> list[tuple[str, ...]]:
    if failed(part):
        return [
            (model, label, f"not done, because {part['not_done_because']}", DASH, DASH, DASH, DASH)
        ]
    fit = part["model"]
    firth = getattr(fit, "penalty", "none") == "firth"
    hazards = part.get("proportional_hazards")
    rows: list[tuple[str, ...]] = []
    for term in fit.terms:
        ratio = getattr(term, key)
        if hazards is None:
            last = number(term.vif) if model == "multivariable" else DASH
        else:
            last = DASH if failed(hazards) else p_of(hazards.terms.get(term.name))
        rows.append(
            (
                f"{model}{' (Firth)' if firth else ''}",
                term.name,
                f"{fit.n} ({fit.events})",
                estimate(ratio, 3),
                p_value(ratio.p_value),
                estimate(getattr(term, f"{key}_per_sd")),
                last,
            )
        )
    return rows
