"""`dlild-export onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlild_export.commands.console import progress_bar, stderr


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

        with progress_bar() as bar:
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
        stderr.print(f"error: the ONNX file differs from torch: {parity}; nothing was written")
        raise typer.Exit(1)
    candidate.rename(weights)
    digest = write_digest(repository / "contract.json", weights)
    write_configs(repository)
    print(f"{weights}: sha256 {digest}; parity with torch: {parity}")
