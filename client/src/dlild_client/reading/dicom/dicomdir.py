"""DICOMDIR: directory of a medium with DICOM files.

Copying a medium may change the case of names or add a suffix, so file IDs are matched leniently,
but never outside the folder of the DICOMDIR.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlild_client.errors import NoSeriesError, TooLargeError, UnreadableFileError
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.reading.sources import MAXIMUM_FILES, FileSource, Listing

MAXIMUM_BYTES = 100_000_000


def list_dicomdir(path: Path) -> Listing:
    """List the image files that a DICOMDIR names.

    Parameters
    ----------
    path : Path
        The DICOMDIR itself.

    Returns
    -------
    Listing
        Existing files, and the number of missing ones.

    Raises
    ------
    UnreadableFileError
        Not a DICOMDIR, or none of its files exists.
    NoSeriesError
        It names no image.
    """
    names = _file_ids(path)
    if not names:
        raise NoSeriesError("DICOMDIR names no image; give the folder of a chest CT series")
    folders: dict[Path, dict[str, Path]] = {}
    found = [_find(path.parent, parts, folders) for parts in names]
    present = sorted({p for p in found if p is not None})
    if not present:
        raise UnreadableFileError(
            f"DICOMDIR names {len(names)} files and none is there; copy the whole medium"
        )
    missing = sum(p is None for p in found)
    return Listing(tuple(FileSource(p) for p in present), missing)


def _file_ids(path: Path) -> list[list[str]]:
    """Components of the file IDs of all image records, in order."""
    pydicom = load_pydicom()
    if path.stat().st_size > MAXIMUM_BYTES:
        raise TooLargeError("DICOMDIR is over 100 MB; give the folder of a chest CT series")
    try:
        with quiet():
            dataset = pydicom.dcmread(path)
            records = dataset.DirectoryRecordSequence
            ids = [_parts(record) for record in records if "ReferencedFileID" in record]
    except Exception:
        raise UnreadableFileError(
            "DICOMDIR cannot be read; give the folder that it lies in, or that of the series"
        ) from None
    if len(ids) > MAXIMUM_FILES:
        raise TooLargeError(f"DICOMDIR names {len(ids)} files; give the folder of one CT study")
    return [parts for parts in ids if parts]


def _parts(record: Any) -> list[str]:
    value = record.ReferencedFileID
    parts = [value] if isinstance(value, str) else [str(part) for part in value]
    return [name for part in parts for name in part.replace("\\", "/").split("/") if name]


def _find(root: Path, parts: list[str], folders: dict[Path, dict[str, Path]]) -> Path | None:
    """Resolve a file ID case-insensitively below the root; None where there is no such file."""
    path = root
    for part in parts:
        if part in {".", ".."}:
            return None
        if path not in folders:
            folders[path] = _entries(path)
        known = folders[path]
        key = part.strip().casefold()
        match = known.get(key) or known.get(f"{key}.dcm") or known.get(f"{key};1")
        if match is None:
            return None
        path = match
    return path if path.is_file() else None


def _entries(folder: Path) -> dict[str, Path]:
    try:
        return {p.name.casefold(): p for p in sorted(folder.iterdir())}
    except OSError:
        return {}
