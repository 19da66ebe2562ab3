"""Make sure that the voxels of an NRRD or MetaImage file are all there, and unharmed.

ITK reads compressed voxels without a look at their checksum, and fills what a broken stream lacks
with anything. So every byte is looked at before, as `nifti` does.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dlild_client.errors import UnreadableFile

_CHUNK = 1 << 22


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels lie that a header speaks of.

    Attributes
    ----------
    files : tuple of Path
        The header's own file, or those that it names; each holds as much as any other.
    start : int
        Bytes before the voxels in each file; -1 where they are the end of it.
    packed : str
        `gzip`, `zlib` or empty.
    packed_bytes : int or None
        Length of the compressed stream, where the header tells.
    skipped : int
        Bytes before the voxels in what a compressed stream unpacks to.
    """

    files: tuple[Path, ...]
    start: int = 0
    packed: str = ""
    packed_bytes: int | None = None
    skipped: int = 0


def check_files(name: str, data: VoxelData) -> None:
    """Raise `UnreadableFile` unless the files of the voxels are there.

    A pipe or a device is no file: it could keep a reader waiting for ever.
    """
    for path in data.files:
        if not path.is_file():
            raise UnreadableFile(
                f"{name}: its data file {path.name} is no file here; copy it to its header"
            )


def check_voxels(name: str, data: VoxelData, needed: int) -> None:
    """Make sure that the voxels of an image are whole.

    Parameters
    ----------
    name : str
        Of the header's file, for messages.
    data : VoxelData
    needed : int
        Bytes of all voxels.

    Raises
    ------
    UnreadableFile
        A file is too short or too long, or does not unpack to its checksum.
    """
    share, rest = divmod(needed, max(1, len(data.files)))
    if rest or not data.files:
        raise UnreadableFile(
            f"{name}: {len(data.files)} data files cannot share {needed} bytes of voxels; "
            "give the whole image"
        )
    for path in data.files:
        where = name if path.name == name else f"{name}: data file {path.name}"
        try:
            length = _length(path, data, share)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableFile(
                f"{where}: cut short or corrupt ({error}); copy it again"
            ) from None
        except OSError as error:
            raise UnreadableFile(f"{where}: {error.strerror or error}") from None
        if length != share:
            raise UnreadableFile(
                f"{where}: {length} bytes of voxels where the header says {share}; "
                "copy or export it again"
            )


def read_head(path: Path, most: int = 1 << 20) -> bytes:
    """Read the beginning of a file: more than any header has.

    Raises
    ------
    UnreadableFile
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UnreadableFile(f"{path.name}: {error.strerror or error}") from None


def numbered(pattern: str, numbers: list[str]) -> Iterator[str]:
    """Names of numbered files: a pattern as of C, such as `s%03d.raw`, with first, last and step.

    Raises
    ------
    ValueError
        It is no such pattern, or the numbers are none.
    """
    first, last, *more = (int(number) for number in numbers[:3])
    step = more[0] if more else 1
    try:
        names = [pattern % n for n in range(first, last + (1 if step > 0 else -1), step)]
    except TypeError as error:
        raise ValueError(str(error)) from None
    yield from names


def _length(path: Path, data: VoxelData, share: int) -> int:
    """Bytes of voxels that a file holds; of no more than a byte too many are counted."""
    if not data.packed:
        size = path.stat().st_size
        return min(size, share) if data.start < 0 else max(0, size - data.start)
    with path.open("rb") as file:
        file.seek(data.start)
        count = 0
        for chunk in _gunzip(file) if data.packed == "gzip" else _inflate(file, data.packed_bytes):
            count += len(chunk)
            if count > share + data.skipped:
                break
        return max(0, count - data.skipped)


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _inflate(file: BinaryIO, packed_bytes: int | None) -> Iterator[bytes]:
    """Unpack one stream of zlib or gzip, whichever it is, to its checksum."""
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    left = packed_bytes
    while not stream.eof:
        chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
        if not chunk:
            raise EOFError("the compressed stream ends early")
        left = None if left is None else left - len(chunk)
        while chunk and not stream.eof:
            yield stream.decompress(chunk, _CHUNK)
            chunk = stream.unconsumed_tail
