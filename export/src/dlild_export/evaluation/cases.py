"""Where cases come from: phantoms made on the fly, prepared scans, and datasets to prepare."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.errors import InputError, UnreadableFileError
from dlild_client.volume import Volume
from dlild_export.cases import CaseError, check_values, load_arrays
from dlild_export.evaluation.metrics import Labels
from dlild_export.phantom import PhantomSpec, make_phantom
from dlild_export.phantoms import mask_for, phantom_name
from dlild_export.prepare import prepare, prepared_files, read_info


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
            name=phantom_name(spec.seed),
            grid=Volume(phantom.hu, spacing_mm),
            truth=phantom.labels,
            pattern=str(spec.pattern),
            thickness_mm=spec.thickness_mm,
        )


@dataclass(frozen=True)
class StoredCase:
    """A prepared scan on disk: an NPZ file with `hu`, `labels` and `info`.

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
        UnreadableFileError
            The file is not such a scan; the message names it.
        """
        try:
            about = dict(read_info(path))
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = f"{path.name}: what it says of itself cannot be read: {error}"
            raise UnreadableFileError(f"{reason}; prepare the dataset again") from None
        return cls(path, str(about.get("name", path.stem)), about)

    def read(self, contract: Contract) -> Case:
        """Read the scan and its truth.

        Raises
        ------
        CaseError
            The file is not a scan with its truth; the message names it.
        """
        hu, truth = load_arrays(self.path)
        if hu.ndim != 3 or hu.shape != truth.shape:
            raise CaseError(
                f"{self.path}: hu has shape {hu.shape} and labels {truth.shape}; both must be "
                "(z, y, x)"
            )
        check_values(self.path, hu, truth)
        thickness = self.about.get("thickness_mm", self.about.get("slice_step_mm"))
        pattern = self.about.get("pattern")
        return Case(
            name=self.name,
            grid=Volume(np.asarray(hu, np.int16), contract.grid.spacing_mm),
            truth=np.asarray(truth, np.uint8),
            pattern=None if pattern is None else str(pattern),
            thickness_mm=None if thickness is None else float(thickness),
        )


def dataset_files(
    dataset: Path,
    work: Path,
    contract: Contract,
    *,
    overrides: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Find the scans of a dataset, prepared where they are not yet.

    Parameters
    ----------
    dataset : pathlib.Path
        A folder of prepared NPZ files, or a dataset in one of the layouts of `dlild_export.layout`.
    work : pathlib.Path
        Folder for what has to be prepared.
    contract : Contract
        Grid and classes.
    overrides : mapping of str to str, optional
        Their label names to ours.
    progress : callable, optional
        Called with the scans prepared, and all of them.

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    DatasetError
        It is no dataset, or one with faults.
    UnreadableFileError
        There is no such folder.
    """
    if not dataset.is_dir():
        raise UnreadableFileError(
            f"{dataset}: no such folder; leave it out to evaluate on phantoms"
        )
    if any(dataset.glob("*.npz")):
        return prepared_files(dataset)
    return prepare(dataset, work, contract=contract, overrides=overrides, progress=progress)
