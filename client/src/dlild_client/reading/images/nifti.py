"""Headers of NIfTI-1 and NIfTI-2 files (`.nii`, `.nii.gz`).

A NIfTI file holds its geometry up to three times: as a matrix (`sform`), as a rotation with the
spacing of `pixdim` (`qform`), and as `pixdim` alone. Codes say which of the first two are valid.
With one valid code that affine is the geometry; two that disagree are an error; with none there is
only the spacing of `pixdim`.

References
----------
.. [1] The NIfTI-1 data format, nifti1.h, https://nifti.nimh.nih.gov/nifti-1
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError, MissingGeometryError, NotCTError, UnreadableFileError
from dlild_client.flags import Flag
from dlild_client.reading.images.header import (
    ImageHeader,
    affine_fault,
    check_affine,
    check_scale,
    grey_shape,
    numbers_text,
    shear_deg,
    spacing_text,
    unit_flags,
)
from dlild_client.reading.images.voxeldata import (
    VoxelBytes,
    VoxelData,
    is_gzip,
    read_head,
    unpack_head,
)

SUFFIXES = (".nii", ".nii.gz")

_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8",
}  # fmt: skip
_NOT_GREY = {
    32: ("complex values", 8), 1792: ("complex values", 16), 128: ("colours", 3),
    2304: ("colours", 4),
}  # fmt: skip
"""Data types with more than one value per voxel: description and bytes."""
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_HEAD_BYTES = 540
_LAYOUTS = {
    348: {
        "dim": ("8h", 40), "datatype": ("h", 70), "pixdim": ("8f", 76), "offset": ("f", 108),
        "scaling": ("2f", 112), "units": ("B", 123), "qform_code": ("h", 252),
        "sform_code": ("h", 254), "quaternion": ("3f", 256), "q_offset": ("3f", 268),
        "sform": ("12f", 280),
    },
    540: {
        "dim": ("8q", 16), "datatype": ("h", 12), "pixdim": ("8d", 104), "offset": ("q", 168),
        "scaling": ("2d", 176), "units": ("i", 500), "qform_code": ("i", 344),
        "sform_code": ("i", 348), "quaternion": ("3d", 352), "q_offset": ("3d", 376),
        "sform": ("12d", 400),
    },
}  # fmt: skip
"""Type and byte of each field, by the size of the header: NIfTI-1 and NIfTI-2."""

_CHUNK = 1 << 20

LARGEST_SHIFT_MM = 1.0
"""Two affines agree where no voxel moves further relative to the centre of the scan."""

LARGEST_RATIO = 0.002
"""... and where their spacings differ by less than this fraction."""

_TO_LPS = np.array([[-1.0], [-1.0], [1.0]])
"""NIfTI's x grows to the right and its y to the front."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Fields:
    """Raw fields of a header of either version."""

    order: str
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    offset: int
    slope: float
    intercept: float
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    q_offset: tuple[float, ...]
    sform: Array
    units: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Voxels along the axes in use; empty where their number is invalid."""
        return self.dim[1 : 1 + self.dim[0]] if 1 <= self.dim[0] <= 7 else ()


def read_header(path: Path) -> ImageHeader:
    """Read the header of a NIfTI file, compressed or not, regardless of its name.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.

    Returns
    -------
    ImageHeader

    Raises
    ------
    UnreadableFileError
        Not a NIfTI file, or an invalid header.
    NotCTError
        Not one grey 3D image.
    GeometryError
        No geometry, or two that contradict each other.
    NotHUError
        Slope or intercept is not finite.
    """
    fields, data = _open(path)
    if fields.datatype in _NOT_GREY:
        raise NotCTError(f"{path.name}: {_NOT_GREY[fields.datatype][0]}, not HU; give a chest CT")
    affine, flags = _geometry(path, fields)
    slope, intercept = _scale(path, fields)
    return ImageHeader(
        shape=grey_shape(path, fields.sizes),
        dtype=np.dtype(fields.order + _TYPES[fields.datatype]),
        affine=affine,
        data=data,
        slope=slope,
        intercept=intercept,
        flags=flags,
    )


@dataclass(frozen=True)
class NiftiSurvey:
    """Result of reading all bytes of a file.

    Attributes
    ----------
    shape : tuple of int
        Voxels along (x, y, z), and further axes, if any.
    not_finite : int
        Voxels that are NaN or infinite.
    """

    shape: tuple[int, ...]
    not_finite: int


def survey(path: Path) -> NiftiSurvey:
    """Read every byte of a NIfTI file of any content, checksum included.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.

    Returns
    -------
    NiftiSurvey

    Raises
    ------
    UnreadableFileError
        Not a NIfTI file, truncated, or a checksum that does not match.
    """
    fields, data = _open(path)
    kind = _TYPES.get(fields.datatype, "")
    item = int(kind[1]) if kind else _NOT_GREY[fields.datatype][1]
    needed = math.prod(fields.sizes) * item
    source = VoxelBytes(path.name, data, needed)
    not_finite = 0
    for start in range(0, needed, _CHUNK * item):
        chunk = np.empty(min(_CHUNK * item, needed - start), np.uint8)
        source.read(start, chunk)
        if kind.startswith("f"):
            values = chunk.view(fields.order + kind)
            not_finite += int(np.count_nonzero(~np.isfinite(values)))
    return NiftiSurvey(fields.sizes, not_finite)


def _open(path: Path) -> tuple[_Fields, VoxelData]:
    """Parse and check the fields of a header, and locate the voxels."""
    head = read_head(path, 1 << 16)
    packed = is_gzip(head)
    fields = _fields(path, unpack_head(path, head, _HEAD_BYTES) if packed else head)
    known = fields.datatype in _TYPES or fields.datatype in _NOT_GREY
    if not fields.sizes or min(fields.sizes) < 1 or not known:
        raise UnreadableFileError(
            f"{path.name}: a header of dimensions {fields.dim} and data type {fields.datatype} "
            "cannot be right"
        )
    if packed:
        return fields, VoxelData((path,), packed="gzip", skipped=fields.offset, exact=False)
    return fields, VoxelData((path,), start=fields.offset, exact=False)


def _fields(path: Path, head: bytes) -> _Fields:
    """Detect version and byte order from sizeof_hdr, and parse the fields."""
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0] if len(head) >= 348 else 0
        if size not in _LAYOUTS or len(head) < size:
            continue
        if size == 348 and head[344:347] != b"n+1":
            raise UnreadableFileError(
                f"{path.name}: a header without voxels behind it (Analyze, or one half of a pair "
                "of files); save it as .nii"
            )
        found: dict[str, tuple[Any, ...]] = {
            name: struct.unpack_from(order + form, head, at)
            for name, (form, at) in _LAYOUTS[size].items()
        }
        single = {name: values[0] for name, values in found.items() if len(values) == 1}
        single["offset"] = _offset(path, single["offset"], size)
        slope, intercept = found["scaling"]
        return _Fields(
            order,
            dim=found["dim"],
            pixdim=found["pixdim"],
            slope=slope,
            intercept=intercept,
            quaternion=found["quaternion"],
            q_offset=found["q_offset"],
            sform=np.array(found["sform"]).reshape(3, 4),
            **single,
        )
    raise UnreadableFileError(f"{path.name}: not a NIfTI file; give .nii or .nii.gz")


def _offset(path: Path, value: float, least: int) -> int:
    """Offset of the voxels; 0, in some files, means directly after the header."""
    if not 0 <= value < 1 << 40:
        raise UnreadableFileError(f"{path.name}: voxels at byte {value:g} cannot be right")
    return max(int(value), least + 4 if value == 0 else least)


def _scale(path: Path, fields: _Fields) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means none."""
    if fields.slope == 0 or np.isnan(fields.slope):
        return 1.0, 0.0
    check_scale(path, fields.slope, fields.intercept, "scl_slope and scl_inter")
    return fields.slope, fields.intercept


