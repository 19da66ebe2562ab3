"""Writing the report: the same bytes for the same table, study and seed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dlild_analysis.report import methods
from dlild_analysis.report.checklists import Checklist, checklists
from dlild_analysis.report.results import missing_counts, results_dict
from dlild_analysis.steps import Analysis, Progress
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.step import Finished


@dataclass(frozen=True)
class Picture:
    """A figure in the HTML report."""

    name: str
    number: str
    caption: str
    data: str
    width: str


@dataclass(frozen=True)
class Part:
    """One step's part of the report.

    Attributes
    ----------
    step, title : str
        Name of the step, and its heading.
    sentences : list of str
        The results; empty where the step was not done.
    tables : list of Table
        Its tables.
    figures : list of Picture
        Its figures.
    because : str
        Why the step was not done.
    warnings : tuple of str
        Every reservation.
    """

    step: str
    title: str
    sentences: list[str]
    tables: list[Table]
    figures: list[Picture]
    because: str
    warnings: tuple[str, ...]


def write_report(analysis: Analysis, out: Path, progress: Progress | None = None) -> list[Path]:
    """Write everything that a study's analysis has to show; nothing is computed here.

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
    written = [_write(out / "results.json", dump(results_dict(analysis)))]
    if not isinstance(analysis.model, NotDone):
        written.append(_write(out / "model.json", dump(analysis.model)))
    shown.step("Tables and figures")
    environment = html_environment()
    parts = parts_of(analysis, out / "figures", written)
    for table in (table for part in parts for table in part.tables):
        written.append(_write(out / "tables" / f"{table.name}.csv", table.csv()))
        html = environment.get_template("single_table.html.j2").render(item=table)
        written.append(_write(out / "tables" / f"{table.name}.html", html))
    lists = checklists(analysis)
    for item in lists:
        html = environment.get_template("checklist.html.j2").render(list=item)
        written.append(_write(out / "checklists" / f"{item.name}.html", html))
    html = _report(analysis, environment, parts=parts, lists=lists)
    return [*written, _write(out / "report.html", html)]


def parts_of(analysis: Analysis, folder: Path, written: list[Path]) -> list[Part]:
    """Make every step's part of the report, and write its figures.

    Parameters
    ----------
    analysis : Analysis
        The analysis.
    folder : Path
        Folder of the figures.
    written : list of Path
        The files are added to it.
    """
    parts: list[Part] = []
    flow = analysis.flow
    with style.journal():
        for finished in (*([flow] if flow and flow.done else []), *analysis.steps.values()):
            drawn = sum(len(part.figures) for part in parts)
            parts.append(
                Part(
                    finished.step.name,
                    finished.step.title,
                    finished.sentences(analysis.data),
                    [table for make in finished.step.tables if (table := make(analysis))],
                    _pictures(finished, analysis, folder, drawn, written),
                    finished.because,
                    () if finished is flow else finished.warnings,
                )
            )
    return parts


def _pictures(
    finished: Finished[Any], analysis: Analysis, folder: Path, drawn: int, written: list[Path]
) -> list[Picture]:
    pictures: list[Picture] = []
    for drawing in finished.step.figures:
        made = drawing.draw(analysis)
        if made is None:
            continue
        image, name = style.png(made), drawing.name
        (folder / f"{name}.png").write_bytes(image)
        (folder / f"{name}.svg").write_bytes(style.svg(made))
        written += [folder / f"{name}.png", folder / f"{name}.svg"]
        data = base64.b64encode(image).decode("ascii")
        width = f"{made.get_size_inches()[0] * 1.15:.2f}in"
        number = f"Figure {drawn + len(pictures) + 1}"
        pictures.append(Picture(name, number, drawing.caption, data, width))
    return pictures


def dump(data: dict[str, Any]) -> str:
    """Write JSON with sorted keys."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def html_environment() -> Environment:
    """Make the environment of the report's templates."""
    return Environment(
        loader=PackageLoader("dlild_analysis", "report/templates"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _report(
    analysis: Analysis, environment: Environment, *, parts: list[Part], lists: list[Checklist]
) -> str:
    study = analysis.data.study
    gaps = [
        f"{item['label']} {item['missing']} of {item['of']}"
        for item in missing_counts(analysis.data)
        if item["missing"]
    ]
    paragraphs = methods.paragraphs(analysis)
    if isinstance(analysis.model, NotDone):
        paragraphs.append(
            f"No progression model was saved, because {analysis.model.not_done_because}."
        )
    return environment.get_template("report.html.j2").render(
        title=study.title,
        source=analysis.data.cohort.source,
        seed=study.plan.seed,
        versions=analysis.versions,
        rule=analysis.outcome,
        parts=parts,
        methods=paragraphs,
        method_list=methods.method_list(analysis),
        missing="; ".join(gaps) or "none",
        missing_policy=methods.missing_values(analysis.data.study),
        software="; ".join(f"{name} {version}" for name, version in analysis.versions.items()),
        notes=[str(note) for note in (*analysis.data.cohort.notes, *analysis.outcome.notes)],
        checklists=lists,
    )
