"""`dlild-export evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_export.commands.console import LungMasksOption, lung_mask_files

if TYPE_CHECKING:
    from dlild_export.evaluate import Score


def evaluate(
    weights: Annotated[Path, typer.Argument(help="ONNX file.")],
    first_seed: Annotated[int, typer.Option(min=0, help="Unseen by the training.")] = 1_000_000,
    count: Annotated[int, typer.Option(min=1)] = 12,
    lung_masks: LungMasksOption = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Score the network on phantoms that it has never seen."""
    from dlild_export.evaluate import evaluate as run  # noqa: PLC0415
    from dlild_export.evaluate import summarise  # noqa: PLC0415

    seeds = range(first_seed, first_seed + count)
    scores: list[Score] = []
    for score in run(weights, seeds, lung_masks=lung_mask_files(lung_masks)):
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
