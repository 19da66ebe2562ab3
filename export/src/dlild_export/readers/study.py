"""The study: which scans were read, by whom, and where their label maps are.

A study is a TOML or JSON file with a list `scan`; paths are relative to the file::

    name = "two readers"

    [[scan]]
    name = "patient 1"                # must not identify a patient
    result = "results/1"              # folder of `dlild score --out`, or a label map alone
    scan = "scans/1"                  # the CT; needed for pixel coordinates, DICOM SEG, density
    readers.first = "first/1.json"    # one file, or a list of files
    readers.second = ["second/1a.dcm", "second/1b.dcm"]

Or it is a folder with one folder a scan: `result/` or `labels.nii.gz`, `scan/` (or `scan.nii.gz`),
and for each reader a file, or a folder of DICOM SEG, named after the reader.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlild_client.errors import InputError, UnreadableFileError

LABELS = "labels.nii.gz"
_KEYS = {"name", "result", "scan", "readers"}


@dataclass(frozen=True)
class StudyScan:
    """One scan of a study.

    Attributes
    ----------
    name : str
    result : pathlib.Path or None
        Folder of a result, or a label map.
    scan : pathlib.Path or None
        The CT.
    readers : mapping of str to tuple of pathlib.Path
        Files of each reader.
    """

    name: str
    result: Path | None
    scan: Path | None
    readers: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True)
class Study:
    """The scans of a study, and its name."""

    name: str
    scans: tuple[StudyScan, ...]


def read_study(path: Path) -> Study:
    """Read a study.

    Parameters
    ----------
    path : pathlib.Path
        A TOML or JSON file, or a folder.

    Returns
    -------
    Study

    Raises
    ------
    InputError
        The file is no study, or names files that are not there; the message says which.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise UnreadableFileError(
            f"{path}: no such file; give a study in TOML or JSON, or a folder"
        )
    try:
        text = path.read_text("utf-8-sig")
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise UnreadableFileError(f"{path.name}: neither TOML nor JSON: {error}") from None
    return _of_document(document, path)


def _of_document(document: Any, path: Path) -> Study:
    scans = document.get("scan") if isinstance(document, dict) else None
    if not isinstance(scans, list) or not scans or not all(isinstance(s, dict) for s in scans):
        raise InputError(f"{path.name}: a study needs a list `scan` of one entry a scan")
    found = [_scan(entry, number, path) for number, entry in enumerate(scans, start=1)]
    names = [scan.name for scan in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{path.name}: two scans are named {sorted(twice)[0]!r}; name each apart")
    return Study(str(document.get("name", path.stem)), tuple(found))


def _scan(entry: dict[str, Any], number: int, path: Path) -> StudyScan:
    name = str(entry.get("name", f"scan {number}"))
    where = f"{path.name}: {name}"
    if unknown := sorted(entry.keys() - _KEYS):
        raise InputError(f"{where}: unknown field {unknown[0]!r}; known are {sorted(_KEYS)}")
    readers = entry.get("readers")
    if not isinstance(readers, dict) or not readers:
        raise InputError(f"{where}: no readers; give readers.NAME = FILE")
    files = {
        str(reader): tuple(
            _existing(path.parent, file, f"{where}, reader {reader}") for file in _listed(given)
        )
        for reader, given in readers.items()
    }
    paths = {
        key: _existing(path.parent, entry[key], f"{where}, {key}") if key in entry else None
        for key in ("result", "scan")
    }
    return StudyScan(name, paths["result"], paths["scan"], files)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _existing(folder: Path, given: Any, where: str) -> Path:
    if not isinstance(given, str) or not given:
        raise InputError(f"{where}: {given!r} is no path")
    path = folder / given
    if not path.exists():
        raise UnreadableFileError(f"{where}: no such file or folder: {given}")
    return path


def _of_folder(folder: Path) -> Study:
    scans = tuple(_scan_folder(f) for f in sorted(folder.iterdir()) if _is_shown(f) and f.is_dir())
    if not scans:
        raise InputError(
            f"{folder.name}: no folders of scans; give a study file, or a folder with one folder a "
            "scan (result/, scan/, and a file a reader)"
        )
    return Study(folder.resolve().name, scans)


def _scan_folder(folder: Path) -> StudyScan:
    result = next((p for n in ("result", LABELS) if (p := folder / n).exists()), None)
    scan = next((p for p in sorted(folder.glob("scan*")) if _stem(p) == "scan"), None)
    readers = {
        _stem(p): (p,) for p in sorted(folder.iterdir()) if _is_shown(p) and p not in (result, scan)
    }
    if not readers:
        raise InputError(f"{folder.name}: no reader's file lies beside result and scan")
    return StudyScan(folder.name, result, scan, readers)


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
