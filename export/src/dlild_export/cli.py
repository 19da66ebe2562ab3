"""The command `dlild-export`."""

from __future__ import annotations

import typer

from dlild_export.commands.check import check
from dlild_export.commands.contact_sheet import contact_sheet
from dlild_export.commands.evaluate import evaluate
from dlild_export.commands.onnx import onnx
from dlild_export.commands.phantom import phantom
from dlild_export.commands.plant import plant
from dlild_export.commands.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (phantom, check, contact_sheet, plant, train, onnx, evaluate):
    app.command()(command)


def main() -> None:
    """Run the command."""
    app()
