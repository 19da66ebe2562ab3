"""`dlild-export train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlild_export.cli.console import progress_bar, stderr

if TYPE_CHECKING:
    from dlild_export.training.config import TrainConfig


def train(
    data: Annotated[
        Path, typer.Argument(help="Dataset, as for `check`, or folder of prepared cases (*.npz).")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for checkpoint, metrics and TensorBoard.")],
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with settings; options override it. Default: OUT/config.toml."),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="STEPS:PATCH:BATCH, once a stage: --stage 4500:64:2 --stage 500:96:2."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine or poly.")] = None,
    warm_up_steps: Annotated[int | None, typer.Option()] = None,
    average_steps: Annotated[
        int | None, typer.Option(help="Of the running mean of weights.")
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of the patients kept for validation.")
    ] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps; 0: never.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that draw patches.")] = None,
    bf16: Annotated[bool | None, typer.Option(help="Mixed precision.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or model.onnx whose weights to begin with (fine-tuning)."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or model.onnx whose answers teach in place of labels."),
    ] = None,
    distil: Annotated[
        str | None,
        typer.Option(
            help="What TEACHER teaches: blocks (the first and the last one of a space-to-depth, "
            "alone) or all."
        ),
    ] = None,
    blocks: Annotated[
        Path | None,
        typer.Option(help="blocks.pt of a training with --distil blocks, to begin with."),
    ] = None,
    repeat_steps: Annotated[
        int | None,
        typer.Option(help="Steps after which patches come again, with the answers of TEACHER."),
    ] = None,
    fixed_statistics: Annotated[
        bool | None,
        typer.Option(help="Keep the statistics of START in batch normalisation, as when served."),
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Train the network; goes on where an interrupted training stopped.

    With several GPUs or machines: `torchrun --nproc-per-node N --no-python dlild-export train ...`;
    a step then takes N batches.
    """
    from dlild_export.training.config import ConfigError  # noqa: PLC0415

    options = {
        "stages": None if stage is None else [_stage(text) for text in stage],
        "learning_rate": learning_rate,
        "schedule": schedule,
        "warm_up_steps": warm_up_steps,
        "average_steps": average_steps,
        "held_out": held_out,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
        "bf16": bf16,
        "distil": distil,
        "repeat_steps": repeat_steps,
        "fixed_statistics": fixed_statistics,
        "seed": seed,
    }
    try:
        settings = _settings(config, out, {k: v for k, v in options.items() if v is not None})
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    _run(data, out, settings, start=start, teacher=teacher, blocks=blocks)


def average(
    out: Annotated[Path, typer.Argument(help="Folder of the new run.")],
    of: Annotated[list[Path], typer.Option(help="Folder of a training. Give two or more.")],
) -> None:
    """Average the weights of trainings, each of which began with the weights of the one before."""
    from dlild_export.training.checkpoints import average_runs  # noqa: PLC0415

    try:
        print(f"averaged: {average_runs(of, out)}")
    except (OSError, ValueError) as error:
        stderr.print(f"error: {error}", soft_wrap=True, markup=False)
        raise typer.Exit(3) from None


def _stage(text: str) -> dict[str, int]:
    try:
        steps, patch, batch = (int(n) for n in text.split(":"))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not STEPS:PATCH:BATCH, such as 4500:64:2", param_hint="--stage"
        ) from None
    return {"steps": steps, "patch": patch, "batch": batch}


def _settings(config: Path | None, out: Path, options: dict[str, Any]) -> TrainConfig:
    from dlild_export.training.config import config_from, read_config  # noqa: PLC0415

    former = out / "config.toml"
    if config is None and former.exists():
        config = former
    settings = {} if config is None else read_config(config)
    return config_from(settings | options, str(config) if config else "options")


def _run(data: Path, out: Path, config: TrainConfig, **weights: Path | None) -> None:
    from dlild_export.training.loop import StoppedError  # noqa: PLC0415
    from dlild_export.training.loop import train as run  # noqa: PLC0415

    leader = os.environ.get("RANK", "0") == "0"
    try:
        with progress_bar() as bar:
            task = bar.add_task("training", total=config.steps, visible=leader)

            def preparing(done: int, cases: int) -> None:
                bar.update(task, completed=done, total=cases, description="preparing")

            def show(done: int, loss: float) -> None:
                text = f"training, loss {loss:.3f}"
                bar.update(task, completed=done, total=config.steps, description=text)
                if leader and not sys.stderr.isatty() and done % 100 == 0:
                    print(f"step {done} of {config.steps}, loss {loss:.3f}", file=sys.stderr)

            checkpoint = run(data, out, config, progress=show, preparing=preparing, **weights)
    except StoppedError as stopped:
        stderr.print(str(stopped), soft_wrap=True)
        raise typer.Exit(128 + stopped.signal_number) from None
    except (OSError, ValueError) as error:
        stderr.print(f"error: {error}", soft_wrap=True, markup=False)
        raise typer.Exit(3) from None
    except FloatingPointError as error:
        stderr.print(f"error: {error}", soft_wrap=True, markup=False)
        raise typer.Exit(1) from None
    if leader:
        print(f"trained: {checkpoint}")
