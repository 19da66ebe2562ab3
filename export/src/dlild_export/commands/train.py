"""`dlild-export train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dlild_export.commands.console import progress_bar


def train(
    data: Annotated[Path, typer.Argument(help="Folder that `phantoms` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for checkpoint and metrics.")],
    steps: Annotated[int, typer.Option(min=1)] = 4500,
    patch: Annotated[int, typer.Option(min=16, help="Edge of a patch, voxels.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Highest; cosine to 0.")] = 3e-3,
    warm_up_steps: Annotated[int, typer.Option(min=0)] = 150,
    average_steps: Annotated[
        int, typer.Option(min=1, help="Of the running mean of weights.")
    ] = 300,
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint whose weights to begin with (fine-tuning).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the network; goes on where an interrupted training stopped."""
    from dlild_export.train import TrainConfig  # noqa: PLC0415
    from dlild_export.train import train as run  # noqa: PLC0415

    config = TrainConfig(
        steps=steps,
        patch=patch,
        learning_rate=learning_rate,
        warm_up_steps=warm_up_steps,
        average_steps=average_steps,
        seed=seed,
    )
    with progress_bar() as bar:
        task = bar.add_task("training", total=steps)

        def show(done: int, loss: float) -> None:
            bar.update(task, completed=done, description=f"training, loss {loss:.3f}")
            if not sys.stderr.isatty() and done % 100 == 0:
                print(f"step {done} of {steps}, loss {loss:.3f}", file=sys.stderr)

        checkpoint = run(data, out, config, start=start, progress=show)
    print(f"trained: {checkpoint}")
