"""Writing the report: the same bytes for the same table, study and seed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline import Analysis, Progress
from dlild_analysis.pipeline.run import missing_counts
from dlild_analysis.prediction.model import build_model
from dlild_analysis.report import (
    figures_more,
    figures_paper,
    flow,
    methods,
    style,
    tables_more,
    tables_paper,
    tables_regression,
    tables_validation,
)
from dlild_analysis.report.checklists import checklists
from dlild_analysis.report.sections import parts
from dlild_analysis.report.table import Table
from dlild_analysis.stats.errors import StatisticsError

FIGURES: dict[str, tuple[Callable[[Analysis], Figure | None], str]] = {
    "figure12_flow": (
        flow.figure,
        "Flow of patients from the table to the main models; a patient may lack several values.",
    ),
    "figure1_scatter": (
        figures_paper.scatter,
        "Scores against lung function, with straight line and Pearson's r (95 % CI).",
    ),
    "figure2_roc": (
        figures_paper.roc,
        "ROC curves for progression by the last horizon; the dot marks the cut-off.",
    ),
    "figure3_survival": (
        figures_paper.survival,
        "Progression-free survival by high and low score (Kaplan-Meier, 95 % bands).",
    ),
    "figure4_forest": (
        figures_paper.forest,
        "Hazard ratios per standard deviation, alone and together.",
    ),
    "figure5_calibration": (
        figures_more.calibration,
        "Calibration curves; the dashed diagonal is perfect calibration.",
    ),
    "figure6_decision": (figures_more.decision, "Decision curves of cross-validated risks."),
    "figure7_time_auc": (
        figures_more.time_auc,
        "AUC over time, weighted for censoring, with pointwise 95 % bands of the scores.",
    ),
    "figure8_incidence": (
        figures_more.incidence,
        "Cumulative incidence of progression and of death before it (Aalen-Johansen).",
    ),
    "figure9_agreement": (
        figures_more.agreement,
        "Repeated readings: bias and limits of agreement with 95 % bands.",
    ),
    "figure10_cutoffs": (
        figures_more.cutoffs,
        "Log-rank statistic at every cut-off, and the price of choosing the best.",
    ),
    "figure11_rules": (
        figures_more.rules,
        "Hazard ratio of the score under every progression rule.",
    ),
}
TABLES: tuple[Callable[[Analysis], Table | None], ...] = (
    tables_paper.table_one,
    tables_paper.correlations,
    tables_paper.correlation_tests,
    tables_regression.logistic,
    tables_paper.roc,
    tables_paper.survival,
    tables_regression.cox,
    tables_validation.validation,
    tables_validation.calibration,
    tables_more.discrimination,
    tables_more.incremental,
    tables_more.competing,
    tables_more.agreement,
    tables_more.rules,
    tables_more.imputed,
    flow.table,
)


@dataclass(frozen=True)
class Picture:
    """A figure in the HTML report."""

    number: str
    caption: str
    data: str
    width: str


def write_report(analysis: Analysis, out: Path, progress: Progress | None = None) -> list[Path]:
    """Write everything that a study's analysis has to show.

    Parameters
    ----------
    analysis : Analysis
        From `analyse`.
    out : Path
        Folder; it is made, and files in it of the same name are replaced.

    Returns
    -------
    list of Path
        What was written: `results.json`, `report.html`, `model.json` (where a model could be
        fitted), `tables/*.csv` and `*.html`, `figures/*.png` and `*.svg`, `checklists/*.html`.
    """
    shown = progress or Progress(quiet=True)
    for folder in ("tables", "figures", "checklists"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    written = []
    model, why_not = _model(analysis)
    results = analysis.as_dict()
    results["model"] = {"file": "model.json"} if model else {"not_done_because": why_not}
    written.append(_write(out / "results.json", dump(results)))
    if model:
        written.append(_write(out / "model.json", dump(model)))
    shown.step("Tables and figures")
    environment = _environment()
    tables = {table.name: table for make in TABLES if (table := make(analysis)) is not None}
    for name, table in tables.items():
        written.append(_write(out / "tables" / f"{name}.csv", table.csv()))
        html = environment.get_template("single_table.html.j2").render(item=table)
        written.append(_write(out / "tables" / f"{name}.html", html))
    pictures = _figures(analysis, out / "figures", written)
    lists = checklists(analysis, model is not None)
    for item in lists:
        html = environment.get_template("checklist.html.j2").render(list=item)
        written.append(_write(out / "checklists" / f"{item.name}.html", html))
    written.append(
        _write(
            out / "report.html",
            _report(
                analysis,
                environment,
                tables=tables,
                pictures=pictures,
                lists=lists,
                why_not=why_not,
            ),
        )
    )
    return written


def dump(data: dict[str, Any]) -> str:
    """Write JSON with sorted keys."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _model(analysis: Analysis) -> tuple[dict[str, Any] | None, str]:
    try:
        return build_model(analysis), ""
    except (NotDoneError, StatisticsError) as error:
        return None, str(error)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dlild_analysis", "report/templates"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _figures(analysis: Analysis, folder: Path, written: list[Path]) -> dict[str, Picture]:
    pictures: dict[str, Picture] = {}
    with style.journal():
        for name, (draw, caption) in FIGURES.items():
            made = draw(analysis)
            if made is None:
                continue
            image = style.png(made)
            (folder / f"{name}.png").write_bytes(image)
            (folder / f"{name}.svg").write_bytes(style.svg(made))
            written += [folder / f"{name}.png", folder / f"{name}.svg"]
            data = base64.b64encode(image).decode("ascii")
            width = f"{made.get_size_inches()[0] * 1.15:.2f}in"
            pictures[name] = Picture(f"Figure {len(pictures) + 1}", caption, data, width)
    return pictures


def _report(
    analysis: Analysis,
    environment: Environment,
    *,
    tables: dict[str, Table],
    pictures: dict[str, Picture],
    lists: list[Any],
    why_not: str,
) -> str:
    study = analysis.data.study
    gaps = [
        f"{item['label']} {item['missing']} of {item['of']}"
        for item in missing_counts(analysis.data)
        if item["missing"]
    ]
    paragraphs = methods.paragraphs(analysis)
    if why_not:
        paragraphs.append(f"No progression model was saved, because {why_not}.")
    return environment.get_template("report.html.j2").render(
        title=study.title,
        source=analysis.data.cohort.source,
        seed=study.plan.seed,
        versions=analysis.versions,
        rule=analysis.outcome,
        parts=parts(analysis),
        tables=tables,
        figures=pictures,
        methods=paragraphs,
        method_list=methods.method_list(analysis),
        missing="; ".join(gaps) or "none",
        missing_policy=methods.missing_values(analysis.data.study),
        software="; ".join(f"{name} {version}" for name, version in analysis.versions.items()),
        notes=[str(note) for note in (*analysis.data.cohort.notes, *analysis.outcome.notes)],
        checklists=lists,
    )
