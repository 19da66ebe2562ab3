"""Cases of a dataset made here: phantoms, and lesions planted in real scans."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.errors import NotChestError
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.volume import SeriesInfo, Volume
from dlild_export.data.contracts import find_contract
from dlild_export.data.labels import IGNORE
from dlild_export.data.scans import LabelledScan
from dlild_export.data.threshold import (
    Labels,
    NoLungsError,
    doubtful_tissue,
    label_no_lesion,
    threshold_lungs,
)
from dlild_export.phantom import (
    Pattern,
    Phantom,
    PhantomSpec,
    make_phantom,
    plant_lesions,
    random_spec,
)
from dlild_export.phantom.fields import Mask
from dlild_export.phantom.measured import (
    MeasuredPatient,
    MeasuredSpec,
    draw_measured,
    draw_scan,
    make_measured,
    scan_measured,
)
from dlild_export.phantom.plant import plant_measured
from dlild_export.phantom.writing import CaseJob, Writing, write_cases

_FIRST_LESION = 2
PLANTERS = {"plain": plant_lesions, "measured": plant_measured}
"""What plants lesions of each texture."""
DOUBTFUL = ("lung", "unknown", "outside")
ILL = tuple(pattern for pattern in Pattern if pattern is not Pattern.NONE)


def phantom_name(seed: int) -> str:
    """Return the name of a phantom's case."""
    return f"phantom-{seed:06d}"


