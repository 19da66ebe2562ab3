"""`dlild-export phantom-check`."""

from __future__ import annotations

from typing import Annotated

import typer

from dlild_export.cli.console import (
    LungMasksOption,
    input_errors,
    lung_mask_files,
    progress_bar,
)


def phantom_check(
    count: Annotated[int, typer.Option(min=1, help="How many phantoms to measure.")] = 8,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first.")] = 100,
    lung_masks: LungMasksOption = None,
) -> None:
    """Hold the texture of measured phantoms against what was measured in patients.

    Phantoms of UIP, 12 to 30 %, are looked at in slices of 1 mm and pixels of 0.42 mm, as two
    patients with idiopathic pulmonary fibrosis were. Ends with 1 where a median lies outside the
    measured range.
    """
    from dlild_export.phantom.check import check_phantoms  # noqa: PLC0415

    masks = lung_mask_files(lung_masks)
    with input_errors(), progress_bar() as bar:
        task = bar.add_task("phantoms", total=count)
        found = check_phantoms(
            range(first_seed, first_seed + count),
            lung_masks=masks,
            progress=lambda: bar.advance(task),
        )
    print(f"{'':58s}{'patients':>16s}{'phantoms':>11s}  {'from, to':>18s}")
    for line in found:
        measure, values = line.measure, line.values
        span = f"{min(values):.3g}, {max(values):.3g}" if values else ""
        median = f"{line.median:.3g}" if values else "none"
        patients = f"{measure.low:g} to {measure.high:g}"
        verdict = "within" if line.within else "OUTSIDE"
        print(f"{measure.text:58s}{patients:>16s}{median:>11s}  {span:>18s}  {verdict}")
    if not all(line.within for line in found):
        raise typer.Exit(1)
