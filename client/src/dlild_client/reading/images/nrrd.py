"""Headers of NRRD files (`.nrrd`, `.nhdr`).

References
----------
.. [1] Definition of NRRD file format, https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError, MissingGeometryError, NotCTError, UnreadableFileError
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

SUFFIXES = (".nrrd", ".nhdr")
ENCODINGS = {"raw": "", "gzip": "gzip", "gz": "gzip"}

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        "longlong", "long long", "long long int", "signed long long", "signed long long int",
        "int64", "int64_t",
    ),
    "u8": (
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
    ),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
TYPES = {name: kind for kind, names in _TYPES.items() for name in names}

_SIGNS_TO_LPS = {
    "right-anterior-superior": (-1.0, -1.0, 1.0), "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0), "las": (1.0, -1.0, 1.0),
    "left-posterior-superior": (1.0, 1.0, 1.0), "lps": (1.0, 1.0, 1.0),
}  # fmt: skip
_OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_VECTOR = re.compile(r"none|\([^()]*\)", re.IGNORECASE)

Array = npt.NDArray[np.float64]


def read_header(path: Path) -> ImageHeader:
    """Read the header of an NRRD file.

    Parameters
    ----------
    path : Path
        `.nrrd` or `.nhdr`.

    Returns
    -------
    ImageHeader

    Raises
    ------
    UnreadableFileError
        Not an NRRD file, or an unsupported encoding.
    NotCTError
        Not one grey 3D image.
    GeometryError
        No spacing, or an invalid one.
    """
    head = read_head(path)
    if not head.startswith(b"NRRD000"):
        raise UnreadableFileError(f"{path.name}: not an NRRD file; save it again")
    lines, end = _lines(head)
    fields = _fields(lines)
    data = _locate(path, fields, lines, end)
    try:
        sizes = [int(n) for n in fields["sizes"].split()]
        if len(sizes) != int(fields["dimension"]):
            raise ValueError
    except (KeyError, ValueError):
        raise UnreadableFileError(
            f"{path.name}: dimension {fields.get('dimension', 'none')} and sizes "
            f"{fields.get('sizes', 'none')[:40]} cannot be right; save it again"
        ) from None
    axes = _domain_axes(path, fields, sizes)
    affine, flags = _geometry(path, fields, axes, len(sizes))
    return ImageHeader(
        shape=grey_shape(path, [sizes[axis] for axis in axes]),
        dtype=_dtype(path, fields),
        affine=affine,
        data=data,
        flags=flags,
    )


def _locate(path: Path, fields: dict[str, str], lines: list[str], end: int) -> VoxelData:
    """Locate the voxels."""
    encoding = fields.get("encoding", "none").lower()
    if encoding not in ENCODINGS:
        raise UnreadableFileError(
            f"{path.name}: NRRD encoding {encoding[:20]}, not raw or gzip; save it as one of them"
        )
    packed = ENCODINGS[encoding]
    try:
        files = _files(path, fields.get("datafile"), lines)
        skip_lines, skip_bytes = int(fields.get("lineskip", "0")), int(fields.get("byteskip", "0"))
        own = files == (path,)
        start = _behind_lines(files[0], skip_lines, end if own else 0)
    except (ValueError, IndexError):
        raise UnreadableFileError(
            f"{path.name}: its header does not say where the voxels lie; save it again"
        ) from None
    if packed:
        return VoxelData(files, start, packed, skipped=max(0, skip_bytes))
    return VoxelData(files, -1 if skip_bytes < 0 else start + skip_bytes)


def _lines(head: bytes) -> tuple[list[str], int]:
    """Split the header into lines; also return its end, after an empty line."""
    lines: list[str] = []
    offset = 0
    while offset < len(head):
        end = head.find(b"\n", offset)
        end = len(head) if end < 0 else end
        # File names are bytes: those that are not UTF-8 must survive.
        line = head[offset:end].rstrip(b"\r").decode("utf-8", "surrogateescape")
        offset = end + 1
        if not line:
            break
        lines.append(line)
    return lines, offset


def _fields(lines: list[str]) -> dict[str, str]:
    """Fields by lower-case name without spaces; comments and key/value pairs are skipped."""
    pairs = (line.split(": ", 1) for line in lines if line[:1] != "#" and ": " in line)
    return {name.lower().replace(" ", ""): value.strip() for name, value in pairs}


def _files(path: Path, data_file: str | None, lines: list[str]) -> tuple[Path, ...]:
    """Files of the voxels; ValueError if malformed."""
    if data_file is None:
        return (path,)
    if data_file.upper().startswith("LIST"):
        index = next(i for i, line in enumerate(lines) if line.rstrip().endswith(data_file))
        return tuple(path.parent / line.strip() for line in lines[index + 1 :])
    parts = data_file.split()
    if "%" in data_file and len(parts) >= 4:
        return tuple(path.parent / name for name in numbered(parts[0], parts[1:4]))
    return (beside(path, data_file),)


def _behind_lines(path: Path, count: int, start: int) -> int:
    """Offset after some lines of a file."""
    if not count or not path.is_file():
        return start
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(count):
            file.readline(1 << 16)
        return file.tell()


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype[np.generic]:
    type_name = fields.get("type", "none").lower()
    if type_name not in TYPES:
        raise UnreadableFileError(
            f"{path.name}: NRRD type {type_name[:30]} is not read; save it as int16"
        )
    kind, endian = TYPES[type_name], fields.get("endian", "none").lower()
    if kind[1] == "1":
        return np.dtype(kind)
    if endian not in {"little", "big"}:
        raise UnreadableFileError(
            f"{path.name}: its header does not give the byte order of its values (endian: "
            f"{endian[:20]}); save it again"
        )
    return np.dtype(("<" if endian == "little" else ">") + kind)


def _domain_axes(path: Path, fields: dict[str, str], sizes: list[int]) -> list[int]:
    """Find the three spatial axes; further axes must have length 1."""
    vectors = _vectors(path, fields, len(sizes))
    kinds = fields.get("kinds", "").lower().split()
    spare = {"list", "vector", "time", "stub", "scalar", "none"}

    def lies_in_space(axis: int) -> bool:
        if vectors is not None:
            return vectors[axis] is not None
        return not (len(kinds) == len(sizes) and kinds[axis] in spare)

    axes = [axis for axis in range(len(sizes)) if sizes[axis] != 1 or lies_in_space(axis)]
    values = [sizes[axis] for axis in axes if not lies_in_space(axis)]
    if values and len(sizes) - len(values) >= 3:
        raise NotCTError(
            f"{path.name}: {len(sizes)} dimensions with {math.prod(values)} value(s) a voxel, not "
            "one grey 3D image; give a chest CT"
        )
    for axis in reversed(axes.copy()):
        if len(axes) > 3 and sizes[axis] == 1:
            axes.remove(axis)
    grey_shape(path, [sizes[axis] for axis in axes], axes=len(sizes))
    return axes


def _vectors(path: Path, fields: dict[str, str], count: int) -> list[Array | None] | None:
    """Space directions of all axes; None for non-spatial ones."""
    written = fields.get("spacedirections")
    if written is None:
        return None
    try:
        vectors = [_vector(text) for text in _VECTOR.findall(written)]
    except ValueError:
        vectors = []
    if len(vectors) != count:
        raise MissingGeometryError(
            f"{path.name}: space directions {written[:80]} are not {count} vectors of three "
            "numbers; "
            "convert it again from DICOM"
        )
    return vectors


def _vector(text: str) -> Array | None:
    """Parse `(1,2,3)`; a fourth component, time, is dropped."""
    if text.lower() == "none":
        return None
    numbers = [float(part) for part in text[1:-1].split(",")]
    if len(numbers) not in {3, 4}:
        raise ValueError(text)
    return np.array(numbers[:3])


def _geometry(
    path: Path, fields: dict[str, str], axes: list[int], count: int
) -> tuple[Array, tuple[Flag, ...]]:
    """Affine (LPS, mm), and its flags."""
    vectors = _vectors(path, fields, count)
    spacings = _spacings(path, fields, axes, count)
    if vectors is None and spacings is None:
        raise MissingGeometryError(
            f"{path.name}: neither space directions nor spacings in its header; convert it again "
            "from DICOM"
        )
    if vectors is None:
        assert spacings is not None
        affine = np.column_stack([np.diag(spacings), np.zeros(3)])
        check_affine(path, affine, "spacings")
        return affine, (*unit_flags(affine), _assumed("no space directions"))
    chosen = [vectors[axis] for axis in axes]
    steps = np.column_stack([np.full(3, np.nan) if v is None else v for v in chosen])
    steps = _space_units(path, fields, axes, steps)
    affine = np.column_stack([steps, _origin(path, fields)])
    check_affine(path, affine, "space directions and space origin")
    if spacings is not None:
        _check_spacings(path, affine, spacings)
    space = fields.get("space", "").lower().removesuffix("-time")
    if space in _SIGNS_TO_LPS:
        return affine * np.array(_SIGNS_TO_LPS[space])[:, None], unit_flags(affine)
    if space[:3] in _SIGNS_TO_LPS and space[3:] == "t":
        return affine * np.array(_SIGNS_TO_LPS[space[:3]])[:, None], unit_flags(affine)
    if space and space not in _OTHER_SPACES:
        raise MissingGeometryError(
            f"{path.name}: an unknown space {space[:40]}; save it as LPS or RAS"
        )
    return affine, (*unit_flags(affine), _assumed(f"space {space or 'not named'}"))


def _assumed(header: str) -> Flag:
    return Flag("orientation_assumed", header=header)


def _origin(path: Path, fields: dict[str, str]) -> Array:
    """Space origin in mm; default 0, as it does not affect a score."""
    written = fields.get("spaceorigin")
    if written is None or written.lower() == "none":
        return np.zeros(3)
    try:
        origin = _vector(written)
    except ValueError:
        origin = None
    if origin is None:
        raise MissingGeometryError(
            f"{path.name}: a space origin {written[:60]} is no position; convert it again from "
            "DICOM"
        )
    return np.asarray(origin * _factors(path, fields.get("spaceunits"), range(3)))


def _space_units(path: Path, fields: dict[str, str], axes: list[int], steps: Array) -> Array:
    """Space directions in mm, by the space units, or else the units of the axes."""
    units = fields.get("spaceunits")
    if units is not None:
        return np.asarray(steps * _factors(path, units, range(3))[:, None])
    return np.asarray(steps * _factors(path, fields.get("units"), axes))


def _spacings(path: Path, fields: dict[str, str], axes: list[int], count: int) -> Array | None:
    """Spacings of the spatial axes in mm."""
    written = fields.get("spacings")
    if written is None:
        return None
    try:
        spacings = np.abs([float(n) for n in written.split()])
    except ValueError:
        spacings = np.zeros(0)
    if len(spacings) != count:
        raise MissingGeometryError(
            f"{path.name}: spacings {written[:60]} are not {count} numbers; convert it again from "
            "DICOM"
        )
    if "units" in fields:
        return np.asarray(spacings[axes] * _factors(path, fields["units"], axes))
    return np.asarray(spacings[axes] * _factors(path, fields.get("spaceunits"), range(3)))


def _check_spacings(path: Path, affine: Array, spacings: Array) -> None:
    """Raise `GeometryError` where spacings contradict the space directions."""
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    known = np.isfinite(spacings)
    if np.any(np.abs(lengths - spacings)[known] > 0.002 * lengths[known]):
        raise GeometryError(
            f"{path.name}: a spacing of {numbers_text(lengths)} by space directions and of "
            f"{numbers_text(spacings)} by spacings; convert it again from DICOM"
        )


def _factors(path: Path, units: str | None, axes: Sequence[int]) -> Array:
    """Factors to mm from the units of axes, such as `"mm" "mm" "mm"`; mm where none is given."""
    names = re.findall(r'"([^"]*)"', units) if units and '"' in units else (units or "").split()
    factors = []
    for axis in axes:
        name = names[axis].strip() if axis < len(names) else ""
        factor = UNITS_MM.get(name.lower())
        if factor is None:
            raise GeometryError(
                f"{path.name}: lengths in {name[:20]!r}, which is no unit that is known; save it "
                "in mm"
            )
        factors.append(factor)
    return np.array(factors)
