"""Is a NIfTI file whole? ITK fills what a truncated file lacks with anything, and says nothing."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from dlild_client.errors import UnreadableFile

SUFFIXES = (".nii", ".nii.gz")
_CHUNK = 1 << 22
_HEADERS = {348: ("h", 40, 70, "f", 108), 540: ("q", 16, 12, "q", 168)}
"""Of NIfTI-1 and NIfTI-2, by size: type and place of the dimensions, place of the data type, type
and place of the offset of the voxels."""
_FLOATS = {16: "f4", 64: "f8"}
_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}


@dataclass(frozen=True)
class NiftiSurvey:
    """What a pass over all bytes of a file tells.

    Attributes
    ----------
    shape : tuple of int
        Voxels along (x, y, z), and further axes if there are any.
    not_finite : int
        Voxels that are NaN or infinite.
    """

    shape: tuple[int, ...]
    not_finite: int


@dataclass(frozen=True)
class _Layout:
    shape: tuple[int, ...]
    offset: int
    voxels: int
    voxel_bytes: int
    float_type: str | None


def survey(path: Path) -> NiftiSurvey:
    """Read every byte of a NIfTI file, checksum included.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.

    Returns
    -------
    NiftiSurvey

    Raises
    ------
    UnreadableFile
        The file is no NIfTI, is cut short, or does not match its checksum.
    """
    try:
        with _open(path) as file:
            layout = _read_layout(file, path.name)
            not_finite, got = 0, 0
            for chunk in _voxel_chunks(file, layout):
                got += len(chunk)
                if layout.float_type:
                    values = np.frombuffer(chunk, layout.float_type)
                    not_finite += int(np.count_nonzero(~np.isfinite(values)))
            # What follows the voxels holds the checksum of a gzip file.
            while file.read(_CHUNK):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile(
            f"{path.name}: cut short or corrupt ({error}); copy it again"
        ) from None
    except OSError as error:
        raise UnreadableFile(f"{path.name}: {error.strerror or error}") from None
    needed = layout.voxels * layout.voxel_bytes
    if got < needed:
        raise UnreadableFile(
            f"{path.name}: cut short: {got} of {needed} bytes of voxels; copy it again"
        )
    return NiftiSurvey(layout.shape, not_finite)


def _open(path: Path) -> BinaryIO:
    if path.name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def _read_layout(file: BinaryIO, name: str) -> _Layout:
    head = file.read(540)
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0] if len(head) >= 348 else 0
        if size in _HEADERS and len(head) >= size:
            break
    else:
        raise UnreadableFile(f"{name}: not a NIfTI file; give .nii or .nii.gz")
    dim_type, dim_at, type_at, offset_type, offset_at = _HEADERS[size]
    dim = struct.unpack_from(f"{order}8{dim_type}", head, dim_at)
    data_type = struct.unpack_from(f"{order}h", head, type_at)[0]
    offset = int(struct.unpack_from(f"{order}{offset_type}", head, offset_at)[0])
    shape = tuple(dim[1 : 1 + dim[0]]) if 1 <= dim[0] <= 7 else ()
    if not shape or min(shape) < 1 or data_type not in _BYTES:
        raise UnreadableFile(
            f"{name}: a header of dimensions {dim} and data type {data_type} cannot be right"
        )
    kind = _FLOATS.get(data_type)
    voxels = 1
    for n in shape:
        voxels *= int(n)
    file.seek(max(offset, size))
    return _Layout(shape, offset, voxels, _BYTES[data_type], kind and order + kind)


def _voxel_chunks(file: BinaryIO, layout: _Layout) -> Iterator[bytes]:
    left = layout.voxels * layout.voxel_bytes
    while left > 0:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            return
        left -= len(chunk)
        # Whole voxels only: the last chunk of a truncated file may end within one.
        yield chunk[: len(chunk) - len(chunk) % layout.voxel_bytes]
