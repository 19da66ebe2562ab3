"""`dlild verify`: verifies the files of a result."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dlild_client.cli.options import BY_TYPER, AsJson
from dlild_client.cli.screen import print_table

MARKS = {True: "ok", False: "differs", None: "not checked"}


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder of a result or of a comparison, or the JSON file of one.",
            readable=BY_TYPER,
        ),
    ],
    scan: Annotated[
        Path | None,
        typer.Option(
            help="The scan that was scored: read and preprocessed again.", readable=BY_TYPER
        ),
    ] = None,
    series: Annotated[str | None, typer.Option(help="UID or number of its series.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="File of the network, model.onnx.", readable=BY_TYPER),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a result: digests from scan to DICOM objects, sums, segments, measurements, texts.

    Of a comparison: its figures from those of its results, and its SR.

    Exit code 1 if something differs.
    """
    from dlild_client.reading.files import check_path  # noqa: PLC0415
    from dlild_client.reading.read import read_volume  # noqa: PLC0415
    from dlild_client.results.verify import verify_folder  # noqa: PLC0415

    read = None
    if scan is not None:
        check_path(scan)
        read = partial(read_volume, scan, series=series)
    checks = verify_folder(path, read, weights)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        rows = [(MARKS[check.agrees], check.what, check.found) for check in checks]
        print_table("Verification", ("", "what", "found"), rows)
    if any(check.agrees is False for check in checks):
        raise typer.Exit(1)
