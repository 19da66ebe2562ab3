"""Coherence audit: whether published figures can be true together.

A table of checks (TOML) names figures as they are printed; each check answers with its formula, its
numbers and a verdict. Checks are found by general names, so that any paper's figures can be tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from dlild_analysis.audit import correlation_checks, pair_checks, survival_checks
from dlild_analysis.audit.finding import Finding, Verdict
from dlild_analysis.cohort.toml_section import Section, read_toml
from dlild_analysis.errors import StudyError

__all__ = ["CHECKS", "Finding", "Verdict", "audit", "example_path"]

CHECKS: dict[str, Callable[[Section], Finding]] = {
    "events-against-survival": survival_checks.events_against_survival,
    "hazard-ratio-against-survival": survival_checks.hazard_ratio_against_survival,
    "hazard-ratio-against-events": survival_checks.hazard_ratio_against_events,
    "survival-difference-against-p": survival_checks.survival_difference_against_p,
    "statistic-against-p": pair_checks.statistic_against_p,
    "ci-against-p": pair_checks.ci_against_p,
    "auc-against-counts": pair_checks.auc_against_counts,
    "percent-against-counts": pair_checks.percent_against_counts,
    "correlation-against-p": pair_checks.correlation_against_p,
    "z-against-correlations": correlation_checks.z_against_correlations,
}


def example_path(name: str = "paper") -> Path:
    """Give the path of a packaged audit table."""
    return Path(str(resources.files("dlild_analysis") / "examples" / f"{name}.toml"))


def audit(path: Path) -> tuple[str, list[Finding]]:
    """Run every check of an audit table.

    Parameters
    ----------
    path : Path
        TOML with `title` and one `[[check]]` a check; `kind` names it, the rest are its figures.

    Returns
    -------
    title : str
    findings : list of Finding
        In the order of the table.

    Raises
    ------
    StudyError
        The table is not understood; the message names the check and the key.
    """
    data: dict[str, Any] = read_toml(path)
    top = Section(data, "", path.name)
    version = top.integer("schema_version", 1, 1, 1_000)
    if version != 1:
        raise StudyError(f"{path.name}: schema_version is {version}; this package reads version 1")
    title = str(top.text("title", path.stem))
    checks = top.raw("check")
    top.finish()
    if not isinstance(checks, list) or not checks:
        raise StudyError(f"{path.name}: no [[check]]; known kinds: {', '.join(CHECKS)}")
    return title, [_run(item, index, path.name) for index, item in enumerate(checks)]


def _run(item: object, index: int, source: str) -> Finding:
    section = Section(item, f"check[{index}]", source)
    kind = section.choice("kind", tuple(CHECKS), "")
    title = str(section.text("title", kind))
    assumption = section.text("assumption", "") if "assumption" in section else ""
    finding = replace(CHECKS[kind](section), title=title, assumption=assumption or "")
    section.finish()
    return finding
