"""The command `dlild-export`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from dlild_export.evaluate import Score

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_stderr = Console(stderr=True)

MasksOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of lung masks (.nii.gz); every second phantom takes its shape there."
    ),
]


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=_stderr, disable=not sys.stderr.isatty()
    )


def _masks(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    masks = sorted(folder.rglob("*.nii.gz"))
    if not masks:
        raise typer.BadParameter(f"no .nii.gz files in {folder}", param_hint="--lung-masks")
    return masks


@app.command()
def phantoms(
    out: Annotated[Path, typer.Argument(help="Folder to write the phantoms to.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 160,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first.")] = 0,
    lung_masks: MasksOption = None,
    lung_hu: Annotated[
        tuple[float, float], typer.Option(help="Range of the mean HU of healthy lung.")
    ] = (-915.0, -740.0),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Make phantoms to train on; those already there are kept."""
    from dlild_export.dataset import write_phantoms  # noqa: PLC0415
    from dlild_export.phantom import random_spec  # noqa: PLC0415

    specs = [random_spec(s, lung_hu=lung_hu) for s in range(first_seed, first_seed + count)]
    masks = _masks(lung_masks)
    with _progress() as bar:
        task = bar.add_task("phantoms", total=count)
        for _ in write_phantoms(out, specs, lung_masks=masks, spacing_mm=1.5, workers=workers):
            bar.advance(task)
    print(f"{count} phantoms in {out}")


@app.command()
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
    with _progress() as bar:
        task = bar.add_task("training", total=steps)

        def show(done: int, loss: float) -> None:
            bar.update(task, completed=done, description=f"training, loss {loss:.3f}")
            if not sys.stderr.isatty() and done % 100 == 0:
                print(f"step {done} of {steps}, loss {loss:.3f}", file=sys.stderr)

        checkpoint = run(data, out, config, start=start, progress=show)
    print(f"trained: {checkpoint}")


@app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint that `train` wrote.")],
    repository: Annotated[Path, typer.Argument(help="Model repository.")],
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Phantoms of the training: makes their mean DL-ILD right first."),
    ] = None,
) -> None:
    """Export a checkpoint as the served ONNX file, check it against torch, stamp the contract."""
    import numpy as np  # noqa: PLC0415

    from dlild_export.configs import write_configs  # noqa: PLC0415
    from dlild_export.onnx_export import check_parity, export_onnx, write_digest  # noqa: PLC0415
    from dlild_export.phantom import make_phantom, random_spec  # noqa: PLC0415
    from dlild_export.train import load_network  # noqa: PLC0415

    network = load_network(checkpoint)
    if calibrate:
        from dlild_export.calibrate import add_lesion_bias, find_lesion_bias  # noqa: PLC0415

        with _progress() as bar:
            task = bar.add_task("calibration", total=10)
            bias = find_lesion_bias(
                network, calibrate, count=10, progress=lambda done: bar.update(task, completed=done)
            )
        add_lesion_bias(network, bias)
        print(f"lesion bias {bias:.1f}")
    weights = repository / "ild_unet" / "1" / "model.onnx"
    candidate = weights.with_suffix(".candidate")
    export_onnx(network, candidate)
    hu = make_phantom(random_spec(0)).hu.astype(np.float32)
    middle = tuple(slice(n // 2 - 48, n // 2 + 48) for n in hu.shape)
    parity = check_parity(network, candidate, hu[middle])
    if not parity.holds:
        candidate.unlink()
        _stderr.print(f"error: the ONNX file differs from torch: {parity}; nothing was written")
        raise typer.Exit(1)
    candidate.rename(weights)
    digest = write_digest(repository / "contract.json", weights)
    write_configs(repository)
    print(f"{weights}: sha256 {digest}; parity with torch: {parity}")


@app.command()
def evaluate(
    weights: Annotated[Path, typer.Argument(help="ONNX file.")],
    first_seed: Annotated[int, typer.Option(min=0, help="Unseen by the training.")] = 1_000_000,
    count: Annotated[int, typer.Option(min=1)] = 12,
    lung_masks: MasksOption = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Score the network on phantoms that it has never seen."""
    from dlild_export.evaluate import evaluate as run  # noqa: PLC0415
    from dlild_export.evaluate import summarise  # noqa: PLC0415

    seeds = range(first_seed, first_seed + count)
    scores: list[Score] = []
    for score in run(weights, seeds, lung_masks=_masks(lung_masks)):
        scores.append(score)
        print(
            f"phantom {score.seed}: lung Dice {score.lung_dice:.3f}, lesion Dice "
            f"{score.lesion_dice:.3f}, DL-ILD {score.dl_ild_percent:.1f} (true "
            f"{score.true_percent:.1f})"
        )
    summary = summarise(scores)
    print(json.dumps(summary, indent=2))
    if out:
        out.write_text(json.dumps(summary, indent=2) + "\n")


def main() -> None:
    """Run the command."""
    app()
