"""Reads NIfTI, NRRD and MetaImage files into a `Volume` in HU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import (
    GeometryError,
    MissingSlicesError,
    NotHUError,
    TooFewSlicesError,
    UnreadableFileError,
)
from dlild_client.flags import Flag
from dlild_client.reading.assemble import digest
from dlild_client.reading.dicom.decode import check_voxels
from dlild_client.reading.images import metaimage, nifti, nrrd
from dlild_client.reading.images.header import ImageHeader, shear_flags
from dlild_client.reading.images.voxeldata import VoxelBytes, check_files
from dlild_client.reading.quality import (
    check_blanks,
    check_hu,
    check_jumps,
    geometry_flags,
    pixel_flags,
    thickness_flags,
)
from dlild_client.slabs import HELD_VOXELS, Fill, Hu, Slabs, as_volume_array, thinned
from dlild_client.volume import AIR_HU, SeriesInfo, Volume, as_matrix

FORMATS = (nifti, nrrd, metaimage)
SUFFIXES = tuple(suffix for image_format in FORMATS for suffix in image_format.SUFFIXES)
"""Suffixes of image files."""

MINIMUM_COVERAGE_MM = 100.0
"""Least extent along the body that can hold a pair of lungs."""

SHORTEST_SPACING_MM, LONGEST_SPACING_MM = 0.05, 15.0


def is_image_name(path: Path) -> bool:
    """Whether a file name has one of `SUFFIXES`."""
    return path.name.lower().endswith(SUFFIXES)


def read_image(path: Path) -> Volume:
    """Read a CT volume from one file.

    Parameters
    ----------
    path : Path
        `.nii`, `.nii.gz`, `.nrrd`, `.nhdr`, `.mha` or `.mhd`.

    Returns
    -------
    Volume
        int16 HU, axes (z, y, x) as stored, geometry in LPS. HU below -1024 are -1024. Scans of
        more than `slabs.HELD_VOXELS` are `Slabs`, which read the file again at each access.

    Raises
    ------
    UnreadableFileError
        The file cannot be read, or is truncated.
    NotCTError
        Not one three-dimensional grey image.
    NotHUError
        Values that are not HU of a chest.
    GeometryError, TooFewSlicesError
        A geometry that is missing, inconsistent or not that of a chest.
    TooLargeError
        More voxels than any scan has.
    """
    header = check_image(path)
    hu = _read_hu(path, header)
    try:
        check_hu(thinned(hu)[:: max(1, len(hu) // 60)])
    except NotHUError as error:
        raise NotHUError(f"{path.name}: {error}") from None
    spacing, direction = header.spacing_mm, header.direction
    body_axis = int(np.argmax(np.abs(direction[2])))
    step = spacing[body_axis]
    in_plane = [s for axis, s in enumerate(spacing) if axis != body_axis]
    flags = pixel_flags(hu)
    flags += [*header.flags, *shear_flags(header.affine)]
    flags += _slice_flags(hu, body_axis, path.name)
    flags += thickness_flags(step, None)
    flags += geometry_flags(step, (in_plane[0], in_plane[1]))
    info = SeriesInfo(
        source="image",
        slice_step_mm=round(float(step), 4),
        slices=hu.shape[body_axis],
        image_shape=(hu.shape[1], hu.shape[2]),
        digest=digest(hu, spacing),
    )
    if isinstance(hu, Slabs):
        hu.forget()
    return Volume(
        array=as_volume_array(hu),
        spacing_mm=spacing,
        origin_mm=header.origin_mm,
        direction=as_matrix(direction),
        series=info,
        flags=tuple(flags),
    )


def read_label_map(path: Path) -> Volume:
    """Read a label map, as `write_nifti` writes it.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.

    Returns
    -------
    Volume
        uint8, axes (z, y, x) as stored, geometry in LPS.

    Raises
    ------
    InputError
        The file cannot be read, or holds values that are no labels.
    """
    header = check_image(path)
    stored = np.asarray(_read_hu(path, header))
    if stored.min() < 0 or stored.max() > np.iinfo(np.uint8).max:
        raise UnreadableFileError(
            f"{path.name}: not a label map: it holds values from {stored.min()} to {stored.max()}"
        )
    return Volume(
        array=stored.astype(np.uint8),
        spacing_mm=header.spacing_mm,
        origin_mm=header.origin_mm,
        direction=as_matrix(header.direction),
    )


def check_image(path: Path) -> ImageHeader:
    """Read and check the header of an image file, without voxels.

    Raises
    ------
    InputError
        As for `read_image`.
    """
    name = path.name.lower()
    image_format = next((known for known in FORMATS if name.endswith(known.SUFFIXES)), metaimage)
    header: ImageHeader = image_format.read_header(path)
    check_files(path.name, header.data)
    _check_geometry(header, path.name)
    check_voxels(path.name, header.shape[::-1])
    return header


def _read_hu(path: Path, header: ImageHeader) -> Hu | Slabs:
    """HU (z, y, x); lazily, as `Slabs`, for a large scan."""
    slabs = Slabs(header.shape, _fill(path, header))
    return np.asarray(slabs) if header.voxels <= HELD_VOXELS else slabs


def _fill(path: Path, header: ImageHeader) -> Fill:
    item = header.dtype.itemsize
    source = VoxelBytes(path.name, header.data, header.voxels * item)
    plane_bytes = math.prod(header.shape[1:]) * item
    native = header.dtype == np.dtype(np.int16)

    def fill(first: int, out: Hu) -> None:
        stored = out if native else np.empty(out.shape, header.dtype)
        source.read(first * plane_bytes, stored.reshape(-1).view(np.uint8))
        _to_hu(stored, header.slope, header.intercept, out)

    return fill


def _to_hu(stored: npt.NDArray[Any], slope: float, intercept: float, out: Hu) -> None:
    """Write stored values as HU, clipped to -1024 and the top of int16; `out` may be `stored`."""
    values = stored
    if (slope, intercept) != (1.0, 0.0):
        values = stored * np.float64(slope) + intercept
    if values.dtype.kind == "f":
        # Some converters write NaN outside the field of view.
        values = np.nan_to_num(np.rint(values), nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)
    highest = np.iinfo(np.int16).max
    low = max(AIR_HU, np.iinfo(values.dtype).min) if values.dtype.kind in "iu" else AIR_HU
    high = min(highest, np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else highest
    if values is out:
        np.clip(out, low, high, out=out)
    else:
        out[...] = np.clip(values, low, high)


def _slice_flags(hu: Hu | Slabs, body_axis: int, name: str) -> list[Flag]:
    """Check for blank slices, and for HU that jump between slices."""
    try:
        flags = check_blanks(hu, axis=body_axis)
        check_jumps(thinned(hu, body_axis))
    except (MissingSlicesError, NotHUError) as error:
        raise type(error)(f"{name}: {error}") from None
    return flags


def _check_geometry(header: ImageHeader, name: str) -> None:
    spacing, shape = header.spacing_mm, header.shape
    if not all(SHORTEST_SPACING_MM <= s <= LONGEST_SPACING_MM for s in spacing):
        shown = " x ".join(f"{s:.4g}" for s in spacing)
        raise GeometryError(
            f"{name}: a spacing of {shown} mm (z, y, x) cannot be right; convert it again from "
            "DICOM"
        )
    extent = np.abs(header.direction) @ (np.asarray(shape) * np.asarray(spacing))
    if min(shape) < 10 or extent[2] < MINIMUM_COVERAGE_MM:
        raise TooFewSlicesError(
            f"{name}: {shape} voxels over {extent[2]:.0f} mm of the body; a chest needs at least "
            f"10 slices and {MINIMUM_COVERAGE_MM:.0f} mm; give the whole series"
        )
