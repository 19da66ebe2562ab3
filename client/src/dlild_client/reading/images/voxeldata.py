"""Random access to the voxel bytes of an image file, plain or compressed.

Voxels may be in the file of the header, in another one, or in one file per slice. A file of the
wrong length, and a compressed stream with a wrong length or checksum, are errors.

Compressed streams can be decoded only from their start. So that a scan too large for memory can be
read more than once, and by two threads, snapshots of the decoder are kept: a later read resumes
from the nearest one.
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dlild_client.errors import UnreadableFileError
from dlild_client.reading.sources import MAXIMUM_FILES

_CHUNK = 1 << 22
_PACKED_CHUNK = 1 << 18
_SNAPSHOT_BYTES = 1 << 25
"""Unpacked bytes between two snapshots of a decoder (40 kB each)."""

_WBITS = {"gzip": 31, "zlib": zlib.MAX_WBITS | 32}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class VoxelData:
    """Location of the voxels of a header.

    Attributes
    ----------
    files : tuple of Path
        The file of the header, or those that it names, all of equal length.
    start : int
        Bytes before the voxels in each file; -1 where they are at its end.
    packed : str
        `gzip`, `zlib` or empty.
    packed_bytes : int or None
        Length of the compressed stream, where the header states it.
    skipped : int
        Bytes before the voxels in the unpacked stream.
    exact : bool
        Whether trailing bytes after the voxels are an error.
    """

    files: tuple[Path, ...]
    start: int = 0
    packed: str = ""
    packed_bytes: int | None = None
    skipped: int = 0
    exact: bool = True


def check_files(name: str, data: VoxelData) -> None:
    """Raise `UnreadableFileError` unless the files of the voxels exist.

    Only regular files: a pipe or a device could block a reader for ever.
    """
    for path in data.files:
        if not path.is_file():
            raise UnreadableFileError(
                f"{name}: its data file {path.name} is no file here; copy it to its header"
            )


class VoxelBytes:
    """Random access to the bytes of all voxels of an image; thread-safe.

    Parameters
    ----------
    name : str
        Of the header's file, for messages.
    data : VoxelData
    needed : int
        Bytes of all voxels.

    Raises
    ------
    UnreadableFileError
        A file is too short or too long. For compressed ones `read` raises it, at the last voxels.
    """

    def __init__(self, name: str, data: VoxelData, needed: int) -> None:
        self._share, rest = divmod(needed, max(1, len(data.files)))
        if rest or not data.files:
            raise UnreadableFileError(
                f"{name}: {len(data.files)} data files cannot share {needed} bytes of voxels; "
                "give the whole image"
            )
        kind = _PackedFile if data.packed else _PlainFile
        self._files = []
        for path in data.files:
            where = name if path.name == name else f"{name}: data file {path.name}"
            try:
                self._files.append(kind(where, path, data, self._share))
            except OSError as error:
                raise UnreadableFileError(f"{where}: {error.strerror or error}") from None

    def read(self, offset: int, out: npt.NDArray[np.uint8]) -> None:
        """Fill an array with the bytes from an offset.

        Raises
        ------
        UnreadableFileError
            The file is truncated, or its checksum does not match.
        """
        done = 0
        while done < len(out):
            number, start = divmod(offset + done, self._share)
            count = min(len(out) - done, self._share - start)
            file = self._files[number]
            try:
                file.read(start, out[done : done + count])
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UnreadableFileError(
                    f"{file.where}: cut short or corrupt ({error}); copy it again"
                ) from None
            except OSError as error:
                raise UnreadableFileError(f"{file.where}: {error.strerror or error}") from None
            done += count


class _PlainFile:
    def __init__(self, where: str, path: Path, data: VoxelData, share: int) -> None:
        self.where, self._path = where, path
        size = path.stat().st_size
        self._start = max(0, size - share) if data.start < 0 else data.start
        length = size - self._start
        if length < share or (data.exact and length != share):
            raise _wrong_length(where, max(0, length), share)

    def read(self, offset: int, out: npt.NDArray[np.uint8]) -> None:
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._start + offset)
            done = 0
            while done < len(out):
                count = file.readinto(out[done : done + (1 << 30)].data)
                if not count:
                    raise EOFError("the file has become shorter")
                done += count


class _PackedFile:
    def __init__(self, where: str, path: Path, data: VoxelData, share: int) -> None:
        self.where, self._path = where, path
        self._data, self._share = data, share
        limit = None if data.packed_bytes is None else data.start + data.packed_bytes
        self._lock = threading.Lock()
        self._snapshots = {0: _Stream(data.packed, data.start, limit)}
        self._left_at: dict[int, _Stream] = {}
        self._whole = False

    def read(self, offset: int, out: npt.NDArray[np.uint8]) -> None:
        begin = offset + self._data.skipped
        stream = self._take(begin)
        with self._path.open("rb", buffering=0) as file:
            while stream.unpacked < begin:
                if not self._next(stream, file, begin - stream.unpacked):
                    raise _wrong_length(
                        self.where, max(0, stream.unpacked - self._data.skipped), self._share
                    )
            done = 0
            while done < len(out):
                chunk = self._next(stream, file, len(out) - done)
                if not chunk:
                    raise _wrong_length(
                        self.where, stream.unpacked - self._data.skipped, self._share
                    )
                out[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
            if offset + len(out) == self._share and not self._whole:
                self._read_end(stream, file)
        with self._lock:
            while len(self._left_at) > 3:
                self._left_at.pop(next(iter(self._left_at)))
            self._left_at[stream.unpacked] = stream

    def _take(self, offset: int) -> _Stream:
        """Return the stream that stopped at an offset, or a copy of the nearest one before."""
        with self._lock:
            if offset in self._left_at:
                return self._left_at.pop(offset)
            before = [s for s in self._snapshots.values() if s.unpacked <= offset]
            return max(before, key=lambda s: s.unpacked).copy()

    def _next(self, stream: _Stream, file: BinaryIO, most: int) -> bytes:
        chunk = stream.next(file, min(most, _CHUNK))
        number = stream.unpacked // _SNAPSHOT_BYTES
        with self._lock:
            if number not in self._snapshots:
                self._snapshots[number] = stream.copy()
        return chunk

    def _read_end(self, stream: _Stream, file: BinaryIO) -> None:
        """Read to the end of the stream: checks trailing bytes and the checksum."""
        more = 0
        while chunk := stream.next(file, _CHUNK):
            more += len(chunk)
            if self._data.exact and more:
                raise _wrong_length(self.where, self._share + more, self._share)
        self._whole = True


class _Stream:
    """Decoder of a compressed stream, with its position.

    Attributes
    ----------
    unpacked : int
        Bytes unpacked so far.
    """

    def __init__(self, kind: str, start: int, limit: int | None) -> None:
        self._kind, self._limit = kind, limit
        self._at = start  # next byte of the file
        self._decoder: Any = zlib.decompressobj(_WBITS[kind])
        self.unpacked = 0

    def copy(self) -> _Stream:
        made = _Stream(self._kind, self._at, self._limit)
        made._decoder, made.unpacked = self._decoder.copy(), self.unpacked
        return made

    def next(self, file: BinaryIO, most: int) -> bytes:
        """Unpack up to `most` bytes; empty at the end of the stream.

        Raises
        ------
        EOFError, zlib.error, gzip.BadGzipFile
            The stream ends early, is broken, or does not match its checksum.
        """
        while True:
            if self._decoder.eof and not self._begin_next_member(file):
                return b""
            file.seek(self._at)
            count = _PACKED_CHUNK
            if self._limit is not None:
                count = max(0, min(count, self._limit - self._at))
            data = file.read(count)
            chunk = bytes(self._decoder.decompress(data, most))
            decoder = self._decoder
            # At the end of the stream both may hold the rest.
            left = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            self._at += len(data) - len(left)
            self.unpacked += len(chunk)
            if chunk:
                return chunk
            if not data and not self._decoder.eof:
                raise EOFError("the compressed stream ends early")

    def _begin_next_member(self, file: BinaryIO) -> bool:
        """Start the next member of a multi-member gzip file; trailing zeros are allowed."""
        if self._kind != "gzip":
            return False
        file.seek(self._at)
        while data := file.read(_PACKED_CHUNK):
            rest = data.lstrip(b"\0")
            self._at += len(data) - len(rest)
            if rest:
                if not rest.startswith(_GZIP_MAGIC[: len(rest)]):
                    raise gzip.BadGzipFile("what follows the compressed voxels is no gzip")
                self._decoder = zlib.decompressobj(_WBITS["gzip"])
                return True
        return False


def _wrong_length(where: str, length: int, share: int) -> UnreadableFileError:
    return UnreadableFileError(
        f"{where}: {length} bytes of voxels where the header says {share}; copy or export it again"
    )


def read_head(path: Path, most: int = 1 << 20) -> bytes:
    """Read the start of a file, longer than any header.

    Raises
    ------
    UnreadableFileError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise UnreadableFileError(f"{path.name}: {error.strerror or error}") from None


