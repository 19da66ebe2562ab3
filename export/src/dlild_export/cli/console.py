"""What the sub-commands share: where messages go, progress, and common options."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

stderr = Console(stderr=True)

LungMasksOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of lung masks (.nii.gz); every second phantom takes its shape there."
    ),
]

RepositoryOption = Annotated[
    Path | None,
    typer.Option(
        help="Model repository whose contract names grid and classes; model_repository here, or "
        "of the checkout, when left out."
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="THEIRS=OURS",
        help='What a label of the dataset means: "their name=our name", our name being background, '
        "lung, ground_glass, reticulation, honeycombing, consolidation or ignore. May be repeated.",
    ),
]


ContractOption = Annotated[Path, typer.Option(help="Contract of the model repository.")]


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """End with one line where something given cannot be used: exit code 3, or the error's own."""
    from dlild_client.errors import DlildError  # noqa: PLC0415

    try:
        yield
    except (OSError, ValueError, DlildError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        stderr.print(f"error: {reason}", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(error.exit_code if isinstance(error, DlildError) else 3) from None


def progress_bar() -> Progress:
    """Return a progress bar with the time left; silent without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=stderr, disable=not sys.stderr.isatty()
    )


def lung_mask_files(folder: Path | None) -> list[Path]:
    """Return the masks in a folder, none where no folder is given."""
    if folder is None:
        return []
    masks = sorted(folder.rglob("*.nii.gz"))
    if not masks:
        raise typer.BadParameter(f"no .nii.gz files in {folder}", param_hint="--lung-masks")
    return masks
