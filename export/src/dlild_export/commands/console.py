"""What the sub-commands share: where messages go, progress, and common options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def progress_bar() -> Progress:
    """Return a progress bar with the time left; silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=stderr, disable=not sys.stderr.isatty()
    )


@contextmanager
def reporting() -> Iterator[None]:
    """Turn an error of the tree into one line, and leave with its exit code."""
    from dlild_client.errors import DlildError  # noqa: PLC0415

    try:
        yield
    except DlildError as error:
        stderr.print(f"error: {error}", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        reason = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        stderr.print(f"error: {reason}", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(1) from None


def lung_mask_files(folder: Path | None) -> list[Path]:
    """Return the masks in a folder, none where no folder is given."""
    if folder is None:
        return []
    masks = sorted(folder.rglob("*.nii.gz"))
    if not masks:
        raise typer.BadParameter(f"no .nii.gz files in {folder}", param_hint="--lung-masks")
    return masks
