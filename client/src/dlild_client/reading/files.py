"""The files behind a path: a folder, a single file, a zip archive, or a DICOMDIR.

Members of an archive are read in place, never unpacked to disk: no path traversal, and no copy of a
patient's images left behind.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlild_client.errors import TooLargeError, UnreadableFileError
from dlild_client.reading.dicom.dicomdir import list_dicomdir
from dlild_client.reading.sources import (
    MAXIMUM_FILE_BYTES,
    MAXIMUM_FILES,
    READ_ERRORS,
    FileSource,
    Listing,
    ZipMember,
)

LEFTOVERS = "__MACOSX"
"""Folder of resource forks in archives made by macOS."""


def check_path(path: Path) -> None:
    """Raise unless a path is a file or a folder that may be read; contents are not read.

    Raises
    ------
    UnreadableFileError
        It is not.
    """
    name = (path.name or str(path))[:80]
    try:
        if path.is_dir():
            os.scandir(path).close()
        elif path.is_file():
            path.open("rb").close()
        elif path.exists():
            raise UnreadableFileError(f"{name}: neither a file nor a folder")
        else:
            raise UnreadableFileError(f"{name}: no such file or folder")
    except PermissionError:
        raise UnreadableFileError(f"{name}: no permission to read it") from None
    except OSError as error:
        raise UnreadableFileError(f"{name}: {error.strerror}") from None
    except ValueError:
        raise UnreadableFileError(f"{name}: not a path") from None


@contextmanager
def list_sources(path: Path) -> Iterator[Listing]:
    """List the files of a folder, an archive, a DICOMDIR, or a single file.

    Parameters
    ----------
    path : Path
        An archive stays open within the context.

    Raises
    ------
    UnreadableFileError
        The folder cannot be listed, or the archive is broken or encrypted.
    TooLargeError
        Too many files for a study, or a member that unpacks to more than 1 GB.
    """
    if path.is_dir():
        yield Listing(tuple(FileSource(p) for p in find_files(path)))
    elif path.name.upper() == "DICOMDIR":
        yield list_dicomdir(path)
    elif is_zip(path):
        with _open_zip(path) as archive:
            yield Listing(_members(archive, path.name))
    else:
        yield Listing((FileSource(path),))


def find_files(folder: Path) -> list[Path]:
    """List all files below a folder, sorted, without hidden ones and DICOMDIR.

    Links are followed, unless they point to a parent; each folder is visited once.
    """
    found: list[Path] = []
    visited = {str(parent) for parent in folder.resolve().parents}

    def cannot(error: OSError) -> None:
        # An unreadable subfolder is skipped; missing slices are detected later.
        if Path(error.filename or "") == folder:
            raise UnreadableFileError(
                f"{folder.name}: cannot be listed: {error.strerror}"
            ) from None

    for here, folders, names in os.walk(folder, followlinks=True, onerror=cannot):
        visited.add(os.path.realpath(here))
        folders[:] = [
            name
            for name in sorted(folders)
            if name != LEFTOVERS and os.path.realpath(Path(here) / name) not in visited
        ]
        for name in names:
            path = Path(here) / name
            if _counts(name) and path.is_file():
                found.append(path)
                _check_count(len(found), folder.name)
    return sorted(found)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name != "DICOMDIR"


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, by its magic number."""
    try:
        with path.open("rb") as file:
            return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}
    except OSError:
        return False


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (*READ_ERRORS, ValueError):
        raise UnreadableFileError(
            f"{path.name}: a zip archive that cannot be opened; is the file whole?"
        ) from None
    with archive:
        yield archive


def _members(archive: zipfile.ZipFile, name: str) -> tuple[ZipMember, ...]:
    members = [ZipMember(archive, info) for info in archive.infolist() if not info.is_dir()]
    members = [m for m in members if _counts(m.name) and LEFTOVERS not in m.info.filename]
    _check_count(len(members), name)
    if any(m.info.flag_bits & 1 for m in members):
        raise UnreadableFileError(
            f"{name}: an encrypted archive; unpack it first and give the folder"
        )
    for member in members:
        if member.size > MAXIMUM_FILE_BYTES:
            raise TooLargeError(
                f"{name}: {member.name} unpacks to {member.size / 1e9:.1f} GB, more than 1.1 GB; "
                "give the folder of one CT series"
            )
    return tuple(sorted(members, key=lambda m: m.info.filename))


def _check_count(count: int, name: str) -> None:
    if count > MAXIMUM_FILES:
        raise TooLargeError(
            f"{name}: more than {MAXIMUM_FILES} files; give the folder of one CT study"
        )
