"""`dlild-export check`, `contact-sheet` and `single-slices`: datasets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_export.cli.console import MapOption, RepositoryOption, input_errors, progress_bar

if TYPE_CHECKING:
    from dlild_export.data.check import CheckReport

FAULTY = 3


def check(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Folder: nnU-Net or Medical Segmentation Decathlon (dataset.json, imagesTr, "
            "labelsTr), or a folder a case with a CT series and its DICOM SEG."
        ),
    ],
    mapped: MapOption = None,
    repository: RepositoryOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; each holds a scan in memory.")
    ] = min(4, os.cpu_count() or 1),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """List every fault of a dataset before any training.

    Looks at: pairs of images and labels; truncated and corrupt files; NaN; HU that are none; shape,
    spacing, origin and direction of images and labels; label names and values that mean none of the
    classes; empty masks; labels or scans turned round, as far as that can be seen; labels that do
    not lie on the lung; lesions outside the lungs; scans that are there twice; patients divided
    between training and validation.

    Exit codes: 0 no fault, 2 usage, 3 faults.
    """
    from dlild_export.data.check import check_dataset  # noqa: PLC0415
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.data.labels import parse_overrides  # noqa: PLC0415

    try:
        overrides = parse_overrides(mapped or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    with input_errors(), progress_bar() as bar:
        task = bar.add_task("cases", total=None)
        report = check_dataset(
            dataset,
            find_contract(repository),
            overrides=overrides,
            workers=workers,
            progress=lambda done, whole: bar.update(task, completed=done, total=whole),
        )
    if as_json:
        print(report.to_json())
    else:
        _print(report)
    if report.faults:
        raise typer.Exit(FAULTY)


def _print(report: CheckReport) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(markup=False, highlight=False)
    table = Table(box=None)
    for title in ("case", "voxels", "spacing, mm", "lung, mL", "DL-ILD, %", "faults"):
        left = title == "case"
        table.add_column(
            title, justify="left" if left else "right", no_wrap=not left, overflow="fold"
        )
    for case in report.cases:
        lung = sum(v for name, v in case.class_ml.items() if name != "ignore")
        table.add_row(
            case.name,
            "x".join(map(str, case.shape)) if case.shape else "-",
            "x".join(f"{s:.2f}" for s in case.spacing_mm) if case.spacing_mm else "-",
            f"{lung:.0f}" if case.shape else "-",
            "-" if case.dl_ild_percent is None else f"{case.dl_ild_percent:.1f}",
            str(len(case.faults) or ""),
        )
    if report.cases:
        console.print(table)
    for fault in report.faults:
        console.print(f"{fault.kind}: {fault}", soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(
        f"{len(report.faults)} fault(s) in {len(report.cases)} case(s)"
        if report.faults
        else f"no fault in {len(report.cases)} case(s)"
    )


def contact_sheet(
    dataset: Annotated[
        Path, typer.Argument(help="Dataset, as for `check`, or folder of prepared cases (*.npz).")
    ],
    png: Annotated[Path, typer.Argument(help="Picture to write.")],
    count: Annotated[
        int, typer.Option(min=1, help="Most cases to show, evenly spread over the dataset.")
    ] = 12,
    mapped: MapOption = None,
    repository: RepositoryOption = None,
) -> None:
    """Draw cases side by side: axial and coronal slices in the lung window, plain and labelled.

    Each is shown where it has most lesion, or in the middle of the lungs. The patient's right is on
    the left.
    """
    from dlild_export.data.contact_sheet import draw_sheet, read_tiles  # noqa: PLC0415
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.data.labels import parse_overrides  # noqa: PLC0415

    try:
        overrides = parse_overrides(mapped or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    with input_errors(), progress_bar() as bar:
        contract = find_contract(repository)
        task = bar.add_task("cases", total=count)
        tiles = []
        for tile in read_tiles(dataset, contract, count=count, overrides=overrides):
            tiles.append(tile)
            bar.advance(task)
        draw_sheet(tiles, contract).save(png)
    print(f"{len(tiles)} cases in {png}")


def single_slices(
    slices: Annotated[
        Path, typer.Argument(help="Folder of DICOM files, one axial CT slice without lesions each.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the prepared cases.")],
    repository: RepositoryOption = None,
) -> None:
    """Make training cases of single CT slices without lesions, eight slices a case.

    Labels are what a threshold finds in each slice: lung with its vessels; hila, masses and gas of
    trachea and bowel are outside. Look at the cases with `contact-sheet`.
    """
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.data.single_slices import write_single_slices  # noqa: PLC0415

    with input_errors(), progress_bar() as bar:
        files = sorted(slices.glob("*.dcm"))
        if not files:
            raise FileNotFoundError(f"{slices}: no *.dcm; give a folder of single CT slices")
        task = bar.add_task("cases", total=None)
        done = 0
        for done, _ in enumerate(write_single_slices(files, out, find_contract(repository)), 1):
            bar.update(task, completed=done)
    print(f"{done} cases of {len(files)} slices in {out}")
