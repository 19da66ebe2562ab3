"""`dlild-export phantoms`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dlild_export.commands.console import LungMasksOption, lung_mask_files, progress_bar


def phantoms(
    out: Annotated[Path, typer.Argument(help="Folder to write the phantoms to.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 160,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first.")] = 0,
    lung_masks: LungMasksOption = None,
    lung_hu: Annotated[
        tuple[float, float], typer.Option(help="Range of the mean HU of healthy lung.")
    ] = (-915.0, -740.0),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Make phantoms to train on; those already there are kept."""
    from dlild_export.dataset import write_phantoms  # noqa: PLC0415
    from dlild_export.phantom import random_spec  # noqa: PLC0415

    specs = [random_spec(s, lung_hu=lung_hu) for s in range(first_seed, first_seed + count)]
    masks = lung_mask_files(lung_masks)
    with progress_bar() as bar:
        task = bar.add_task("phantoms", total=count)
        for _ in write_phantoms(out, specs, lung_masks=masks, spacing_mm=1.5, workers=workers):
            bar.advance(task)
    print(f"{count} phantoms in {out}")
