"""Where cases come from: phantoms made on the fly, prepared scans, and datasets to prepare."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.errors import InputError, UnreadableFile
from dlild_client.volume import Volume
from dlild_export.dataset import mask_for
from dlild_export.evaluation.metrics import Labels
from dlild_export.phantom import PhantomSpec, make_phantom


@dataclass(frozen=True, eq=False)
class Case:
    """One scan whose truth is known.

    Attributes
    ----------
    name : str
        Of the file or the seed; names no patient.
    grid : Volume
        HU on the model grid.
    truth : ndarray of uint8, shape (z, y, x)
        Labels of the contract, 255 where nobody has labelled.
    pattern : str or None
        Disease pattern, where it is known.
    thickness_mm : float or None
        Slice thickness, where it is known.
    """

    name: str
    grid: Volume
    truth: Labels
    pattern: str | None = None
    thickness_mm: float | None = None


def phantom_cases(
    specs: Iterable[PhantomSpec], contract: Contract, lung_masks: list[Path]
) -> Iterator[Case]:
    """Make phantoms, one after the other.

    Parameters
    ----------
    specs : iterable of PhantomSpec
    contract : Contract
        Spacing of the grid.
    lung_masks : list of pathlib.Path
        Masks of real lungs for every second phantom.

    Yields
    ------
    Case
    """
    spacing_mm = contract.grid.spacing_mm
    if len(set(spacing_mm)) != 1:
        raise InputError(f"phantoms have cubic voxels, the contract's grid has {spacing_mm} mm")
    for spec in specs:
        mask = mask_for(spec.seed, lung_masks)
        phantom = make_phantom(spec, spacing_mm=spacing_mm[0], lung_mask=mask)
        yield Case(
            name=f"phantom-{spec.seed}",
            grid=Volume(phantom.hu, spacing_mm),
            truth=phantom.labels,
            pattern=str(spec.pattern),
            thickness_mm=spec.thickness_mm,
        )


def stored_cases(files: Iterable[Path], contract: Contract) -> Iterator[Case]:
    """Read prepared scans: NPZ files with `hu`, `labels`, and `info` or `spec` as JSON.

    Yields
    ------
    Case

    Raises
    ------
    UnreadableFile
        A file is not such a scan; the message names it.
    """
    for file in files:
        yield _read(file, contract)


def dataset_files(
    dataset: Path, work: Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Find the scans of a dataset, prepared where they are not yet.

    Parameters
    ----------
    dataset : pathlib.Path
        A folder of prepared NPZ files, or a dataset in nnU-Net's layout.
    work : pathlib.Path
        Folder for what has to be prepared.
    progress : callable, optional
        Handed to the preparation.

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    UnreadableFile
        Neither of both.
    """
    files = sorted(f for f in dataset.glob("*.npz") if not f.name.startswith("unfinished"))
    if files:
        return files
    if (dataset / "dataset.json").is_file():
        from dlild_export.prepare import prepare  # noqa: PLC0415

        return prepare(dataset, work, progress=progress)
    raise UnreadableFile(
        f"{dataset}: neither prepared scans (*.npz) nor a dataset.json; give a dataset, or leave "
        "it out to evaluate on phantoms"
    )


def _read(file: Path, contract: Contract) -> Case:
    try:
        with np.load(file) as stored:
            hu, truth = stored["hu"], stored["labels"]
            about = json.loads(str(stored["info" if "info" in stored else "spec"]))
    except KeyError as error:
        raise UnreadableFile(f"{file.name}: no {error} in it; prepare the dataset again") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UnreadableFile(f"{file.name}: {error}; prepare the dataset again") from None
    _check(file, hu, truth)
    return Case(
        name=file.stem,
        grid=Volume(hu, contract.grid.spacing_mm),
        truth=truth,
        pattern=_text(about.get("pattern")),
        thickness_mm=_number(about.get("thickness_mm", about.get("slice_thickness_mm"))),
    )


def _check(file: Path, hu: np.ndarray, truth: np.ndarray) -> None:
    if hu.ndim != 3 or hu.shape != truth.shape or truth.dtype != np.uint8:
        raise UnreadableFile(
            f"{file.name}: hu has shape {hu.shape}, labels {truth.shape} {truth.dtype}; they must "
            "be (z, y, x) alike, labels uint8"
        )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