def _geometry(path: Path, fields: _Fields) -> tuple[Array, tuple[Flag, ...]]:
    """Affine (LPS, mm), and its flags."""
    unit = _UNITS_MM.get(fields.units & 7, 1.0)
    spacing = np.abs(np.array(fields.pixdim[1:4])) * unit
    forms = {}
    if fields.sform_code > 0:
        forms["sform"] = fields.sform * unit
    if fields.qform_code > 0:
        forms["qform"] = _qform(fields, spacing, unit)
    usable = {name: affine for name, affine in forms.items() if not affine_fault(affine)}
    if len(usable) == 2:
        _check_agreement(path, fields, usable["sform"], usable["qform"])
    for name, affine in (usable or forms).items():
        check_affine(path, affine, name)
        flags = _doubts(affine, spacing, len(usable) < len(forms))
        if name == "qform" and min(fields.pixdim[1:4]) < 0:
            flags += (Flag("orientation_assumed", header="a negative pixdim"),)
        return _TO_LPS * affine, flags
    if not np.all(np.isfinite(spacing)) or np.any(spacing == 0):
        raise MissingGeometryError(
            f"{path.name}: neither sform nor qform, and a pixdim of {numbers_text(spacing)}: its "
            "spacing is not known; convert it again from DICOM"
        )
    # Axes as in DICOM: writers that omit the codes mostly store the voxels in this order.
    affine = np.column_stack([np.diag(spacing), np.zeros(3)])
    return affine, (
        *unit_flags(affine),
        Flag("orientation_assumed", header="neither sform nor qform"),
    )


