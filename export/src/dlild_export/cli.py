"""The command `dlild-export`."""

from __future__ import annotations

import typer

from dlild_export.commands.check import check
from dlild_export.commands.contact_sheet import contact_sheet
from dlild_export.commands.evaluate import evaluate
from dlild_export.commands.onnx import onnx
from dlild_export.commands.parity import parity
from dlild_export.commands.phantom import phantom
from dlild_export.commands.phantom_check import phantom_check
from dlild_export.commands.plant import plant
from dlild_export.commands.reading import reading
from dlild_export.commands.release import release, serve
from dlild_export.commands.repeatability import repeatability
from dlild_export.commands.tensorrt import tensorrt
from dlild_export.commands.train import train

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
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command."""
    app()
