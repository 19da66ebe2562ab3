"""Phantoms of measured texture on disk: which ones, and of what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from dlild_client.contract import Contract
from dlild_client.volume import SeriesInfo, Volume
from dlild_export.data.contracts import find_contract
from dlild_export.data.scans import LabelledScan
from dlild_export.phantom.cases import mask_for
from dlild_export.phantom.measured import (
    MeasuredPatient,
    MeasuredSpec,
    draw_measured,
    draw_scan,
    make_measured,
    scan_measured,
)
from dlild_export.phantom.writing import CaseJob, Writing, write_cases


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
        _job(draw_measured(seed), mask_for(seed, lung_masks), spacing_mm, scan)
        for seed in seeds
        for scan in range(scans)
    ]
    chosen = contract or find_contract()
    yield from write_cases(folder, jobs, writing or Writing(), chosen, workers=workers)


def _job(spec: MeasuredSpec, lung_mask: Path | None, spacing_mm: float, scan: int) -> CaseJob:
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
        "lung_mask": None if lung_mask is None else lung_mask.name,
        "grid_mm": spacing_mm,
    }
    group = measured_name(seed)
    name = f"{group}-{scan}" if scan else group
    make = partial(labelled_measured, spec, lung_mask, spacing_mm)
    return CaseJob(name, group, json.loads(json.dumps(about)), spec.scan.thickness_mm, make)


def labelled_measured(
    spec: MeasuredSpec, lung_mask: Path | None, spacing_mm: float
) -> LabelledScan:
    """Make a phantom and scan it, centred on the origin of the patient's coordinates."""
    patient = _patient(spec.body.seed, lung_mask, spacing_mm)
    phantom = scan_measured(patient, spec.scan)
    z, y, x = (-(n - 1) / 2 * spacing_mm for n in phantom.hu.shape)
    series = SeriesInfo(slice_thickness_mm=spec.scan.thickness_mm)
    volume = Volume(phantom.hu, (spacing_mm,) * 3, (x, y, z), series=series)
    return LabelledScan(volume, phantom.labels)


@lru_cache(maxsize=1)
def _patient(seed: int, lung_mask: Path | None, spacing_mm: float) -> MeasuredPatient:
    """Remember the last patient, who may be scanned again next."""
    return make_measured(draw_measured(seed), spacing_mm=spacing_mm, lung_mask=lung_mask)