def _qform(fields: _Fields, spacing: Array, unit: float) -> Array:
    """Affine from quaternion, pixdim and offset, as specified in [1]_."""
    b, c, d = fields.quaternion
    square = 1.0 - (b * b + c * c + d * d)
    if square < 1e-7:  # 180°: rounding may make it negative
        length = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = np.sqrt(square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    rotation[:, 2] *= -1.0 if fields.pixdim[0] < 0 else 1.0
    return np.column_stack([rotation * spacing, np.array(fields.q_offset) * unit])


def _check_agreement(path: Path, fields: _Fields, sform: Array, qform: Array) -> None:
    """Raise `GeometryError` where two valid affines differ in shear, spacing or direction.

    Different origins, as after a registration by translation, do not change the score. A qform
    cannot represent a shear: its axes may deviate by that of the sform.
    """
    one, other = (np.linalg.norm(affine[:, :3], axis=0) for affine in (sform, qform))
    half = (np.array(fields.dim[1:4]) - 1) / 2
    signs = np.array([[x, y, 1.0] for x in (-1.0, 1.0) for y in (-1.0, 1.0)]).T
    shift = np.linalg.norm((sform[:, :3] - qform[:, :3]) @ (half[:, None] * signs), axis=0).max()
    if np.all(np.abs(one - other) <= LARGEST_RATIO * other):
        # The chord is exact for small angles, where the arc cosine is not.
        turn = np.linalg.norm(sform[:, :3] / one - qform[:, :3] / other, axis=0).max()
        if shift <= LARGEST_SHIFT_MM or turn <= np.radians(shear_deg(sform) + 0.1):
            return
    raise GeometryError(
        f"{path.name}: its two geometries disagree: a spacing of {spacing_text(sform)} by sform, "
        f"{spacing_text(qform)} by qform and pixdim, and voxels up to {shift:.1f} mm apart; "
        "convert it again from DICOM"
    )


def _doubts(affine: Array, spacing: Array, one_is_void: bool) -> tuple[Flag, ...]:
    """Flag a geometry that another part of the header contradicts, or a default one."""
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    if one_is_void or np.any(np.abs(lengths - spacing) > LARGEST_RATIO * lengths):
        return (
            Flag("spacing_doubtful", **dict(zip(("x_mm", "y_mm", "z_mm"), lengths, strict=True)),
                 pixdim=numbers_text(spacing)),
        )  # fmt: skip
    return unit_flags(affine)
