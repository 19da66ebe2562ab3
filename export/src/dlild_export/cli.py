"""The command `dlild-export`."""

from __future__ import annotations

import typer

from dlild_export.commands.evaluate import evaluate
from dlild_export.commands.onnx import onnx
from dlild_export.commands.parity import parity
from dlild_export.commands.phantoms import phantoms
from dlild_export.commands.release import release, serve
from dlild_export.commands.repeatability import repeatability
from dlild_export.commands.tensorrt import tensorrt
from dlild_export.commands.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (phantoms, train, onnx, evaluate, repeatability, parity, release, serve, tensorrt):
    app.command()(command)


def main() -> None:
    """Run the command."""
    app()
