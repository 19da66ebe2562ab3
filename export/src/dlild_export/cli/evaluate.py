"""`dlild-export evaluate`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dlild_export.cli.console import (
    LungMasksOption,
    MapOption,
    RepositoryOption,
    input_errors,
    lung_mask_files,
    progress_bar,
    stderr,
)

if TYPE_CHECKING:
    from dlild_export.evaluation.cases import Case
    from dlild_export.evaluation.document import Evaluation
    from dlild_export.evaluation.served import Served


class EngineOption(StrEnum):
    """Engines of the CPU."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


def evaluate(
    weights: Annotated[
        Path, typer.Argument(help="ONNX file, checkpoint, or folder of a run or a served version.")
    ],
    dataset: Annotated[
        Path | None,
        typer.Argument(
            help="Prepared scans, or a dataset as `check` takes it; phantoms when left out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation"),
    first_seed: Annotated[
        int, typer.Option(min=0, help="First seed of the phantoms: unseen by the training.")
    ] = 1_000_000,
    count: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="So many phantoms drawn at random, in place of the 24 of the release's plan.",
        ),
    ] = None,
    lung_masks: LungMasksOption = None,
    real: Annotated[
        list[Path] | None,
        typer.Option(help="Scan of healthy lungs (DICOM folder or image); may be repeated."),
    ] = None,
    planted: Annotated[
        str, typer.Option(help="DL-ILD to plant in each real scan, such as 5,15,30,50.")
    ] = "",
    engine: Annotated[
        EngineOption, typer.Option(help="openvino: as the embedded profile serves it.")
    ] = EngineOption.OPENVINO,
    repository: RepositoryOption = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Of the surface Dice, mm.")] = 2.0,
    failures: Annotated[int, typer.Option(min=0, help="Failure cases to show.")] = 4,
    mapped: MapOption = None,
    with_trained: Annotated[
        bool,
        typer.Option("--with-trained", help="Also the cases of DATASET that were trained on."),
    ] = False,
    require_floor: Annotated[
        bool, typer.Option("--require-floor", help="Exit with 1 where the floor is missed.")
    ] = False,
) -> None:
    """Evaluate the product with some weights: figures, strata, failure cases, and the floor.

    Every scan goes through grid, lung box, windows, engine and blending as it is served. Cases of
    DATASET that the run was trained on are left out. OUT gets evaluation.html and evaluation.json.
    """
    from dlild_export.data.labels import parse_overrides  # noqa: PLC0415
    from dlild_export.evaluation import evaluate as run  # noqa: PLC0415
    from dlild_export.evaluation import load_served, write_report  # noqa: PLC0415
    from dlild_export.evaluation.unseen import trained_cases  # noqa: PLC0415

    percents = _percents(planted, real)
    try:
        overrides = parse_overrides(mapped or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    with input_errors():
        out.mkdir(parents=True, exist_ok=True)  # before the work: afterwards it would be lost
        served = load_served(weights, engine.value, repository)
        trained = trained_cases(weights)
        cases, description = (
            _dataset(dataset, out, served, overrides, None if with_trained else trained)
            if dataset
            else _phantoms(first_seed, count, lung_mask_files(lung_masks), served, trained)
        )
        found = run(
            served,
            cases,
            description=description,
            real=real or [],
            planted_percent=percents,
            tolerance_mm=tolerance,
            progress=say,
        )
    page = write_report(found, served, out, failures=failures)
    _show(found)
    print(f"report: {page}")
    if require_floor and not found.met:
        raise typer.Exit(1)


def say(line: str) -> None:
    """Tell progress, a line a scan."""
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def _percents(planted: str, real: list[Path] | None) -> list[float]:
    try:
        percents = [float(part) for part in planted.split(",") if part.strip()]
    except ValueError:
        percents = [-1.0]
    if any(not 0 < p <= 90 for p in percents):
        raise typer.BadParameter(
            f"{planted!r} is no list of percentages up to 90, such as 5,15,30,50",
            param_hint="--planted",
        )
    if percents and not real:
        raise typer.BadParameter(
            "lesions are planted in real scans: give --real", param_hint="--planted"
        )
    return percents


def _dataset(
    dataset: Path,
    out: Path,
    served: Served,
    overrides: dict[str, str],
    trained: frozenset[str] | None,
) -> tuple[Iterable[Case], str]:
    from dlild_export.evaluation.cases import StoredCase, dataset_files  # noqa: PLC0415
    from dlild_export.evaluation.unseen import only_unseen  # noqa: PLC0415

    with progress_bar() as bar:
        task = bar.add_task("preparing", total=None)
        files = dataset_files(
            dataset,
            out / "prepared",
            served.contract,
            overrides=overrides,
            progress=lambda done, whole: bar.update(task, completed=done, total=whole),
        )
    unseen = only_unseen([StoredCase.open(file) for file in files], trained)
    cases = (case.read(served.contract) for case in unseen.cases)
    return cases, unseen.describe(dataset.name)


def _phantoms(
    first_seed: int,
    count: int | None,
    masks: list[Path],
    served: Served,
    trained: frozenset[str] | None,
) -> tuple[Iterable[Case], str]:
    from dlild_export.evaluation.cases import phantom_cases  # noqa: PLC0415
    from dlild_export.evaluation.plan import random_plan, release_plan  # noqa: PLC0415
    from dlild_export.evaluation.unseen import refuse_trained  # noqa: PLC0415
    from dlild_export.phantom.cases import phantom_name  # noqa: PLC0415

    specs = release_plan(first_seed) if count is None else random_plan(first_seed, count)
    refuse_trained([phantom_name(spec.seed) for spec in specs], trained)
    kind = "of the release's plan" if count is None else "drawn at random"
    seeds = f", seeds {specs[0].seed} to {specs[-1].seed}" if specs else ""
    shapes = f", every second with one of {len(masks)} real lung shapes" if masks else ""
    description = f"{len(specs)} phantoms {kind}{seeds}{shapes}"
    return phantom_cases(specs, served.contract, masks), description


def _show(found: Evaluation) -> None:
    for title, verdict in (("Floor", found.verdict), ("Real scans", found.real_verdict)):
        if verdict is None:
            continue
        table = Table(title=f"{title}: {'met' if verdict.met else 'missed'}", title_justify="left")
        for column in ("target", "must be", "found", ""):
            table.add_column(column, justify="right" if column == "found" else "left")
        for t in verdict.targets:
            table.add_row(t.name, t.rule, t.found, "met" if t.met else "missed")
        Console().print(table)
