"""Sources of DICOM data: files on disk, and members of an archive, read in place."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

MAXIMUM_FILES = 50_000
"""Most files of a study."""

MAXIMUM_FILE_BYTES = 1 << 30
"""Largest member of an archive, or inflated data set: 2,000 slices fit in it."""

READ_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""Exceptions of reading a source: broken disk or archive, unknown compression."""


class Source(Protocol):
    """A file that may hold DICOM: its base name, its size, its bytes."""

    @property
    def name(self) -> str:
        """Base name, for messages."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def open(self) -> BinaryIO:
        """Open for reading; seekable."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A file on disk."""

    path: Path

    @property
    def name(self) -> str:
        """Base name, for messages."""
        return self.path.name

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Open for reading."""
        return self.path.open("rb")


@dataclass(frozen=True)
class ZipMember:
    """A member of an open archive."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def name(self) -> str:
        """Base name, for messages."""
        return self.info.filename.replace("\\", "/").rsplit("/", 1)[-1]

    @property
    def size(self) -> int:
        """Length in bytes, unpacked."""
        return self.info.file_size

    def open(self) -> BinaryIO:
        """Open for reading; never yields more than `size` bytes."""
        if self.archive.fp is None and self.archive.filename is not None:
            # Closed since: a scan too large for memory is read again when it is resampled.
            with zipfile.ZipFile(self.archive.filename) as again:
                return cast(BinaryIO, again.open(self.info))
        return cast(BinaryIO, self.archive.open(self.info))


@dataclass(frozen=True)
class Listing:
    """The files behind one path, sorted.

    Attributes
    ----------
    sources : tuple of Source
    missing : int
        Files that a DICOMDIR lists and that do not exist.
    """

    sources: tuple[Source, ...]
    missing: int = 0
