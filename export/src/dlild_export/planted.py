"""Lesions planted in real scans, as cases of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dlild_client.contract import Contract
from dlild_client.errors import NotChestError
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.labels import IGNORE
from dlild_export.phantom import Pattern, plant_lesions
from dlild_export.phantom.fields import Mask
from dlild_export.phantom.plant_measured import plant_measured
from dlild_export.scans import LabelledScan
from dlild_export.threshold import NoLungsError, doubtful_tissue, threshold_lungs
from dlild_export.writing import CaseJob, Writing, write_cases

_FIRST_LESION = 2

TEXTURES = ("plain", "measured")

ILL = tuple(pattern for pattern in Pattern if pattern is not Pattern.NONE)


def write_planted(
    scan: Path,
    folder: Path,
    percents: Sequence[float],
    *,
    contract: Contract,
    writing: Writing,
    patterns: Sequence[Pattern] = ILL,
    seed: int = 0,
    doubtful_unknown: bool = False,
    texture: str = "plain",
    workers: int = 1,
) -> Iterator[str]:
    """Plant lesions in the lungs of a healthy scan, once for every pair of pattern and percentage.

    Parameters
    ----------
    scan : Path
        Chest CT as the client reads them; its lungs are what a threshold finds.
    folder : Path
        Where to.
    percents : sequence of float
        True DL-ILD of the cases; 0 gives the scan as it is.
    contract : Contract
        Grid and classes.
    writing : Writing
        In which form.
    patterns : sequence of Pattern
        Disease patterns, those that are ill.
    seed : int
        Of places and textures; cases differ in theirs all the same.
    doubtful_unknown : bool
        Whether solid tissue that a threshold cannot judge (a mass, the great vessels' rim) is
        marked as unknown: for training on scans that are not spotless.
    texture : {'plain', 'measured'}
        How fine the lesions are.
    workers : int
        Processes.

    Yields
    ------
    str
        Name of a case that is on disk now.

    Raises
    ------
    InputError
        The scan cannot be read, or has no lungs.
    ValueError
        A percentage that no lung can have.
    """
    if texture not in TEXTURES:
        raise ValueError(f"texture is {texture!r}, give {' or '.join(TEXTURES)}")
    for percent in percents:
        if not 0 <= percent <= 90:
            raise ValueError(f"{percent:g} % cannot be planted, give 0 to 90")
    grid = to_grid(read_volume(scan), contract)
    try:
        lungs = threshold_lungs(grid.array, grid.spacing_mm[0])
    except NoLungsError as error:
        raise NotChestError(
            f"{scan.name}: {error}; give a chest CT without dense lesions"
        ) from None
    unknown = np.zeros_like(lungs)
    if doubtful_unknown:
        unknown = doubtful_tissue(grid.array, lungs, grid.spacing_mm[0])
    # Named by its voxels: the name of a folder may be that of a patient.
    group = f"planted-{(grid.series.digest or '').removeprefix('sha256:')[:8]}"
    thickness = grid.series.slice_thickness_mm or grid.spacing_mm[0]
    jobs = []
    for percent in percents:
        for pattern in patterns if percent else (Pattern.NONE,):
            about = {
                "pattern": str(pattern),
                "severity": percent / 100,
                "seed": seed,
                "thickness_mm": thickness,
                "doubtful_unknown": doubtful_unknown,
            }
            name = f"{group}-{pattern}-{percent:g}"
            if texture != "plain" and percent:
                about["texture"] = texture
                name += f"-{texture}"
            make = partial(_plant, grid, lungs, unknown, pattern, percent / 100, seed, texture)
            jobs.append(CaseJob(name, group, about, thickness, make))
    yield from write_cases(folder, jobs, writing, contract, workers=workers)


def _plant(
    grid: Volume,
    lungs: Mask,
    unknown: Mask,
    pattern: Pattern,
    severity: float,
    seed: int,
    texture: str,
) -> LabelledScan:
    hu, labels = grid.array, lungs.astype(np.uint8)
    if severity:
        own = [seed, round(1e6 * severity), *map(ord, pattern)]
        draw = int(np.random.default_rng(own).integers(2**31))
        plant = plant_measured if texture == "measured" else plant_lesions
        hu, labels = plant(grid, lungs, pattern=pattern, severity=severity, seed=draw)
    labels[unknown & (labels < _FIRST_LESION)] = IGNORE
    return LabelledScan(grid.with_array(hu), labels)
