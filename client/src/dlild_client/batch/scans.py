"""The scans of a folder tree, a CSV list or a DICOMDIR, found one after the other.

In a tree every folder directly below the root holds scans of its own. Within it a scan is a study:
neighbouring folders with DICOM files of one study are one scan, of which the best series is scored.
Every image file and every zip archive is a scan, too. To tell studies apart a few headers of each
folder are read, not all of them.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dlild_client.errors import BadSettings, NoSeries, UnreadableFile, readable
from dlild_client.reading.assemble import read_dicom_files
from dlild_client.reading.dicom.dicomdir import list_dicomdir
from dlild_client.reading.dicom.dicomlib import load_pydicom
from dlild_client.reading.dicom.headers import read_header
from dlild_client.reading.images.read import is_image_name
from dlild_client.reading.places import check_place, find_files, is_zip
from dlild_client.reading.read import read_volume
from dlild_client.reading.sources import FileSource
from dlild_client.volume import Volume

_SAMPLE_BYTES = 4096
"""Of each file, at its start, middle and end, for the key: there are identifiers of DICOM at the
start, the patient in the middle, and the checksum of a compressed image at the end."""

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class BatchScan:
    """One scan to be scored.

    Attributes
    ----------
    name : str
        Where it lies, as the user named it: below the root of a tree, or in the list.
    place : Path
        What `read_volume` reads.
    files : tuple of Path
        DICOM files of one study, where it is less than the place; else empty.
    series : str or None
        UID or number of the series, where the list asks for one.
    id : str
        The user's own name for it, from the list; else empty.
    """

    name: str
    place: Path
    files: tuple[Path, ...] = ()
    series: str | None = None
    id: str = ""

    def read(self) -> Volume:
        """Read the volume; raises `InputError`."""
        if self.files:
            return read_dicom_files(self.files, self.place.name)
        return read_volume(self.place, series=self.series)

    def key(self) -> str:
        """Digest that tells this scan from all others, in this run and the next.

        Over where it lies, and sizes and samples of all its files: the same scan at another place
        is another scan, and so is another one at the same place.
        """
        told = "\n".join([self.name, self.series or "", self.id, ""])
        sha = hashlib.sha256(told.encode("utf-8", "replace"))
        for digest in sorted(_digest(path) for path in self.files or _files_of(self.place)):
            sha.update(digest)
        return sha.hexdigest()[:16]


def find_scans(place: Path, leave_out: Path | None = None) -> Iterator[BatchScan]:
    """Find the scans of a folder tree, a CSV list or a DICOMDIR.

    Parameters
    ----------
    place : Path
    leave_out : Path, optional
        A folder that is not searched: the one for the results.

    Returns
    -------
    iterator of BatchScan
        As they are found. It raises `NoSeries` where there is nothing that could be a scan.

    Raises
    ------
    UnreadableFile
        There is no such place, it may not be read, or it is none of the three.
    BadSettings
        The list is not one; which line and why.
    """
    check_place(place)
    if place.is_dir():
        found = _of_tree(place, leave_out.resolve() if leave_out else None)
    elif place.name.upper() == "DICOMDIR":
        files = sorted(s.path for s in list_dicomdir(place).sources if isinstance(s, FileSource))
        found = _of_folders(place.parent, _by_folder(files))
    elif place.suffix.lower() == ".csv":
        found = iter(read_list(place))
    else:
        raise UnreadableFile(
            f"{place.name}: neither a folder, nor a .csv list, nor a DICOMDIR; "
            "`dlild score` takes one scan"
        )
    return _at_least_one(found, place)


def _at_least_one(found: Iterator[BatchScan], place: Path) -> Iterator[BatchScan]:
    empty = True
    for scan in found:
        empty = False
        yield scan
    if empty:
        raise NoSeries(f"{place.name or place}: no scan in it; give the folder above the scans")


def read_list(path: Path) -> list[BatchScan]:
    """Read a CSV list: a column `path`, and if wanted `id` and `series`.

    Paths are taken from the folder of the list. An id names the scan's JSON file, so it must not
    name a patient.

    Raises
    ------
    BadSettings
        No column `path`, an empty path, or an id that is no file name or is there twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a CSV file in UTF-8"
        raise BadSettings(f"{path.name}: {reason}; give a list with a column path") from None
    if "path" not in columns:
        raise BadSettings(f"{path.name}: no column path; the first line must name it")
    scans: list[BatchScan] = []
    ids: set[str] = set()
    for line, row in enumerate(rows, start=2):
        text, name = (row["path"] or "").strip(), (row.get("id") or "").strip()
        if not text:
            raise BadSettings(f"{path.name}, line {line}: the path is empty")
        if name and not _SAFE_ID.fullmatch(name):
            raise BadSettings(
                f"{path.name}, line {line}: the id is no file name; use letters, digits and ._-"
            )
        if name and name in ids:
            raise BadSettings(f"{path.name}, line {line}: the id {name} is there twice")
        ids.add(name)
        series = (row.get("series") or "").strip() or None
        scans.append(BatchScan(text, path.parent / text, series=series, id=name))
    return scans


