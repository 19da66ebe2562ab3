"""`dlild-export phantom`, `phantom-check` and `plant`: scans with exact truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dlild_export.cli.console import (
    LungMasksOption,
    RepositoryOption,
    input_errors,
    lung_mask_files,
    progress_bar,
)

_PATIENT, _SCAN, _SLICES = "Patient", "Acquisition", "DICOM slices"


def _patient(text: str) -> typer.models.OptionInfo:
    return typer.Option(help=text, rich_help_panel=_PATIENT)  # type: ignore[no-any-return]


def _acquisition(text: str) -> typer.models.OptionInfo:
    return typer.Option(help=text, rich_help_panel=_SCAN)  # type: ignore[no-any-return]


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write to; what it holds is kept.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 12,
    first_seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the first; the others follow. Equal seeds and knobs give equal phantoms.",
        ),
    ] = 0,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="nnunet: NIfTI files and dataset.json. dicom: a CT series and a DICOM SEG each. "
            "both: the two, in sub-folders. cache: prepared for the training (*.npz).",
        ),
    ] = "nnunet",
    texture: Annotated[
        str,
        typer.Option(
            help="plain, or measured: cysts, walls and lines as fine as in patients, and hila, "
            "bowel and scans like theirs. Of measured phantoms no knob is turned.",
        ),
    ] = "plain",
    scans: Annotated[
        int, typer.Option(min=1, max=9, help="Scans of each measured phantom, by other scanners.")
    ] = 1,
    lung_masks: LungMasksOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    spacing: Annotated[
        float, typer.Option(min=0.5, max=6.0, help="Edge of a voxel of phantom and NIfTI, mm.")
    ] = 1.5,
    pattern: Annotated[
        str | None,
        _patient(
            "none, uip (basal, subpleural reticulation and honeycombing), nsip (basal "
            "ground-glass, subpleural rim spared), organising (patchy consolidation), mixed (all "
            "classes anywhere)."
        ),
    ] = None,
    severity: Annotated[
        float | None,
        _patient(
            "Share of the lung that is lesion, 0 to 0.9: "
            "DL-ILD is 100 times this. 0.01 to 0.6 among the ill."
        ),
    ] = None,
    lung_hu: Annotated[
        tuple[float, float] | None,
        typer.Option(
            rich_help_panel=_PATIENT,
            metavar="LOW HIGH",
            help="Range of the mean HU of healthy lung, -1000 to -450; higher in expiration.",
        ),
    ] = None,
    dependent_hu: Annotated[
        float | None,
        _patient(
            "Rise of HU from the front of the lung to its back, by gravity; no lesion. 0 to 150."
        ),
    ] = None,
    emphysema: Annotated[
        float | None,
        _patient("Share of the lung that is emphysema; no lesion. 0, or 0.05 to 0.4."),
    ] = None,
    atelectasis_plates: Annotated[
        int | None,
        _patient("Plates of collapsed lung above the diaphragm; no lesion. 0 to 4."),
    ] = None,
    nodules: Annotated[
        int | None,
        _patient("Solid nodules of 4 to 22 mm; no lesion. 0 to 5."),
    ] = None,
    blood_hu: Annotated[
        float | None,
        _patient("HU of heart and vessels: 25 to 60 without contrast medium, 90 to 320 with it."),
    ] = None,
    prone: Annotated[
        bool | None,
        typer.Option(
            "--prone/--supine",
            rich_help_panel=_PATIENT,
            help="Which way gravity pulls. One in ten lies prone.",
        ),
    ] = None,
    thickness: Annotated[
        float | None,
        _acquisition("Slice thickness and distance, mm. 0.6 to 8."),
    ] = None,
    noise: Annotated[
        float | None,
        _acquisition(
            "Standard deviation of the noise on the grid, HU. 5 to 60, low doses at the upper end."
        ),
    ] = None,
    sharpness: Annotated[
        float | None,
        _acquisition("Kernel: below 0 smooths, above 0 enhances edges. -0.7 to 1."),
    ] = None,
    motion: Annotated[
        float | None,
        _acquisition("How far the lower lungs move during the scan, mm; no lesion. 0, or 1 to 6."),
    ] = None,
    pixel: Annotated[
        float, typer.Option(rich_help_panel=_SLICES, help="Distance of two pixels, mm.")
    ] = 0.75,
    slice_step: Annotated[
        float | None,
        typer.Option(
            "--slice",
            rich_help_panel=_SLICES,
            help="Distance of two slices, mm; the phantom's thickness when left out.",
        ),
    ] = None,
    tilt: Annotated[
        float, typer.Option(rich_help_panel=_SLICES, help="Tilt of the gantry, degrees.")
    ] = 0.0,
    padding: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_SLICES,
            help="Value outside a round field of view, such as "
            "-2000 or -3024; a rectangle without padding when left out.",
        ),
    ] = None,
    seg: Annotated[
        str, typer.Option(rich_help_panel=_SLICES, help="DICOM SEG: labelmap, or binary.")
    ] = "labelmap",
) -> None:
    """Make phantom patients whose lesions are known exactly, and scan them.

    Each knob that is left out is drawn at random for every phantom, over the range named (so a
    hundred phantoms are a hundred different patients and scanners); each that is given is fixed.
    A run that was stopped goes on where it was.
    """
    from dlild_export.phantom import Pattern  # noqa: PLC0415
    from dlild_export.phantom.cases import (  # noqa: PLC0415
        draw_spec,
        write_measured,
        write_phantoms,
    )
    from dlild_export.phantom.writing import Writing  # noqa: PLC0415

    knobs = {
        "pattern": pattern,
        "severity": severity,
        "dependent_hu": dependent_hu,
        "emphysema": emphysema,
        "atelectasis_plates": atelectasis_plates,
        "nodules": nodules,
        "blood_hu": blood_hu,
        "prone": prone,
        "thickness_mm": thickness,
        "noise_hu": noise,
        "sharpness": sharpness,
        "motion_mm": motion,
    }
    fixed: dict[str, Any] = {name: value for name, value in knobs.items() if value is not None}
    turned = [name for name, value in knobs.items() if value is not None]
    _check_texture(texture, scans, turned + ["lung_hu"] * (lung_hu is not None))
    try:
        if pattern is not None:
            fixed["pattern"] = Pattern(pattern)
        seeds = range(first_seed, first_seed + count)
        specs = [draw_spec(seed, lung_hu=lung_hu, **fixed) for seed in seeds]
        writing = Writing(
            form=form,
            pixel_mm=pixel,
            slice_mm=slice_step,
            tilt_deg=tilt,
            padding_hu=padding,
            seg_kind=seg,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    masks = lung_mask_files(lung_masks)
    with input_errors(), progress_bar() as bar:
        task = bar.add_task("phantoms", total=count * scans)
        made = (
            write_phantoms(
                out, specs, lung_masks=masks, spacing_mm=spacing, workers=workers, writing=writing
            )
            if texture == "plain"
            else write_measured(
                out,
                seeds,
                lung_masks=masks,
                spacing_mm=spacing,
                workers=workers,
                scans=scans,
                writing=writing,
            )
        )
        for _ in made:
            bar.advance(task)
    print(f"{count * scans} phantoms in {out}")


def _check_texture(texture: str, scans: int, turned: list[str]) -> None:
    """Refuse a texture that is none, and knobs that do not go with it."""
    if texture not in ("plain", "measured"):
        raise typer.BadParameter(f"texture is {texture!r}, give plain or measured")
    if texture == "plain" and scans > 1:
        raise typer.BadParameter(f"scans is {scans}: only measured phantoms are scanned again")
    if texture == "measured" and turned:
        raise typer.BadParameter(f"{', '.join(turned)}: measured phantoms have no such knob")


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


def plant(
    scan: Annotated[
        Path,
        typer.Argument(metavar="CT", help="Chest CT without lesions: DICOM folder or NIfTI file."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write to; what it holds is kept.")],
    percent: Annotated[
        str, typer.Option(help="True DL-ILD of the cases; 0 is the scan as it is.")
    ] = "5,15,30,50",
    pattern: Annotated[
        str, typer.Option(help="Disease patterns: uip, nsip, organising, mixed.")
    ] = "uip,nsip,organising,mixed",
    seed: Annotated[int, typer.Option(min=0, help="Of positions and textures.")] = 0,
    doubtful: Annotated[
        str,
        typer.Option(
            help="Solid tissue that a threshold cannot judge: lung; unknown, for training; or "
            "outside the lungs, for training on scans that are known to hold no lesion."
        ),
    ] = "lung",
    texture: Annotated[
        str,
        typer.Option(help="plain, or measured: cysts, walls and lines as fine as in patients."),
    ] = "plain",
    form: Annotated[
        str,
        typer.Option("--format", help="nnunet, dicom, both or cache, as for `phantom`."),
    ] = "nnunet",
    pixel: Annotated[float, typer.Option(help="DICOM: distance of two pixels, mm.")] = 0.75,
    slice_step: Annotated[
        float | None, typer.Option("--slice", help="DICOM: distance of two slices, mm.")
    ] = None,
    repository: RepositoryOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = min(4, os.cpu_count() or 1),
) -> None:
    """Plant lesions of known size in the lungs of a real scan: one case a pattern and percentage.

    The lungs are what a threshold finds, with vessels filled. The result lies on the model grid.
    """
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.phantom import Pattern  # noqa: PLC0415
    from dlild_export.phantom.cases import Planting, write_planted  # noqa: PLC0415
    from dlild_export.phantom.writing import Writing  # noqa: PLC0415

    try:
        planting = Planting(
            percents=[float(text) for text in percent.split(",")],
            patterns=[Pattern(text.strip()) for text in pattern.split(",")],
            seed=seed,
            doubtful=doubtful,
            texture=texture,
        )
        writing = Writing(form=form, pixel_mm=pixel, slice_mm=slice_step)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with input_errors(), progress_bar() as bar:
        task = bar.add_task("planted", total=None)
        contract = find_contract(repository)
        done = 0
        for _ in write_planted(
            scan, out, planting, contract=contract, writing=writing, workers=workers
        ):
            done += 1
            bar.update(task, completed=done)
    print(f"{done} cases in {out}")
