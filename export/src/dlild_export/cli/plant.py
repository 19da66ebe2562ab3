"""`dlild-export plant`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import RepositoryOption, input_errors, progress_bar


def plant(
    scan: Annotated[
        Path,
        typer.Argument(metavar="CT", help="Chest CT without lesions: DICOM folder or NIfTI file."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write to; what it holds is kept.")],
    percent: Annotated[
        str, typer.Option(help="True DL-ILD of the cases; 0 is the scan as it is.")
    ] = "5,15,30,50",
    pattern: Annotated[
        str, typer.Option(help="Disease patterns: uip, nsip, organising, mixed.")
    ] = "uip,nsip,organising,mixed",
    seed: Annotated[int, typer.Option(min=0, help="Of places and textures.")] = 0,
    doubtful: Annotated[
        str,
        typer.Option(
            help="Solid tissue that a threshold cannot judge: lung; unknown, for training; or "
            "outside the lungs, for training on scans that are known to hold no lesion."
        ),
    ] = "lung",
    texture: Annotated[
        str,
        typer.Option(help="plain, or measured: cysts, walls and lines as fine as in patients."),
    ] = "plain",
    form: Annotated[
        str,
        typer.Option("--format", help="nnunet, dicom, both or cache, as for `phantom`."),
    ] = "nnunet",
    pixel: Annotated[float, typer.Option(help="DICOM: distance of two pixels, mm.")] = 0.75,
    slice_step: Annotated[
        float | None, typer.Option("--slice", help="DICOM: distance of two slices, mm.")
    ] = None,
    repository: RepositoryOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = min(4, os.cpu_count() or 1),
) -> None:
    """Plant lesions of known size in the lungs of a real scan: one case a pattern and percentage.

    The lungs are what a threshold finds, with vessels filled. The result lies on the model grid.
    """
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.phantom import Pattern  # noqa: PLC0415
    from dlild_export.phantom.planted import (  # noqa: PLC0415
        DOUBTFUL,
        ILL,
        TEXTURES,
        write_planted,
    )
    from dlild_export.phantom.writing import Writing  # noqa: PLC0415

    try:
        percents = [float(text) for text in percent.split(",")]
        patterns = [Pattern(text.strip()) for text in pattern.split(",")]
        writing = Writing(form=form, pixel_mm=pixel, slice_mm=slice_step)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if Pattern.NONE in patterns or not all(0 <= p <= 90 for p in percents):
        raise typer.BadParameter(
            f"{percent} % of {pattern}: give 0 to 90 % and patterns of {', '.join(ILL)}"
        )
    if texture not in TEXTURES:
        raise typer.BadParameter(f"texture is {texture!r}, give {' or '.join(TEXTURES)}")
    if doubtful not in DOUBTFUL:
        raise typer.BadParameter(f"doubtful is {doubtful!r}, give {' or '.join(DOUBTFUL)}")
    with input_errors(), progress_bar() as bar:
        task = bar.add_task("planted", total=None)
        contract = find_contract(repository)
        done = 0
        for _ in write_planted(
            scan,
            out,
            percents,
            contract=contract,
            writing=writing,
            patterns=patterns,
            seed=seed,
            doubtful=doubtful,
            texture=texture,
            workers=workers,
        ):
            done += 1
            bar.update(task, completed=done)
    print(f"{done} cases in {out}")
