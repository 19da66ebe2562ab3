"""`dlild-export reading`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dlild_export.cli.console import RepositoryOption, input_errors, stderr

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlild_client.contract import Contract
    from dlild_client.volume import Volume
    from dlild_export.readers.compare import Comparison


def reading(
    study: Annotated[
        Path, typer.Argument(help="TOML or JSON file that names scans and readers, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reading"),
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Score the CTs with these weights (ONNX file, checkpoint, run) in place of the "
            "label maps of the study."
        ),
    ] = None,
    repository: RepositoryOption = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw every slice that was outlined.")
    ] = True,
    shown: Annotated[int, typer.Option(min=0, help="Slices on the page, the worst first.")] = 8,
) -> None:
    """Hold label maps against readers' outlines or extents, and readers against each other.

    Only slices that a reader read count. OUT gets reading.html, reading.json and pictures/.
    """
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.readers import compare_study, read_study, write_reading_report  # noqa: PLC0415
    from dlild_export.readers.pictures import PictureFolder  # noqa: PLC0415
    from dlild_export.readers.report import PICTURES, About  # noqa: PLC0415

    with input_errors():
        given = read_study(study)
        out.mkdir(parents=True, exist_ok=True)
        score: Callable[[Volume], Volume] | None = None
        if weights:
            contract, score, labels = _scorer(weights, repository)
        else:
            contract, labels = find_contract(repository), "of the study"
        draw = PictureFolder(out / PICTURES, contract) if pictures else None
        found = compare_study(given, contract, score=score, draw=draw, progress=_say)
        about = About(given.name, labels, len(given.scans))
        page = write_reading_report(found, about, contract, out, shown=shown)
    for comparison in found:
        _show(comparison)
    print(f"report: {page}")


def _scorer(
    weights: Path, repository: Path | None
) -> tuple[Contract, Callable[[Volume], Volume], str]:
    from dlild_export.evaluation import load_served  # noqa: PLC0415
    from dlild_export.evaluation.score import score_volume  # noqa: PLC0415

    served = load_served(weights, repository=repository)

    def score(volume: Volume) -> Volume:
        scored = score_volume(volume, served.run, served.contract)
        return scored.grid.with_array(scored.labels)

    return served.contract, score, f"weights {served.digest[:16]}, {served.engine}"


def _say(line: str) -> None:
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(c: Comparison) -> None:
    from dlild_export.evaluation.page import number  # noqa: PLC0415

    table = Table(title=f"{c.first} and {c.second}", title_justify="left", box=None, pad_edge=False)
    columns = ("", "slices", f"{c.first}, %", f"{c.second}, %", "Dice", "sensitivity", "precision")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    rows = [*c.scans.items(), ("all", c.figures)] if c.figures else []
    for name, f in rows:
        assert f is not None
        shares = (number(v) for v in (f.dice, f.sensitivity, f.precision))
        extents = (number(v, 1) for v in (f.first_percent, f.second_percent))
        table.add_row(name, str(f.slices), *extents, *shares)
    if rows:
        Console().print(table)
    for words, a in (("slices", c.over_slices), ("scans", c.over_scans), ("zones", c.over_zones)):
        if a:
            print(
                f"{c.first} and {c.second}, extents of {a.score.cases} {words}: bias "
                f"{number(a.score.bias.value, 1)} points, mean absolute difference "
                f"{number(a.score.mean_absolute_error.value, 1)}, ICC {number(a.icc.value)}"
            )
