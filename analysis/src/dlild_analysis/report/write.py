"""Writing the report: the same bytes for the same table, study and seed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dlild_analysis.report import methods
from dlild_analysis.report.checklists import Checklist, checklists
from dlild_analysis.report.document import write_document
from dlild_analysis.report.parts import Part, parts_of
from dlild_analysis.report.results import missing_counts, move_largest, results_dict, split_values
from dlild_analysis.report.summary import summary
from dlild_analysis.steps import Analysis, Progress
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.presentation import style


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
        What was written: `results.json` with `results_values.json`, `report.html`, `report.docx`,
        `model.json` (where a model could be fitted), `tables/*.csv` and `*.html`,
        `figures/*.png` and `*.svg`, `checklists/*.html`. Tables and figures of an earlier report
        in that folder are deleted.
    """
    shown = progress or Progress(quiet=True)
    for folder in ("tables", "figures", "checklists"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _delete_numbered(out)
    results, values = split_values(results_dict(analysis))
    while len(dump(results).encode()) > LARGEST and move_largest(results, values):
        pass
    written = [
        _write(out / "results.json", dump(results)),
        _write(out / "results_values.json", compact(values)),
    ]
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
    written.append(_write(out / "report.html", html))
    document = write_document(
        out / "report.docx",
        analysis.data.study.title,
        f"Made by dlild-analysis {analysis.versions['dlild-analysis']} from "
        f"{analysis.data.cohort.source}; seed {analysis.data.study.plan.seed}.",
        summary=summary(analysis),
        parts=parts,
        methods=methods.paragraphs(analysis),
        rule=analysis.outcome,
        notes=notes_of(analysis),
        checklists=lists,
    )
    return [*written, document]


def _delete_numbered(out: Path) -> None:
    """Delete tables and figures of an earlier report, whose numbers may be others."""
    for folder, kinds in (("tables", "table"), ("figures", "figure")):
        for path in (out / folder).iterdir():
            if re.fullmatch(rf"{kinds}\d+_\w+\.(csv|html|png|svg)", path.name):
                path.unlink()


def notes_of(analysis: Analysis) -> list[str]:
    """List what was noted of the table and of the outcome."""
    return [str(note) for note in (*analysis.data.cohort.notes, *analysis.outcome.notes)]


def font_note(parts: list[Part], texts: list[str]) -> str:
    """State that figures lack Chinese glyphs, where the study has them and no font does."""
    if style.chinese_font() or not any(style.has_chinese(text) for text in texts):
        return ""
    drawn = sum(len(part.figures) for part in parts)
    return (
        f"No font with Chinese characters is on this machine: the {drawn} figures show boxes in "
        "their place. Install one, such as Noto Sans CJK SC, and run fit again."
    )


WIDTH = 160
LARGEST = 100_000
"""Bytes of results.json: above, the values of the largest steps go into the side file too."""


def dump(data: Any) -> str:
    """Write JSON with sorted keys; what fits into a line stands on one."""
    return _lines(data, 0) + "\n"


def _lines(value: Any, depth: int) -> str:
    flat = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if len(flat) + depth <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner, indent = depth + 1, " " * (depth + 1)
    if isinstance(value, dict):
        parts = [
            f"{indent}{json.dumps(str(key), ensure_ascii=False)}: {_lines(value[key], inner)}"
            for key in sorted(value)
        ]
        left, right = "{", "}"
    else:
        parts = [indent + _lines(part, inner) for part in value]
        left, right = "[", "]"
    return f"{left}\n" + ",\n".join(parts) + f"\n{' ' * depth}{right}"


def compact(data: dict[str, Any]) -> str:
    """Write JSON with one list a line."""
    lines = [
        f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(data[key], ensure_ascii=False)}"
        for key in sorted(data)
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


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
    named = [study.title, *analysis.data.headings.values(), study.table.time_origin]
    return environment.get_template("report.html.j2").render(
        title=study.title,
        summary=summary(analysis),
        font_note=font_note(parts, named),
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
        notes=notes_of(analysis),
        checklists=lists,
    )
