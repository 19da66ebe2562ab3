"""The command `dlild-export`."""

from __future__ import annotations

import typer

from dlild_export.cli.data import check, contact_sheet, single_slices
from dlild_export.cli.evaluation import evaluate, reading, repeatability
from dlild_export.cli.phantom import phantom, phantom_check, plant
from dlild_export.cli.recipe import recipe
from dlild_export.cli.release import release, serve
from dlild_export.cli.serving import onnx, parity, tensorrt
from dlild_export.cli.training import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
COMMANDS = (
    phantom,
    phantom_check,
    plant,
    single_slices,
    contact_sheet,
    check,
    train,
    evaluate,
    repeatability,
    reading,
    onnx,
    parity,
    release,
    serve,
    tensorrt,
    recipe,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command."""
    app()