def is_gzip(head: bytes) -> bool:
    """Whether data start with the gzip magic number."""
    return head.startswith(_GZIP_MAGIC)


def unpack_head(path: Path, head: bytes, most: int) -> bytes:
    """Unpack the start of a gzip file; shorter where the file is truncated.

    Raises
    ------
    UnreadableFileError
        Not a gzip file.
    """
    try:
        return zlib.decompressobj(_WBITS["gzip"]).decompress(head, most)
    except zlib.error as error:
        raise UnreadableFileError(
            f"{path.name}: cut short or corrupt ({error}); copy it again"
        ) from None


def beside(path: Path, name: str) -> Path:
    """Resolve the data file that a header names, with either path separator.

    Files are moved together, paths in headers become stale: a file of this name beside the header
    is accepted, as its length must match exactly.
    """
    unified = name.replace("\\", "/")
    candidates = [path.parent / n for n in (name, unified, unified.rsplit("/", 1)[-1])]
    return next((file for file in candidates if file.is_file()), candidates[0])


def numbered(pattern: str, numbers: list[str]) -> Iterator[str]:
    """Expand a printf pattern of numbered files, such as `s%03d.raw`, with first, last and step.

    Raises
    ------
    ValueError
        Not such a pattern, or no numbers.
    """
    first, last, *more = (int(number) for number in numbers[:3])
    step = more[0] if more else 1
    if abs(last - first) > MAXIMUM_FILES:
        raise ValueError("more files than any image has")
    try:
        names = [pattern % n for n in range(first, last + (1 if step > 0 else -1), step)]
    except TypeError as error:
        raise ValueError(str(error)) from None
    yield from names
