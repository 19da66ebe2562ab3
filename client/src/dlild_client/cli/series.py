"""`dlild series`: lists the series of a path, which one would be scored, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_client.cli.options import BY_TYPER, AsJson
from dlild_client.cli.screen import print_table
from dlild_client.errors import printable

if TYPE_CHECKING:
    from dlild_client.reading.survey import SeriesSummary, SeriesSurvey

COLUMNS = ("", "series", "why")


def series(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder, zip archive, DICOMDIR or DICOM file; nothing is sent.", readable=BY_TYPER
        ),
    ],
    series: Annotated[str | None, typer.Option(help="UID or number of a series to select.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the series of a path: which one would be scored, and why not the others.

    Exit code 3 if none would.
    """
    from dlild_client.reading.survey import survey_series  # noqa: PLC0415

    survey = survey_series(path, series=series)
    if as_json:
        print(json.dumps(_facts(survey), indent=2))
    elif survey.series:
        title = f"Series of {printable(path.name or str(path))}"
        print_table(title, COLUMNS, [_row(s) for s in survey.series])
        if survey.unreadable:
            print(f"{survey.unreadable} file(s) look like DICOM and cannot be read")
    if survey.error is not None:
        raise survey.error


def _facts(survey: SeriesSurvey) -> dict[str, object]:
    error = survey.error
    return {
        "series": [asdict(summary) for summary in survey.series],
        "unreadable": survey.unreadable,
        "error": None if error is None else error.kind,
        "message": None if error is None else str(error),
    }


def _row(summary: SeriesSummary) -> tuple[str, ...]:
    marks = {"chosen": "chosen", "lower": "lower", "aside": "set aside"}
    number = "" if summary.number is None else f"{summary.number}: "
    kind = " ".join(filter(None, (summary.modality, summary.body_part, summary.image_type)))
    facts = [f"{summary.images} image{'' if summary.images == 1 else 's'}"]
    if summary.step_mm is not None and summary.coverage_mm is not None:
        facts.append(f"every {summary.step_mm:g} mm over {summary.coverage_mm:g} mm")
    if summary.thickness_mm is not None:
        facts.append(f"{summary.thickness_mm:g} mm thick")
    if summary.kernel:
        facts.append(f"kernel {summary.kernel}")
    facts += filter(None, (summary.breath, summary.posture))
    return (
        marks[summary.verdict],
        "\n".join([number + kind, ", ".join(facts), summary.uid]),
        summary.reason,
    )
