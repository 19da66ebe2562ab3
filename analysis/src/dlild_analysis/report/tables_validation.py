"""Tables of internal validation and calibration."""

from __future__ import annotations

from typing import Any

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.pipeline.validation import unstable
from dlild_analysis.report.table import Table
from dlild_analysis.report.text import DASH, estimate, number


def get(part: Any, name: str) -> Any:
    """Take an attribute of a result; None where the result could not be had."""
    return None if part is None or failed(part) else getattr(part, name)


def validation(analysis: Analysis) -> Table | None:
    """Cross-validated and optimism-corrected performance."""
    crossed = {item["name"]: item for item in analysis.values("cross_validation").get("models", [])}
    boot = {item["name"]: item for item in analysis.values("optimism").get("logistic", [])}
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys((*crossed, *boot)):
        item = crossed.get(name) or boot[name]
        bootstrap = boot.get(name, {}).get("auc")
        slope = boot.get(name, {}).get("calibration_slope")
        rows.append(
            (
                f"{item['label']}: AUC",
                str(item["n"]),
                number(get(bootstrap, "apparent"), 3),
                estimate(get(crossed.get(name, {}).get("auc"), "performance"), 3),
                estimate(get(bootstrap, "corrected"), 3),
            )
        )
        if slope is not None:
            rows.append(
                (
                    f"{item['label']}: calibration slope",
                    str(item["n"]),
                    number(get(slope, "apparent"), 3),
                    DASH,
                    _slope(slope),
                )
            )
    cutoff = analysis.values("cross_validation").get("cutoff")
    if cutoff is not None and not failed(cutoff):
        rows.append(
            (
                "Youden index of a cut-off chosen in each fold",
                str(cutoff["youden_index"].performance.n),
                number(cutoff["apparent"], 3),
                estimate(cutoff["youden_index"].performance, 3),
                DASH,
            )
        )
    for item in analysis.values("optimism").get("cox", []):
        part = item["harrell_c"]
        rows.append(
            (
                f"{item['label']}: Harrell's C (Cox)",
                DASH if failed(part) else str(part.corrected.n),
                number(get(part, "apparent"), 3),
                DASH,
                estimate(get(part, "corrected"), 3),
            )
        )
    if not rows:
        return None
    plan = analysis.data.study.plan
    return Table(
        "table8_validation",
        "Internal validation",
        (
            "Model and measure",
            "n",
            "Apparent",
            "Cross-validated (95 % CI)",
            "Optimism-corrected (95 % CI)",
        ),
        rows,
        f"{plan.folds}-fold stratified cross-validation, {plan.repeats} repeats, interval by "
        f"Nadeau and Bengio; {plan.bootstraps} bootstraps. Spline, selection and cut-off were "
        "chosen anew in every fold and bootstrap.",
    )


def _slope(slope: Any) -> str:
    """Write a corrected slope, or its range where the mean is no result."""
    if failed(slope) or not unstable(slope):
        return estimate(get(slope, "corrected"), 3)
    return f"not stable ({number(slope.lowest, 2)} to {number(slope.highest, 2)})"


def calibration(analysis: Analysis) -> Table | None:
    """Calibration of risks."""
    values = analysis.values("calibration")
    items = [*values.get("binary", []), *values.get("survival", [])]
    rows = []
    for item in items:
        part = item["result"]
        if failed(part):
            rows.append(
                (
                    item["label"],
                    item["risks"],
                    f"not done, because {part['not_done_because']}",
                    *(DASH,) * 4,
                )
            )
            continue
        rows.append(
            (
                item["label"],
                item["risks"],
                estimate(part.slope),
                estimate(part.intercept),
                number(part.ici, 3),
                estimate(part.brier, 3),
                f"{number(part.expected, 3)} / {number(part.observed, 3)}",
            )
        )
    if not rows:
        return None
    return Table(
        "table9_calibration",
        "Calibration",
        (
            "Model",
            "Risks",
            "Slope (95 % CI)",
            "Intercept (95 % CI)",
            "ICI",
            "Brier (95 % CI)",
            "Expected / observed",
        ),
        rows,
        "Right: slope 1, intercept 0. ICI: integrated calibration index, the mean distance of the "
        "curve from the diagonal.",
    )
