"""`dlild-export contact-sheet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import MapOption, RepositoryOption, input_errors, progress_bar


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
