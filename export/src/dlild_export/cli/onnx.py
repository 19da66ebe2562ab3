"""`dlild-export onnx`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import input_errors, progress_bar


def onnx(
    run: Annotated[Path, typer.Argument(help="Folder or checkpoint that `train` wrote.")],
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Cases (*.npz), best unseen by the training: makes their volumes right."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many cases to calibrate on.")] = 40,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe that made the run: kept as RUN/recipe.toml, and in the file."),
    ] = None,
) -> None:
    """Write the network of a run as it is served: RUN/model.onnx, with its provenance.

    The metadata of the file hold the network's configuration, the trainings (steps, seeds, start
    weights, versions), the calibration and the recipe. The same checkpoint, calibration and recipe
    give the same bytes, so `evaluate` and `release` speak of the same weights.
    """
    from dlild_export.data.digest import sha256  # noqa: PLC0415
    from dlild_export.serving.onnx import (  # noqa: PLC0415
        CALIBRATION,
        RECIPE,
        checkpoint_of,
        export_run,
    )

    with input_errors():
        checkpoint = checkpoint_of(run)
        if recipe:
            checkpoint.with_name(RECIPE).write_text(recipe.read_text("utf-8"), "utf-8")
        if calibrate:
            calibration = checkpoint.with_name(CALIBRATION)
            calibration.unlink(missing_ok=True)  # what is calibrated is the network as trained
            biases = _calibrate(checkpoint, calibrate, count)
            record = {"class_biases": biases, "cases": count}
            calibration.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
            print(f"class biases {', '.join(map(str, biases))}")
        weights = export_run(checkpoint)
    print(f"{weights}: sha256 {sha256(weights)}")


def _calibrate(checkpoint: Path, cases: Path, count: int) -> tuple[float, ...]:
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.serving.calibration import find_class_biases  # noqa: PLC0415
    from dlild_export.serving.engines import openvino_engines  # noqa: PLC0415
    from dlild_export.serving.onnx import export_run  # noqa: PLC0415
    from dlild_export.training.start import load_network  # noqa: PLC0415

    with progress_bar() as bar:
        task = bar.add_task("calibration", total=count)
        return find_class_biases(
            openvino_engines(export_run(checkpoint))[-1].load(),
            cases,
            contract=find_contract(),
            stride=load_network(checkpoint).config.stride,
            count=count,
            progress=lambda done: bar.update(task, completed=done),
        )
