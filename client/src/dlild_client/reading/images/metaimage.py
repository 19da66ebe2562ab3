"""Headers of MetaImage files (`.mha`, `.mhd`).

References
----------
.. [1] MetaIO, https://itk.org/Wiki/MetaIO/Documentation
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError, MissingGeometryError, NotHUError, UnreadableFileError
from dlild_client.flags import Flag
from dlild_client.reading.images.header import (
    UNITS_MM,
    ImageHeader,
    check_affine,
    grey_shape,
    numbers_text,
    unit_flags,
)
from dlild_client.reading.images.voxeldata import VoxelData, beside, numbered, read_head

SUFFIXES = (".mha", ".mhd")
_LINE = re.compile(rb"[ \t]*(\w+)[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*\r?\n")

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip

UNIT_LENGTH = 0.01
"""Tolerance for rows of the matrix of unit length: rounding."""

Array = npt.NDArray[np.float64]
Fields = Mapping[str, str]


def read_header(path: Path) -> ImageHeader:
    """Read the header of a MetaImage.

    Parameters
    ----------
    path : Path
        `.mha` or `.mhd`.

    Returns
    -------
    ImageHeader

    Raises
    ------
    UnreadableFileError
        It names no data, or voxels in an unsupported form.
    NotCTError
        Not one grey 3D image.
    GeometryError
        No spacing, or an invalid one.
    """
    head = read_head(path)
    fields, end = _fields(head)
    data = _locate(path, fields, head, end)
    try:
        sizes = [int(n) for n in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        if len(sizes) != int(fields["NDims"]):
            raise ValueError
    except (KeyError, ValueError):
        raise UnreadableFileError(
            f"{path.name}: NDims {fields.get('NDims', 'none')} and DimSize "
            f"{fields.get('DimSize', 'none')[:40]} cannot be right; save it again"
        ) from None
    shape = grey_shape(path, sizes, channels)
    _check_intensity(path, fields)
    affine, flags = _geometry(path, fields, len(sizes))
    return ImageHeader(shape, _dtype(path, fields), affine, data, flags=flags)


def _locate(path: Path, fields: Fields, head: bytes, end: int) -> VoxelData:
    """Locate the voxels."""
    if "ElementDataFile" not in fields:
        raise UnreadableFileError(
            f"{path.name}: no ElementDataFile in its header; give the whole image"
        )
    if not _is_true(fields, "BinaryData", default=True):
        raise UnreadableFileError(f"{path.name}: voxels as text are not read; save them in binary")
    try:
        files, here = _files(path, fields["ElementDataFile"], head[end:])
        start = int(fields.get("HeaderSize", "0"))
        packed = _is_true(fields, "CompressedData")
        size = int(fields.get("CompressedDataSize", "0")) or None
    except (ValueError, IndexError):
        raise UnreadableFileError(
            f"{path.name}: its header does not say where the voxels lie; save it again"
        ) from None
    if here and start == 0:
        start = end
    if packed:
        return VoxelData(files, max(0, start), "zlib", size)
    return VoxelData(files, start)


def _is_true(fields: Fields, name: str, *, default: bool = False) -> bool:
    value = fields.get(name, "")
    return value[:1] in "Tt1" if value else default


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Parse the fields of a header; also return its end, after the ElementDataFile line."""
    fields: dict[str, str] = {}
    offset = 0
    # A separate header file may end without a line break.
    text = head + b"\n"
    while match := _LINE.match(text, offset):
        # File names are bytes: those that are not UTF-8 must survive.
        name, value = (part.decode("utf-8", "surrogateescape") for part in match.groups())
        fields[name] = value
        offset = min(match.end(), len(head))
        if name == "ElementDataFile":
            break
    return fields, offset


def _files(path: Path, data_file: str, rest: bytes) -> tuple[tuple[Path, ...], bool]:
    """Files of the voxels, and whether it is the header's own; ValueError if malformed."""
    if data_file.upper() == "LOCAL":
        return (path,), True
    if data_file.upper().startswith("LIST"):
        names = [line.strip() for line in rest.decode("utf-8", "surrogateescape").splitlines()]
        return tuple(path.parent / name for name in names if name), False
    if "%" in data_file:
        pattern, *numbers = data_file.split()
        return tuple(path.parent / name for name in numbered(pattern, numbers)), False
    return (beside(path, data_file),), False


