"""Phantoms on disk: which ones, and of what; `dlild_export.phantom.writing` says in which form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from dlild_client.contract import Contract
from dlild_client.volume import SeriesInfo, Volume
from dlild_export.data.contracts import find_contract
from dlild_export.data.scans import LabelledScan
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom, random_spec
from dlild_export.phantom.writing import CaseJob, Writing, write_cases


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
    jobs = [_job(spec, mask_for(spec.seed, lung_masks), spacing_mm) for spec in specs]
    chosen = contract or find_contract()
    yield from write_cases(folder, jobs, writing or Writing(), chosen, workers=workers)


def _job(spec: PhantomSpec, lung_mask: Path | None, spacing_mm: float) -> CaseJob:
    about = asdict(spec) | {
        "lung_mask": None if lung_mask is None else lung_mask.name,
        "grid_mm": spacing_mm,
    }
    name = phantom_name(spec.seed)
    make = partial(labelled_phantom, spec, lung_mask, spacing_mm)
    return CaseJob(name, name, json.loads(json.dumps(about)), spec.thickness_mm, make)


def labelled_phantom(spec: PhantomSpec, lung_mask: Path | None, spacing_mm: float) -> LabelledScan:
    """Make a phantom, centred on the origin of the patient's coordinates."""
    phantom = make_phantom(spec, spacing_mm=spacing_mm, lung_mask=lung_mask)
    z, y, x = (-(n - 1) / 2 * spacing_mm for n in phantom.hu.shape)
    series = SeriesInfo(slice_thickness_mm=spec.thickness_mm)
    spacing = (spacing_mm, spacing_mm, spacing_mm)
    volume = Volume(phantom.hu, spacing, (x, y, z), series=series)
    return LabelledScan(volume, phantom.labels)
