"""The report as a Word document: headings, paragraphs, tables with three rules, figures."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dlild_analysis.progression import Outcome
from dlild_analysis.report.checklists import Checklist
from dlild_analysis.report.parts import Part
from dlild_analysis.steps.presentation.table import Table

FIXED = dt.datetime(2000, 1, 1)
"""Date of the document's properties and files, so that the same analysis gives the same bytes."""


def write_document(
    path: Path,
    title: str,
    made_by: str,
    *,
    summary: Iterable[tuple[str, str]],
    parts: Iterable[Part],
    methods: Iterable[str],
    rule: Outcome,
    notes: Sequence[str],
    checklists: Iterable[Checklist],
) -> Path:
    """Write the report as .docx.

    Parameters
    ----------
    path : Path
        Of the document.
    title, made_by : str
        Above it.
    summary : iterable of (str, str)
        Headings and sentences of page one.
    parts : iterable of Part
        The report's sections.
    methods : iterable of str
        Paragraphs of the methods section.
    rule : Outcome
        What counted as progression, with its source.
    notes : sequence of str
        What was noted of the table.
    checklists : iterable of Checklist
        The reporting checklists.
    """
    from docx import Document  # noqa: PLC0415 (needed only where a report is written)
    from docx.shared import Pt  # noqa: PLC0415

    document = Document()
    normal = document.styles["Normal"]
    normal.font.name, normal.font.size = "Times New Roman", Pt(11)
    document.core_properties.title = title
    document.core_properties.author = ""
    document.core_properties.created = document.core_properties.modified = FIXED
    document.add_heading(title, 0)
    document.add_paragraph(f"Research use only. {made_by}")
    for head, text in summary:
        paragraph = document.add_paragraph()
        paragraph.add_run(f"{head}. ").bold = True
        paragraph.add_run(text)
    document.add_page_break()  # type: ignore[no-untyped-call]
    document.add_heading("Progression", 1)
    document.add_paragraph(f"{rule.statement} ({rule.rule})")
    document.add_paragraph(rule.source)
    document.add_heading("Methods", 1)
    for text in methods:
        document.add_paragraph(text)
    document.add_heading("Results", 1)
    for part in parts:
        _part(document, part)
    document.add_heading("Notes on the table", 1)
    for text in notes or ["No fault was found in the table."]:
        document.add_paragraph(text, style="List Bullet")
    for checklist in checklists:
        document.add_heading(checklist.title, 1)
        document.add_paragraph(checklist.summary)
        rows = [
            (item.number, item.asks, f"{item.answer} {item.rest}".strip())
            for item in checklist.items
        ]
        _table(document, Table(checklist.name, "", ("Item", "Asks for", "Known"), rows))
    buffer = io.BytesIO()
    document.save(buffer)
    path.write_bytes(_same_bytes(buffer.getvalue()))
    return path


def _part(document: Any, part: Part) -> None:
    from docx.shared import Inches  # noqa: PLC0415

    document.add_heading(part.title, 2)
    if part.because:
        document.add_paragraph(f"Not done, because {part.because}.")
    if part.sentences:
        document.add_paragraph(" ".join(part.sentences))
    for table in part.tables:
        _table(document, table)
    for picture in part.figures:
        width = Inches(min(picture.inches, 6.3))
        document.add_picture(io.BytesIO(picture.image), width=width)
        paragraph = document.add_paragraph()
        paragraph.add_run(f"{picture.number}. ").bold = True
        paragraph.add_run(picture.caption)
    for text in part.warnings:
        document.add_paragraph(text, style="List Bullet")


def _table(document: Any, table: Table) -> None:
    from docx.shared import Pt  # noqa: PLC0415

    if table.title:
        caption = document.add_paragraph()
        caption.paragraph_format.keep_with_next = True
        caption.add_run(table.title).bold = True
    made = document.add_table(rows=1 + len(table.rows), cols=len(table.columns))
    for row, cells in zip(made.rows, [table.columns, *table.rows], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            run = cell.paragraphs[0].add_run(text)
            run.font.size = Pt(9)
            cell.paragraphs[0].paragraph_format.space_after = Pt(0)
    _rule(made.rows[0], top=12, bottom=6)
    _rule(made.rows[-1], bottom=12)
    if table.footnote:
        note = document.add_paragraph().add_run(table.footnote)
        note.font.size = Pt(8)


def _rule(row: Any, **sides: int) -> None:
    """Draw rules over or under a row; widths in eighths of a point."""
    from docx.oxml import OxmlElement  # noqa: PLC0415
    from docx.oxml.ns import qn  # noqa: PLC0415

    for cell in row.cells:
        properties = cell._tc.get_or_add_tcPr()
        borders = properties.find(qn("w:tcBorders"))
        if borders is None:
            borders = OxmlElement("w:tcBorders")
            properties.append(borders)
        for side, width in sides.items():
            line = OxmlElement(f"w:{side}")
            line.set(qn("w:val"), "single")
            line.set(qn("w:sz"), str(width))
            line.set(qn("w:color"), "000000")
            borders.append(line)


def _same_bytes(data: bytes) -> bytes:
    """Write a zip again with one date for all its files."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name, FIXED.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, old.read(name))
    return out.getvalue()