def _dtype(path: Path, fields: Fields) -> np.dtype[np.generic]:
    type_name = fields.get("ElementType", "none")
    if type_name.upper() not in _TYPES:
        raise UnreadableFileError(
            f"{path.name}: ElementType {type_name[:30]} is not read; save it as short"
        )
    big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    return np.dtype((">" if big else "<") + _TYPES[type_name.upper()])


def _check_intensity(path: Path, fields: Fields) -> None:
    """Raise `NotHUError` where the header has an intensity function.

    Readers disagree on whether to apply it, so the values are ambiguous.
    """
    slope = _numbers(path, fields, ("ElementToIntensityFunctionSlope",), 1)
    offset = _numbers(path, fields, ("ElementToIntensityFunctionOffset",), 1)
    if (slope is not None and slope[0] != 1) or (offset is not None and offset[0] != 0):
        raise NotHUError(
            f"{path.name}: its values have an ElementToIntensityFunction, which some software "
            "applies and some does not; save it in HU without"
        )


def _numbers(path: Path, fields: Fields, names: tuple[str, ...], count: int) -> Array | None:
    """Numbers of the first field that is present; None where none is."""
    for name in names:
        if name in fields:
            try:
                numbers = np.array([float(part) for part in fields[name].split()])
            except ValueError:
                numbers = np.zeros(0)
            if len(numbers) != count:
                raise MissingGeometryError(
                    f"{path.name}: {name} = {fields[name][:60]} is not {count} number(s); convert "
                    "it again from DICOM"
                )
            return numbers
    return None


def _geometry(path: Path, fields: Fields, dimensions: int) -> tuple[Array, tuple[Flag, ...]]:
    """Affine (LPS, mm), and its flags."""
    # ElementSpacing is centre to centre; ElementSize alone implies that voxels touch.
    spacing = _numbers(path, fields, ("ElementSpacing", "ElementSize"), dimensions)
    if spacing is None:
        raise MissingGeometryError(
            f"{path.name}: no ElementSpacing in its header; convert it again from DICOM"
        )
    unit = UNITS_MM.get(fields.get("DistanceUnits", "").lower())
    if unit is None:
        raise GeometryError(
            f"{path.name}: lengths in {fields['DistanceUnits'][:20]}, which is no unit that is "
            "known; save it in mm"
        )
    spacing = np.abs(spacing[:3]) * unit
    matrix = _numbers(path, fields, ("TransformMatrix", "Rotation", "Orientation"), dimensions**2)
    rows = np.eye(3) if matrix is None else matrix.reshape(dimensions, dimensions)[:3, :3]
    origin = _numbers(path, fields, ("Offset", "Position", "Origin"), dimensions)
    origin = np.zeros(3) if origin is None else origin[:3] * unit
    # Each row of the matrix is the direction of an axis.
    affine = np.column_stack([_unit_rows(path, rows, spacing).T * spacing, origin])
    check_affine(path, affine, "ElementSpacing, TransformMatrix and Offset")
    flags = unit_flags(affine)
    if matrix is None:
        flags += (Flag("orientation_assumed", header="no TransformMatrix"),)
    return affine, flags


def _unit_rows(path: Path, rows: Array, spacing: Array) -> Array:
    """Normalise the rows of the matrix, unless the matrix alone holds the spacing.

    Raises `GeometryError` where both hold lengths, which is ambiguous.
    """
    lengths = np.linalg.norm(rows, axis=1)
    if np.all(np.abs(lengths - 1) <= UNIT_LENGTH):
        return np.asarray(rows / lengths[:, None])
    if np.all(spacing == 1) or not np.all(np.isfinite(rows)) or not np.all(lengths):
        return rows  # `check_affine` rejects invalid directions
    raise GeometryError(
        f"{path.name}: a spacing of {numbers_text(spacing)} by ElementSpacing, and a "
        f"TransformMatrix with axes {numbers_text(lengths)} long; convert it again from DICOM"
    )
