"""`dlild-export repeatability`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dlild_export.cli.console import (
    LungMasksOption,
    RepositoryOption,
    input_errors,
    lung_mask_files,
)
from dlild_export.cli.evaluate import EngineOption, say


def repeatability(
    weights: Annotated[
        Path, typer.Argument(help="ONNX file, checkpoint, or folder of a run or a served version.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("repeatability"),
    patients: Annotated[int, typer.Option(min=1, help="Phantom patients, from 2 to 60 %.")] = 8,
    repeats: Annotated[
        int, typer.Option(min=2, help="Scans of each patient under each of seven conditions.")
    ] = 3,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first patient: unseen by the training.")
    ] = 2_000_000,
    lung_masks: LungMasksOption = None,
    engine: Annotated[
        EngineOption, typer.Option(help="openvino: as the embedded profile serves it.")
    ] = EngineOption.OPENVINO,
    repository: RepositoryOption = None,
) -> None:
    """Measure how much DL-ILD differs when nothing but the scan has changed.

    The same phantom patients are scanned again: with other noise, kernel, slice thickness,
    position and breath, one at a time and together. OUT gets repeatability.html and
    repeatability.json, with within-subject SD and repeatability coefficient in points of DL-ILD.
    """
    from dlild_export.evaluation import load_served, reacquire  # noqa: PLC0415
    from dlild_export.evaluation.repeat_report import sum_up, write_repeatability  # noqa: PLC0415
    from dlild_export.phantom.cases import mask_for  # noqa: PLC0415

    masks = lung_mask_files(lung_masks)
    specs = reacquire.patients(first_seed, patients)
    whole = patients * repeats * len(reacquire.CONDITIONS)
    count = iter(range(1, whole + 1))
    with input_errors():
        out.mkdir(parents=True, exist_ok=True)  # before the work: afterwards it would be lost
        served = load_served(weights, engine.value, repository)
        found, refused = reacquire.measure(
            specs,
            served,
            repeats=repeats,
            mask_of=lambda seed: mask_for(seed, masks),
            progress=lambda line: say(f"{next(count)} of {whole}: {line}"),
        )
    last = first_seed + patients - 1
    description = (
        f"{patients} phantom patients, seeds {first_seed} to {last}, {repeats} scans each under "
        f"{len(reacquire.CONDITIONS)} conditions"
    )
    page = write_repeatability(found, refused, served, description, out)
    table = Table("changes", "within-subject SD", "repeatability coefficient")
    for condition in sum_up(found):
        sd, coefficient = condition.measured.within_sd, condition.measured.coefficient
        table.add_row(
            condition.name,
            f"{sd.value:.2f} ({sd.low:.2f} to {sd.high:.2f})",
            f"{coefficient.value:.2f} ({coefficient.low:.2f} to {coefficient.high:.2f})",
        )
    Console().print(table)
    print(f"report: {page}")
