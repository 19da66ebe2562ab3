"""Where cases come from: phantoms made on the fly, prepared scans, and datasets to prepare."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.errors import InputError, UnreadableFile
from dlild_client.volume import Volume
from dlild_export.evaluation.metrics import Labels
from dlild_export.phantom import PhantomSpec, make_phantom
from dlild_export.phantoms import mask_for


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


def phantom_name(seed: int) -> str:
    """Return the name of a phantom, as datasets of phantoms have it too."""
    return f"phantom-{seed:06d}"


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
            name=phantom_name(spec.seed),
            grid=Volume(phantom.hu, spacing_mm),
            truth=phantom.labels,
            pattern=str(spec.pattern),
            thickness_mm=spec.thickness_mm,
        )


@dataclass(frozen=True)
class StoredCase:
    """A prepared scan on disk: an NPZ file with `hu`, `labels`, and `info` or `spec` as JSON.

    Attributes
    ----------
    path : pathlib.Path
    name : str
    about : mapping
        What the file says of itself.
    """

    path: Path
    name: str
    about: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> StoredCase:
        """Read what a prepared scan says of itself, not its voxels.

        Raises
        ------
        UnreadableFile
            The file is not such a scan; the message names it.
        """
        with _reading(path), np.load(path) as stored:
            about = dict(json.loads(str(stored["info" if "info" in stored else "spec"])))
        return cls(path, str(about.get("name", path.stem)), about)

    def read(self, contract: Contract) -> Case:
        """Read the scan and its truth.

        Raises
        ------
        UnreadableFile
            The file is not a scan with its truth; the message names it.
        """
        with _reading(self.path), np.load(self.path) as stored:
            hu, truth = stored["hu"], stored["labels"]
        _check(self.path, hu, truth)
        thickness = self.about.get("thickness_mm", self.about.get("slice_step_mm"))
        pattern = self.about.get("pattern")
        return Case(
            name=self.name,
            grid=Volume(hu, contract.grid.spacing_mm),
            truth=truth,
            pattern=None if pattern is None else str(pattern),
            thickness_mm=None if thickness is None else float(thickness),
        )


def dataset_files(
    dataset: Path,
    work: Path,
    contract: Contract,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Find the scans of a dataset, prepared where they are not yet.

    Parameters
    ----------
    dataset : pathlib.Path
        A folder of prepared NPZ files, or a dataset in nnU-Net's layout.
    work : pathlib.Path
        Folder for what has to be prepared.
    contract : Contract
        Grid and classes.
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
    files = sorted(f for f in dataset.glob("*.npz") if not f.name.startswith((".", "unfinished")))
    if files:
        return files
    if (dataset / "dataset.json").is_file():
        from dlild_export.prepare import prepare  # noqa: PLC0415

        prepared: list[Path] = prepare(dataset, work, contract=contract, progress=progress)
        return prepared
    raise UnreadableFile(
        f"{dataset}: neither prepared scans (*.npz) nor a dataset.json; give a dataset, or leave "
        "it out to evaluate on phantoms"
    )


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise UnreadableFile(f"{file.name}: no {error} in it; prepare the dataset again") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableFile(f"{file.name}: {error}; prepare the dataset again") from None


def _check(file: Path, hu: np.ndarray, truth: np.ndarray) -> None:
    if hu.ndim != 3 or hu.shape != truth.shape:
        raise UnreadableFile(
            f"{file.name}: hu has shape {hu.shape}, labels {truth.shape}; both must be (z, y, x)"
        )
    if hu.dtype.kind != "i" or truth.dtype != np.uint8:
        raise UnreadableFile(
            f"{file.name}: hu is {hu.dtype}, labels {truth.dtype}; they must be int16 and uint8"
        )
