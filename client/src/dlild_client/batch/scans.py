"""Finds the scans of a folder tree, a CSV list or a DICOMDIR, lazily.

In a tree, scans do not span folders directly below the root. Within one, a scan is a study:
consecutive folders with DICOM files of one study are one scan, of which the best series is scored.
Every image file and every zip archive is a scan, too. Studies are distinguished by the few elements
of each file that identify its study.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from dlild_client.batch.tables import read_table
from dlild_client.errors import BadSettingsError, NoSeriesError, UnreadableFileError, printable
from dlild_client.reading.assemble import read_dicom_files
from dlild_client.reading.dicom.dicomdir import list_dicomdir
from dlild_client.reading.dicom.dicomlib import load_pydicom
from dlild_client.reading.dicom.headers import read_header
from dlild_client.reading.dicom.values import digest
from dlild_client.reading.files import check_path, find_files, is_zip
from dlild_client.reading.images.read import is_image_name
from dlild_client.reading.read import read_volume
from dlild_client.reading.sources import FileSource
from dlild_client.volume import Volume

_SAMPLE_BYTES = 4096
"""Bytes of each sample of a file for the key, at its start (identifiers of DICOM), middle (pixels)
and end (checksum of a compressed image)."""

_NAMING = ["SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
_HEAD_BYTES = 1 << 15
"""Start of a DICOM file that contains these elements, unless a long sequence precedes them."""

Notify = Callable[[str], None]


def no_notice(_line: str) -> None:
    """Drop the notice."""


_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class BatchScan:
    """One scan to be scored.

    Attributes
    ----------
    name : str
        Path relative to the root of a tree, or as given in the list.
    path : Path
        Path for `read_volume`.
    files : tuple of Path
        DICOM files of one study, where they are less than all files of the path; else empty.
    series : str or None
        UID or number of the series from the list, if any.
    id : str
        Name from the list, or empty.
    part : str
        Distinguishes studies in the same folder, in the column `id` of the row; else empty. A
        digest: it identifies no patient, and is stable between runs.
    """

    name: str
    path: Path
    files: tuple[Path, ...] = ()
    series: str | None = None
    id: str = ""
    part: str = ""

    def read(self, *, with_source: bool = False) -> Volume:
        """Read the volume, with its headers if asked to; raises `InputError`."""
        if self.files:
            return read_dicom_files(self.files, self.path.name, with_source=with_source)
        return read_volume(self.path, series=self.series, with_source=with_source)

    def key(self) -> str:
        """Digest that identifies this scan, stable between runs.

        Over its path, and sizes and samples of all its files: the same files under another path
        are another scan, and so are other files under the same path.
        """
        text = "\n".join([self.name, self.series or "", self.id, ""])
        sha = hashlib.sha256(text.encode("utf-8", "replace"))
        for sampled in sorted(_digest(path) for path in self.files or _files_of(self.path)):
            sha.update(sampled)
        return sha.hexdigest()[:16]


def find_scans(
    path: Path, leave_out: Path | None = None, notify: Notify = no_notice
) -> Iterator[BatchScan]:
    """Find the scans of a folder tree, a CSV list or a DICOMDIR.

    Parameters
    ----------
    path : Path
    leave_out : Path, optional
        Folder that is not searched: the one for the results.
    notify : callable, optional
        Called with a line about input that the user may not have meant.

    Returns
    -------
    iterator of BatchScan
        Lazily; raises `NoSeriesError` where there is nothing that could be a scan.

    Raises
    ------
    UnreadableFileError
        No such path, no permission, or none of the three.
    BadSettingsError
        The list is malformed; the message names the line.
    """
    check_path(path)
    if path.is_dir():
        found = _of_tree(path, leave_out.resolve() if leave_out else None)
    elif path.name.upper() == "DICOMDIR":
        files = sorted(s.path for s in list_dicomdir(path).sources if isinstance(s, FileSource))
        found = _of_folders(path.parent, _by_folder(files))
    elif path.suffix.lower() == ".csv":
        found = iter(read_list(path, notify))
    else:
        raise UnreadableFileError(
            f"{path.name}: neither a folder, nor a .csv list, nor a DICOMDIR; "
            "`dlild score` takes one scan"
        )
    return _at_least_one(found, path)


def _at_least_one(found: Iterator[BatchScan], path: Path) -> Iterator[BatchScan]:
    empty = True
    for scan in found:
        empty = False
        yield scan
    if empty:
        raise NoSeriesError(f"{path.name or path}: no scan in it; give the folder above the scans")


def read_list(path: Path, notify: Notify = no_notice) -> list[BatchScan]:
    """Read a CSV list with a column `path`, and optional columns `id` and `series`.

    Paths are relative to the folder of the list. An id is the name of a JSON file, so it must not
    identify a patient. Separated by commas, semicolons or tabs, in UTF-8, UTF-16 or a Windows code
    page, as saved by spreadsheets.

    Parameters
    ----------
    path : Path
    notify : callable, optional
        Called for a duplicate path, which is scored once unless id or series differ.

    Raises
    ------
    BadSettingsError
        No column `path`, an empty path, or an id that is duplicate or not a valid file name.
    """
    try:
        table = read_table(path.read_bytes(), path.name, "path")
    except OSError as error:
        raise BadSettingsError(
            f"{path.name}: {error.strerror}; give a list with a column path"
        ) from None
    if not table.rows:
        raise BadSettingsError(f"{path.name}, line 2: the path is empty; the list names no scan")
    scans: list[BatchScan] = []
    lines: dict[str, int] = {}
    seen: dict[tuple[str, str | None], tuple[int, str]] = {}
    for row in table.rows:
        where = f"{path.name}, line {row.line}"
        scan = _listed(row.cells, path.parent, table.encoding, where)
        if scan.id and scan.id in lines:
            raise BadSettingsError(
                f"{where}: the id {scan.id} is there twice, first in line {lines[scan.id]}"
            )
        lines[scan.id] = row.line
        target = os.path.realpath(scan.path), scan.series
        before, other = seen.setdefault(target, (row.line, scan.id))
        if before != row.line:
            same = f"{where}: the same path as in line {before}"
            if scan.id == other or not scan.id:
                notify(f"{same}; it is scored once")
                continue
            notify(f"{same}, under another id; it is scored for both")
        scans.append(scan)
    return scans


def _listed(cells: Mapping[str, str], folder: Path, encoding: str, where: str) -> BatchScan:
    """Construct a scan from a row of a list."""
    text, name = cells["path"], cells.get("id", "")
    if not text:
        raise BadSettingsError(f"{where}: the path is empty")
    if name and not _SAFE_ID.fullmatch(name):
        raise BadSettingsError(f"{where}: the id is no file name; use letters, digits and ._-")
    path = _find(text, folder, encoding)
    return BatchScan(printable(text), path, series=cells.get("series") or None, id=name)


def _find(text: str, folder: Path, encoding: str) -> Path:
    """Resolve a path of a list: as given, else by alternatives that exist.

    These are: home folders, Windows separators, and file names in the encoding of the list.
    """
    ways = [text, os.path.expanduser(text), text.replace("\\", "/")]  # noqa: PTH111
    with suppress(UnicodeEncodeError):
        ways.append(os.fsdecode(text.encode(encoding)))
    return next((folder / way for way in ways if os.path.lexists(folder / way)), folder / text)


def _of_tree(root: Path, leave_out: Path | None) -> Iterator[BatchScan]:
    return _of_folders(root, _walk(root, leave_out), apart=True)


def _walk(root: Path, leave_out: Path | None) -> Iterator[tuple[Path, list[Path]]]:
    """Walk folders with their files, sorted, without hidden ones; follows links."""
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
    """Files of one study, collected over consecutive folders."""

    digest: str = ""
    top: str = ""
    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    instances: set[str] = field(default_factory=set)
    shares: bool = False

    def scan(self, root: Path) -> BatchScan:
        folder = Path(os.path.commonpath(self.folders))
        part = f"study-{self.digest[:8]}" if self.shares else ""
        return BatchScan(_name(root, folder), folder, files=tuple(self.files), part=part)

    def takes(self, other: _Study) -> bool:
        """Whether the files of another folder belong to this study, and are no copies."""
        same = (self.digest, self.top) == (other.digest, other.top)
        return same and not (self.instances & other.instances)


def _of_folders(
    root: Path, folders: Iterator[tuple[Path, list[Path]]], *, apart: bool = False
) -> Iterator[BatchScan]:
    """Yield images and archives one by one, DICOM by study over consecutive folders.

    With `apart`, no scan spans folders directly below the root, whatever the study.
    """
    load_pydicom()
    study = _Study()
    for folder, names in folders:
        top = str(folder.relative_to(root).parts[:1]) if apart else ""
        for found in _studies([p for p in names if not (is_image_name(p) or is_zip(p))]):
            found.top = top
            found.folders = [folder]
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
        study.folders + found.folders,
        study.files + found.files,
        study.instances | found.instances,
        study.shares or found.shares,
    )


def _studies(files: Sequence[Path]) -> Iterator[_Study]:
    """Group the files of one folder by study.

    Reads only the elements of each file that identify its study; the full header only of the first
    file of each study.
    """
    groups: dict[str, _Study] = {}
    known: dict[str, str] = {}
    for path in files:
        named, instance = _named_study(path)
        study = known.get(named, "")
        if not study:
            study, instance = _identity(path)
            known[named] = study if named else ""
        if study:
            group = groups.setdefault(study, _Study(study))
            group.files.append(path)
            group.instances.add(instance)
    if len(groups) == 1:
        (only,) = groups.values()
        yield replace(only, files=list(files))
        return
    for study in sorted(groups):
        yield replace(groups[study], shares=True)


def _named_study(path: Path) -> tuple[str, str]:
    """Return the raw identifiers of the study, and a digest of the SOP instance, of a file.

    Both are empty where the start of the file does not contain them: `_identity` reads it whole.
    """
    pydicom = load_pydicom()
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        ds = pydicom.dcmread(BytesIO(head), specific_tags=_NAMING, stop_before_pixels=True)
        # The element after that of the study proves that the latter was not truncated.
        if ds.get("SeriesInstanceUID") and ds.get("StudyInstanceUID"):
            named = f"{ds.get('PatientID', '')}\n{ds.StudyInstanceUID}"
            return named, digest(str(ds.get("SOPInstanceUID", "")))
    except Exception:  # noqa: S110  (pydicom raises anything on a broken header)
        pass
    return "", ""


def _identity(path: Path) -> tuple[str, str]:
    """Digests of the study and of the SOP instance of a file; empty if it is not DICOM."""
    slices = read_header(FileSource(path))
    return (slices[0].study, slices[0].instance) if slices else ("", "")


def _name(root: Path, path: Path) -> str:
    """Path relative to the root, without control characters."""
    name = printable(path.relative_to(root).as_posix())
    return "".join(c if c.isprintable() else "?" for c in name)


def _files_of(path: Path) -> list[Path]:
    try:
        return find_files(path) if path.is_dir() else [path]
    except UnreadableFileError:
        return [path]


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
