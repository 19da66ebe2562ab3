"""The command `dlild-export`."""

from __future__ import annotations

import typer

from dlild_export.cli.check import check
from dlild_export.cli.contact_sheet import contact_sheet
from dlild_export.cli.evaluate import evaluate
from dlild_export.cli.onnx import onnx
from dlild_export.cli.parity import parity
from dlild_export.cli.phantom import phantom
from dlild_export.cli.phantom_check import phantom_check
from dlild_export.cli.plant import plant
from dlild_export.cli.reading import reading
from dlild_export.cli.recipe import recipe
from dlild_export.cli.release import release, serve
from dlild_export.cli.repeatability import repeatability
from dlild_export.cli.tensorrt import tensorrt
from dlild_export.cli.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
COMMANDS = (
    phantom,
    phantom_check,
    plant,
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