def _of_tree(root: Path, leave_out: Path | None) -> Iterator[BatchScan]:
    return _of_folders(root, _walk(root, leave_out), apart=True)


def _walk(root: Path, leave_out: Path | None) -> Iterator[tuple[Path, list[Path]]]:
    """Folders with their files, in a fixed order; hidden ones are left out, links followed."""
    for folder, folders, names in os.walk(root, followlinks=True):
        here = Path(folder)
        above = {here.resolve(), *here.resolve().parents, leave_out}
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() not in above
        )
        files = [
            here / name
            for name in sorted(names)
            if not name.startswith(".") and name.upper() != "DICOMDIR"
        ]
        if files:
            yield here, files


def _by_folder(files: Sequence[Path]) -> Iterator[tuple[Path, list[Path]]]:
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    yield from sorted(folders.items())


@dataclass
class _Study:
    """Files of one study, gathered over neighbouring folders."""

    digest: str = ""
    top: str = ""
    places: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    instances: set[str] = field(default_factory=set)

    def scan(self, root: Path) -> BatchScan:
        place = Path(os.path.commonpath(self.places))
        return BatchScan(_name(root, place), place, files=tuple(self.files))

    def takes(self, other: _Study) -> bool:
        """Whether another folder's files are of this study, and not a copy of what is in it."""
        same = (self.digest, self.top) == (other.digest, other.top)
        return same and not (self.instances & other.instances)


def _of_folders(
    root: Path, folders: Iterator[tuple[Path, list[Path]]], *, apart: bool = False
) -> Iterator[BatchScan]:
    """Images and archives one by one; DICOM study by study, over neighbouring folders.

    With `apart`, folders directly below the root are scans of their own, whatever their headers
    say of studies.
    """
    load_pydicom()
    study = _Study()
    for folder, names in folders:
        top = str(folder.relative_to(root).parts[:1]) if apart else ""
        for found in _studies([p for p in names if not (is_image_name(p) or is_zip(p))]):
            found.top = top
            found.places = [folder]
            if study.files and not study.takes(found):
                yield study.scan(root)
                study = _Study()
            study = _merge(study, found)
        for path in names:
            if is_image_name(path) or is_zip(path):
                yield BatchScan(_name(root, path), path)
    if study.files:
        yield study.scan(root)


def _merge(study: _Study, found: _Study) -> _Study:
    return _Study(
        found.digest,
        found.top,
        study.places + found.places,
        study.files + found.files,
        study.instances | found.instances,
    )


def _studies(files: Sequence[Path]) -> Iterator[_Study]:
    """Divide the files of one folder by study; a few headers tell whether that is needed."""
    count = len(files)
    # Both ends and places between, for studies one behind the other; neighbours, for mixed ones.
    places = {0, 1, count // 4, count // 2, 3 * count // 4, count - 2, count - 1}
    glances = {files[i]: _identity(files[i]) for i in sorted(places) if 0 <= i < count}
    studies = {study for study, _ in glances.values() if study}
    if len(studies) == 1:
        instances = {instance for _, instance in glances.values() if instance}
        yield _Study(studies.pop(), files=list(files), instances=instances)
        return
    groups: dict[str, _Study] = {}
    for path in files:
        digest, instance = glances.get(path) or _identity(path)
        if digest:
            group = groups.setdefault(digest, _Study(digest))
            group.files.append(path)
            group.instances.add(instance)
    yield from (groups[digest] for digest in sorted(groups))


def _identity(path: Path) -> tuple[str, str]:
    """Digest of a file's study, and its own identifier; empty for what is no DICOM."""
    slices = read_header(FileSource(path))
    return (slices[0].study, slices[0].instance) if slices else ("", "")


def _name(root: Path, path: Path) -> str:
    """Place below the root; control characters would break a row."""
    name = readable(path.relative_to(root).as_posix())
    return "".join(c if c.isprintable() else "?" for c in name)


def _files_of(place: Path) -> list[Path]:
    try:
        return find_files(place) if place.is_dir() else [place]
    except UnreadableFile:
        return [place]


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            sha = hashlib.sha256(f"{size}\n".encode())
            for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                sha.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        sha = hashlib.sha256(str(error.errno).encode())
    return sha.digest()