def mask_for(seed: int, lung_masks: list[Path]) -> Path | None:
    """Return the mask that a phantom takes its shape from: every second one does, in turn."""
    return lung_masks[seed // 2 % len(lung_masks)] if lung_masks and seed % 2 else None


def draw_spec(
    seed: int, *, lung_hu: tuple[float, float] | None = None, **fixed: Any
) -> PhantomSpec:
    """Draw a phantom at random, but for the knobs that are fixed.

    Parameters
    ----------
    seed : int
        Of the phantom.
    lung_hu : tuple of float, optional
        Range that the mean HU of healthy lung is drawn from.
    **fixed
        Attributes of `PhantomSpec`. A severity above 0 or a pattern draws no healthy phantom.

    Returns
    -------
    PhantomSpec

    Raises
    ------
    ValueError
        A value that no phantom can have.
    """
    ill = fixed.get("severity", 0.0) > 0 or fixed.get("pattern", Pattern.NONE) != Pattern.NONE
    drawn: dict[str, Any] = {"healthy_share": 0.0} if ill else {}
    if lung_hu is not None:
        drawn["lung_hu"] = lung_hu
    if fixed.get("severity") == 0.0 or fixed.get("pattern") == Pattern.NONE:
        fixed = {"severity": 0.0, "pattern": Pattern.NONE} | fixed
    return replace(random_spec(seed, **drawn), **fixed)


def write_phantoms(
    folder: Path,
    specs: list[PhantomSpec],
    *,
    lung_masks: list[Path],
    spacing_mm: float,
    workers: int,
    writing: Writing | None = None,
    contract: Contract | None = None,
) -> Iterator[str]:
    """Make phantoms, those that are not there yet, and name each that is done.

    Parameters
    ----------
    folder : pathlib.Path
        Where to; made if need be.
    specs : list of PhantomSpec
        What to make; the seeds name the cases.
    lung_masks : list of pathlib.Path
        Masks of real lungs; every second phantom takes its shape from one of them.
    spacing_mm : float
        Edge of a voxel.
    workers : int
        Processes to make them with.
    writing : Writing, optional
        In which form; prepared for the training when left out.
    contract : Contract, optional
        Names and codes of the classes; the checkout's when left out.

    Yields
    ------
    str
        Name of a phantom that is on disk now.

    Raises
    ------
    DatasetError
        A phantom of this seed, but made otherwise, is there already.
    """
    jobs = [_plain_job(spec, mask_for(spec.seed, lung_masks), spacing_mm) for spec in specs]
    chosen = contract or find_contract()
    yield from write_cases(folder, jobs, writing or Writing(), chosen, workers=workers)


def _plain_job(spec: PhantomSpec, lung_mask: Path | None, spacing_mm: float) -> CaseJob:
    about = asdict(spec) | _shape(lung_mask, spacing_mm)
    name = phantom_name(spec.seed)
    make = partial(labelled_phantom, spec, lung_mask, spacing_mm)
    return CaseJob(name, name, json.loads(json.dumps(about)), spec.thickness_mm, make)


def _shape(lung_mask: Path | None, spacing_mm: float) -> dict[str, Any]:
    return {"lung_mask": None if lung_mask is None else lung_mask.name, "grid_mm": spacing_mm}


def _centred(phantom: Phantom, thickness_mm: float) -> LabelledScan:
    spacing = phantom.spacing_mm
    z, y, x = (-(n - 1) / 2 * spacing for n in phantom.hu.shape)
    series = SeriesInfo(slice_thickness_mm=thickness_mm)
    volume = Volume(phantom.hu, (spacing, spacing, spacing), (x, y, z), series=series)
    return LabelledScan(volume, phantom.labels)


def labelled_phantom(spec: PhantomSpec, lung_mask: Path | None, spacing_mm: float) -> LabelledScan:
    """Make a phantom, centred on the origin of the patient's coordinates."""
    phantom = make_phantom(spec, spacing_mm=spacing_mm, lung_mask=lung_mask)
    return _centred(phantom, spec.thickness_mm)


def measured_name(seed: int) -> str:
    """Return the name of a phantom's case."""
    return f"measured-{seed:06d}"


def write_measured(
    folder: Path,
    seeds: Sequence[int],
    *,
    lung_masks: list[Path],
    spacing_mm: float,
    workers: int,
    scans: int = 1,
    writing: Writing | None = None,
    contract: Contract | None = None,
) -> Iterator[str]:
    """Make phantoms of measured texture, those that are not there yet, and name each that is done.

    Parameters
    ----------
    folder : pathlib.Path
        Where to; made if need be.
    seeds : sequence of int
        Of the phantoms; they name the cases.
    scans : int
        Of each patient, by as many scanners: a group.
    lung_masks, spacing_mm, workers, writing, contract
        As in `dlild_export.phantom.cases.write_phantoms`.

    Yields
    ------
    str
        Name of a phantom that is on disk now.
    """
    jobs = [
        _measured_job(draw_measured(seed), mask_for(seed, lung_masks), spacing_mm, scan)
        for seed in seeds
        for scan in range(scans)
    ]
    chosen = contract or find_contract()
    yield from write_cases(folder, jobs, writing or Writing(), chosen, workers=workers)


def _measured_job(
    spec: MeasuredSpec, lung_mask: Path | None, spacing_mm: float, scan: int
) -> CaseJob:
    seed = spec.body.seed
    if scan:
        again = np.random.default_rng([seed, 10, scan])
        spec = replace(spec, scan=draw_scan(seed + 1_000_003 * scan, again))
    about = {
        "texture": "measured",
        "seed": seed,
        "pattern": str(spec.body.pattern),
        "severity": spec.body.severity,
        "lung_hu": spec.body.lung_hu,
        "thickness_mm": spec.scan.thickness_mm,
        "scan": asdict(spec.scan),
    } | _shape(lung_mask, spacing_mm)
    group = measured_name(seed)
    name = f"{group}-{scan}" if scan else group
    make = partial(labelled_measured, spec, lung_mask, spacing_mm)
    return CaseJob(name, group, json.loads(json.dumps(about)), spec.scan.thickness_mm, make)


def labelled_measured(
    spec: MeasuredSpec, lung_mask: Path | None, spacing_mm: float
) -> LabelledScan:
    """Make a phantom and scan it, centred on the origin of the patient's coordinates."""
    patient = _patient(spec.body.seed, lung_mask, spacing_mm)
    return _centred(scan_measured(patient, spec.scan), spec.scan.thickness_mm)


@lru_cache(maxsize=1)
def _patient(seed: int, lung_mask: Path | None, spacing_mm: float) -> MeasuredPatient:
    """Remember the last patient, who may be scanned again next."""
    return make_measured(draw_measured(seed), spacing_mm=spacing_mm, lung_mask=lung_mask)


@dataclass(frozen=True, kw_only=True)
class Planting:
    """Which lesions to plant: one case for every pair of pattern and percentage.

    Attributes
    ----------
    percents : sequence of float
        True DL-ILD of the cases; 0 gives the scan as it is.
    patterns : sequence of Pattern
        Disease patterns, those that are ill.
    seed : int
        Of positions and textures; cases differ in theirs all the same.
    doubtful : {'lung', 'unknown', 'outside'}
        What solid tissue is called that a threshold cannot judge (a mass, the hila, the dome of the
        diaphragm): lung as the threshold has it; unknown, for training on scans that may hold
        lesions; or outside the lungs, for those that are known to hold none (`label_no_lesion`).
    texture : {'plain', 'measured'}
        How fine the lesions are.

    Raises
    ------
    ValueError
        A percentage that no lung can have, a pattern without lesions, or another word.
    """

    percents: Sequence[float]
    patterns: Sequence[Pattern] = ILL
    seed: int = 0
    doubtful: str = "lung"
    texture: str = "plain"

    def __post_init__(self) -> None:
        """Check every field."""
        if Pattern.NONE in self.patterns or not all(0 <= p <= 90 for p in self.percents):
            raise ValueError(
                f"{', '.join(f'{p:g}' for p in self.percents)} % of {', '.join(self.patterns)}: "
                f"give 0 to 90 % and patterns of {', '.join(ILL)}"
            )
        if self.texture not in PLANTERS:
            raise ValueError(f"texture is {self.texture!r}, give {' or '.join(PLANTERS)}")
        if self.doubtful not in DOUBTFUL:
            raise ValueError(f"doubtful is {self.doubtful!r}, give {' or '.join(DOUBTFUL)}")


def write_planted(
    scan: Path,
    folder: Path,
    planting: Planting,
    *,
    contract: Contract,
    writing: Writing,
    workers: int = 1,
) -> Iterator[str]:
    """Plant lesions in the lungs of a healthy scan.

    Parameters
    ----------
    scan : Path
        Chest CT as the client reads them; its lungs are what a threshold finds.
    folder : Path
        Where to.
    planting : Planting
        Which lesions.
    contract : Contract
        Grid and classes.
    writing : Writing
        In which form.
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
    """
    grid = to_grid(read_volume(scan), contract)
    try:
        lungs = threshold_lungs(grid.array, grid.spacing_mm[0])
    except NoLungsError as error:
        raise NotChestError(
            f"{scan.name}: {error}; give a chest CT without dense lesions"
        ) from None
    sound = _label_sound(grid, lungs, planting.doubtful)
    # Named by its voxels: the name of a folder may be that of a patient.
    group = f"planted-{(grid.series.digest or '').removeprefix('sha256:')[:8]}"
    thickness = grid.series.slice_thickness_mm or grid.spacing_mm[0]
    jobs = []
    seed, texture = planting.seed, planting.texture
    for percent in planting.percents:
        for pattern in planting.patterns if percent else (Pattern.NONE,):
            about = {
                "pattern": str(pattern),
                "severity": percent / 100,
                "seed": seed,
                "thickness_mm": thickness,
                "doubtful": planting.doubtful,
            }
            name = f"{group}-{pattern}-{percent:g}"
            if texture != "plain" and percent:
                about["texture"] = texture
                name += f"-{texture}"
            make = partial(_plant, grid, lungs, sound, pattern, percent / 100, seed, texture)
            jobs.append(CaseJob(name, group, about, thickness, make))
    yield from write_cases(folder, jobs, writing, contract, workers=workers)


def _plant(
    grid: Volume,
    lungs: Mask,
    sound: Labels,
    pattern: Pattern,
    severity: float,
    seed: int,
    texture: str,
) -> LabelledScan:
    hu, labels = grid.array, sound
    if severity:
        own = [seed, round(1e6 * severity), *map(ord, pattern)]
        draw = int(np.random.default_rng(own).integers(2**31))
        hu, planted = PLANTERS[texture](grid, lungs, pattern=pattern, severity=severity, seed=draw)
        labels = np.where(planted < _FIRST_LESION, sound, planted)
    return LabelledScan(grid.with_array(hu), labels)


def _label_sound(grid: Volume, lungs: Mask, doubtful: str) -> Labels:
    """Label the scan before anything is planted."""
    spacing_mm = grid.spacing_mm[0]
    if doubtful == "outside":
        return label_no_lesion(grid.array, lungs, spacing_mm)
    labels = lungs.astype(np.uint8)
    if doubtful == "unknown":
        labels[doubtful_tissue(grid.array, lungs, spacing_mm)] = IGNORE
    return labels
