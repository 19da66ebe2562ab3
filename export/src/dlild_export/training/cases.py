"""Cases to train on: `*.npz` files on disk, checked, mapped into memory, and split by patient."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract.classes import Label
from dlild_export.data.labels import IGNORE

CLASSES = len(Label)
_HIGHEST_MINIMUM_HU = -300  # of every CT of a chest; a volume without darker voxels is not in HU


class CaseError(ValueError):
    """A case that cannot be trained on; the message names the file and the reason."""


@dataclass(frozen=True)
class TrainingCase:
    """A scan and its truth, both on the grid.

    Attributes
    ----------
    path : pathlib.Path
        The `.npz` file.
    name, group : str
        Of the case, and of the patient: a patient's cases are never on both sides of a split.
    shape : tuple of int
        Voxels along z, y, x.
    """

    path: Path
    name: str
    group: str
    shape: tuple[int, int, int]


def open_case(path: Path) -> TrainingCase:
    """Check a case, and read what it says of itself.

    Raises
    ------
    CaseError
        The file is truncated, lacks an array, its arrays do not belong together, or their values
        cannot be.
    """
    hu, labels = load_arrays(path)
    if hu.ndim != 3 or hu.shape != labels.shape:
        raise CaseError(
            f"{path}: hu has shape {hu.shape} and labels {labels.shape}; both must be (z, y, x)"
        )
    if labels.dtype.kind not in "iu" or hu.dtype.kind not in "iuf":
        raise CaseError(
            f"{path}: hu is {hu.dtype} and labels {labels.dtype}; int16 and uint8 are meant"
        )
    check_values(path, hu, labels)
    info = _info(path)
    name = str(info.get("name", path.stem))
    return TrainingCase(path, name, str(info.get("group", name)), hu.shape)


def check_values(path: Path, hu: np.ndarray, labels: np.ndarray) -> None:
    """Raise `CaseError` where HU are not HU, or labels not those of the contract.

    Parameters
    ----------
    path : pathlib.Path
        For the message.
    hu, labels : ndarray, shape (z, y, x)
        What the file holds.
    """
    if not np.isfinite(hu).all():
        raise CaseError(f"{path}: {int((~np.isfinite(hu)).sum())} voxels of hu are not finite")
    if hu.min() > _HIGHEST_MINIMUM_HU:
        raise CaseError(
            f"{path}: the lowest hu is {hu.min():g}, so there is no air in the scan: these are "
            "no Hounsfield units"
        )
    if labels.dtype == np.uint8:  # counting is much faster than sorting
        found = np.flatnonzero(np.bincount(labels.reshape(-1))).tolist()
    else:
        found = np.unique(labels).tolist()
    unknown = [label for label in found if not (0 <= label < CLASSES or label == IGNORE)]
    if unknown:
        raise CaseError(
            f"{path}: labels {unknown} are none of the contract's 0 to {CLASSES - 1} (or "
            f"{IGNORE}, not known)"
        )
    if not any(1 <= label < CLASSES for label in found):
        raise CaseError(f"{path}: no voxel is labelled as lung or lesion")


def load_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return `hu` and `labels`, mapped into memory where the file is not compressed.

    Raises
    ------
    CaseError
        The file is no `.npz`, is truncated, or lacks one of them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            hu, labels = (_member(archive, path, f"{name}.npy") for name in ("hu", "labels"))
    except KeyError as error:
        raise CaseError(f"{path}: {error.args[0]}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CaseError(f"{path}: cannot be read: {error}") from None
    return hu, labels


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """Map an array inside an archive; `np.load` has no mapping for `.npz`."""
    entry = archive.getinfo(name)
    with archive.open(entry) as stream:
        if entry.compress_type != zipfile.ZIP_STORED:
            return np.lib.format.read_array(stream, allow_pickle=False)
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(stream)
        header_bytes = stream.tell()
    with path.open("rb") as file:
        # The local header repeats the name and may carry extra fields of its own length.
        file.seek(entry.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
    start = entry.header_offset + 30 + int(lengths.sum()) + header_bytes
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def _info(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        if "info" not in stored.files:
            return {}
        try:
            info = json.loads(str(stored["info"]))
        except json.JSONDecodeError as error:
            raise CaseError(f"{path}: info is no JSON: {error}") from None
    if not isinstance(info, dict):
        raise CaseError(f"{path}: info is no JSON object")
    return info


class ArrayCache:
    """Hands out the arrays of cases; compressed ones are kept in memory up to a bound.

    Parameters
    ----------
    bound_bytes : float
        Of the arrays that are no maps of files; the one used longest ago goes first.
    """

    def __init__(self, bound_bytes: float) -> None:
        self.bound_bytes = bound_bytes
        self._kept: OrderedDict[Path, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def get(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return `hu` and `labels` of a case."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        arrays = self._kept[path] = load_arrays(path)
        while len(self._kept) > 1 and self._bytes() > self.bound_bytes:
            self._kept.popitem(last=False)
        return arrays

    def _bytes(self) -> int:
        return sum(
            array.nbytes
            for arrays in self._kept.values()
            for array in arrays
            if not isinstance(array, np.memmap)
        )


def split(
    cases: list[TrainingCase], held_out: float, seed: int
) -> tuple[list[TrainingCase], list[TrainingCase]]:
    """Part cases into those to train on and those to validate on, patient by patient.

    A patient's side depends on nothing but name and seed, so that a set that grows keeps its
    split as far as it can.

    Parameters
    ----------
    cases : list of TrainingCase
        All.
    held_out : float
        Share of the groups for validation, rounded to whole groups.
    seed : int
        Of the split.

    Returns
    -------
    training, validation : list of TrainingCase
    """

    def rank(group: str) -> str:
        return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()

    groups = sorted({case.group for case in cases}, key=rank)
    kept = set(groups[: min(math.floor(held_out * len(groups) + 0.5), len(groups) - 1)])
    return [c for c in cases if c.group not in kept], [c for c in cases if c.group in kept]
