"""The report's sections: what each step has to show, tables and figures numbered as their files."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlild_analysis.steps import Analysis
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table, without_empty_columns
from dlild_analysis.steps.step import Finished


@dataclass(frozen=True)
class Picture:
    """A figure in the report.

    Attributes
    ----------
    name, number : str
        Stem of its files, and "Figure 3".
    image : bytes
        PNG.
    inches : float
        Width.
    """

    name: str
    number: str
    caption: str
    image: bytes
    inches: float

    @property
    def data(self) -> str:
        """The image for HTML."""
        return base64.b64encode(self.image).decode("ascii")

    @property
    def width(self) -> str:
        """The width in HTML."""
        return f"{self.inches * 1.15:.2f}in"


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


@dataclass
class _Numbers:
    """How many tables and figures there were."""

    tables: int = 0
    figures: int = 0


def parts_of(analysis: Analysis, folder: Path, written: list[Path]) -> list[Part]:
    """Make every step's part of the report, and write its figures.

    Tables and figures are numbered in the order of the report, and their files bear the number:
    figure 1 is the flow of patients, table 1 describes them; the numbers of the flow are the last
    table.

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
    flow, numbers = analysis.flow, _Numbers()
    with style.journal():
        for finished in (*([flow] if flow and flow.done else []), *analysis.steps.values()):
            chosen = finished.step.by_cutoff and finished.done
            words = [analysis.cutoff_words] if chosen and analysis.cutoff_words else []
            parts.append(
                Part(
                    finished.step.name,
                    finished.step.title,
                    [*finished.sentences(analysis.data), *words],
                    [] if finished is flow else _tables(finished, analysis, numbers, words),
                    _pictures(finished, analysis, folder, numbers, words, written),
                    finished.because,
                    () if finished is flow else finished.warnings,
                )
            )
    if flow and flow.done:
        rows = _tables(flow, analysis, numbers, [])
        parts.append(Part("flow_table", "Patients of each model", [], rows, [], "", ()))
    return parts


def _tables(
    finished: Finished[Any], analysis: Analysis, numbers: _Numbers, words: list[str]
) -> list[Table]:
    tables = []
    for made in map(without_empty_columns, finished.tables(analysis)):
        numbers.tables += 1
        headings = analysis.data.headings if made.with_headings else {}
        tables.append(
            replace(
                made,
                name=f"table{numbers.tables}_{made.name}",
                title=f"Table {numbers.tables}. {made.title}",
                columns=tuple(headings.get(head, head) for head in made.columns),
                rows=[tuple(headings.get(cell, cell) for cell in row) for row in made.rows],
                footnote=" ".join([made.footnote, *words]).strip(),
            )
        )
    return tables


def _pictures(
    finished: Finished[Any],
    analysis: Analysis,
    folder: Path,
    numbers: _Numbers,
    words: list[str],
    written: list[Path],
) -> list[Picture]:
    pictures: list[Picture] = []
    for drawing, made in finished.figures(analysis):
        numbers.figures += 1
        name = f"figure{numbers.figures}_{drawing.name}"
        image = style.png(made)
        (folder / f"{name}.png").write_bytes(image)
        (folder / f"{name}.svg").write_bytes(style.svg(made))
        written += [folder / f"{name}.png", folder / f"{name}.svg"]
        pictures.append(
            Picture(
                name,
                f"Figure {numbers.figures}",
                " ".join([drawing.caption, *words]),
                image,
                float(made.get_size_inches()[0]),
            )
        )
    return pictures
