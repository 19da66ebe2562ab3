"""The command `dlild-export`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from dlild_export.cli.data import check, contact_sheet, single_slices
from dlild_export.cli.evaluation import evaluate, reading, repeatability
from dlild_export.cli.phantom import phantom, phantom_check, plant
from dlild_export.cli.recipe import recipe
from dlild_export.cli.release import release, serve
from dlild_export.cli.serving import int8, onnx, parity, tensorrt
from dlild_export.cli.training import average, train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
COMMANDS = (
    phantom,
    phantom_check,
    plant,
    single_slices,
    contact_sheet,
    check,
    train,
    average,
    evaluate,
    repeatability,
    reading,
    onnx,
    parity,
    release,
    serve,
    int8,
    tensorrt,
    recipe,
)
for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print("dlild-export", version("dlild-export"))
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    app()
