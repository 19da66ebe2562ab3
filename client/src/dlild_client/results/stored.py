"""Reads the files of a result: what was written by `write_result`, or by `dlild batch`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract.result import RESULT_SCHEMA_VERSION
from dlild_client.contract.schema import HuRange
from dlild_client.errors import BadSettingsError, UnreadableFileError, printable
from dlild_client.preparation.grid import resample_to_grid
from dlild_client.reading.images.read import read_label_map
from dlild_client.volume import AIR_HU, Volume

RESULT, LABELS, OVERLAY = "result.json", "labels.nii.gz", "overlay.png"
REPORT, READING = "report.html", "reading.html"
"""Pages of a result: with its score, and with the score covered."""
COMPARISON, COMPARISON_PAGE, COMPARISON_SR = "comparison.json", "comparison.html", "comparison.dcm"
SHOWN_HU = HuRange(AIR_HU, 2047, AIR_HU)
"""Range in which the HU of a stored result are read again, for a viewer."""
_PARTS = {
    "classes": dict, "zones": dict, "grid": dict, "model": dict, "series": dict, "flags": list,
}  # fmt: skip
"""What every reader of a result needs."""
ORIGIN_MM = 0.01
"""Grids whose first voxels lie this close are one."""


@dataclass(frozen=True)
class StoredResult:
    """A result that was read from its file.

    Attributes
    ----------
    path : Path
        Of the JSON file.
    document : mapping
        Its fields (`contract.result.ResultDocument`).
    folder : Path
        Where `labels.nii.gz` and `overlay.png` of this result lie, if they were written.
    of_batch : bool
        Whether `dlild batch` wrote it: `OUT/scans/NAME.json`.
    """

    path: Path
    document: Mapping[str, Any]
    folder: Path
    of_batch: bool = False

    def file(self, name: str) -> Path | None:
        """Return the path of a file beside the result; None where there is none."""
        path = self.folder / name
        return path if path.is_file() else None

    def labels(self) -> Volume:
        """Read the label map.

        Raises
        ------
        InputError
            It is missing, damaged, or of another grid than the result's.
        """
        path = self.file(LABELS)
        if path is None:
            raise UnreadableFileError(
                f"{self.folder.name}: no {LABELS} there; write it with `dlild score --out` or "
                "`dlild batch --images`"
            )
        labels = read_label_map(path)
        shape = tuple(self.document["grid"]["shape"])
        if labels.shape != shape:
            raise UnreadableFileError(
                f"{LABELS}: {labels.shape} voxels, but {shape} in {self.path.name}; "
                "they are of different results"
            )
        return labels

    def image(self, read: Callable[[], Volume], labels: Volume) -> Volume:
        """Read the scan of this result again, on the grid of its label map.

        Parameters
        ----------
        read : callable
            Returns the scan, as `read_volume` does.
        labels : Volume
            From `labels`.

        Returns
        -------
        Volume
            int16 HU.

        Raises
        ------
        InputError
            The scan cannot be read, or is another one than was scored.
        """
        volume = self.scan(read)
        z, y, x = (float(mm) for mm in self.document["grid"]["spacing_mm"])
        image = resample_to_grid(volume, (z, y, x), SHOWN_HU)
        apart = np.abs(np.subtract(image.origin_mm, labels.origin_mm)).max()
        if image.shape != labels.shape or apart > ORIGIN_MM:
            raise UnreadableFileError(
                f"{LABELS}: not on the grid of the scan; score the scan again with this version"
            )
        return image

    def scan(self, read: Callable[[], Volume]) -> Volume:
        """Read the scan of this result again.

        Parameters
        ----------
        read : callable
            Returns the scan, as `read_volume` does.

        Returns
        -------
        Volume

        Raises
        ------
        InputError
            The scan cannot be read, or is another one than was scored.
        """
        volume = read()
        if volume.series.digest != self.document["series"].get("digest"):
            raise UnreadableFileError(
                f"the scan is not the one that {self.path.name} is of: their series digests "
                "differ; give the scan (or --series) that was scored"
            )
        return volume


def read_stored(path: str | os.PathLike[str]) -> StoredResult:
    """Read a result.

    Parameters
    ----------
    path : path
        Folder with `result.json`, or the JSON file itself: `OUT/scans/NAME.json` of a batch, too,
        whose pictures are in `OUT/images/NAME`.

    Returns
    -------
    StoredResult

    Raises
    ------
    BadSettingsError
        No such file.
    UnreadableFileError
        Not the JSON of a result, or of another schema.
    """
    path = Path(path)
    name = printable(path.name or str(path))
    file = path / RESULT if path.is_dir() else path
    if not file.is_file():
        missing = f"no {RESULT} there" if path.is_dir() else "no such file or folder"
        raise BadSettingsError(f"{name}: {missing}; give the folder that `dlild score --out` wrote")
    document = _document(file)
    of_batch = file.parent.name == "scans" and "key" in document
    folder = file.parent.parent / "images" / file.stem if of_batch else file.parent
    return StoredResult(file, document, folder, of_batch)


def read_document(
    file: Path, schema_version: int, *, holds: Set[str], not_json: str, another: str
) -> dict[str, Any]:
    """Read a JSON document that this software wrote, and check of which kind and schema it is.

    Parameters
    ----------
    file : Path
    schema_version : int
        The one that is understood.
    holds : set of str
        Fields that a document of this kind has.
    not_json, another : str
        What to do where it is no JSON; what is wrong, and what to do, where it is another document.

    Raises
    ------
    UnreadableFileError
        It cannot be read, or is not such a document.
    """
    name = printable(file.name)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableFileError(f"{name}: {error.strerror}") from None
    except ValueError:
        raise UnreadableFileError(f"{name}: not JSON; {not_json}") from None
    if not isinstance(document, dict) or not holds <= document.keys():
        raise UnreadableFileError(f"{name}: {another}")
    version = document.get("schema_version")
    if version != schema_version:
        raise UnreadableFileError(
            f"{name}: schema_version {version!r}, this client understands {schema_version}; use "
            "the dlild-client that wrote it"
        )
    return document


def _document(file: Path) -> Mapping[str, Any]:
    name = printable(file.name)
    document = read_document(
        file,
        RESULT_SCHEMA_VERSION,
        holds={"dl_ild_percent"},
        not_json="give the result.json of a scan",
        another="not the result of a scan; give its result.json",
    )
    for field, kind in _PARTS.items():
        if field not in document:
            raise UnreadableFileError(
                f"{name} lacks the field {field!r}; score the scan again with this version"
            )
        if not isinstance(document[field], kind):
            raise UnreadableFileError(
                f"{name} has a field of a wrong type: {field}; score the scan again"
            )
    if not (
        _are_numbers(document["grid"], "shape") and _are_numbers(document["grid"], "spacing_mm")
    ):
        raise UnreadableFileError(f"{name} has a field of a wrong type: grid; score the scan again")
    return document


def _are_numbers(fields: Mapping[str, Any], name: str) -> bool:
    """Whether a field is three numbers."""
    values = fields.get(name)
    if not isinstance(values, list):
        return False
    return len(values) == 3 and all(isinstance(value, int | float) for value in values)
