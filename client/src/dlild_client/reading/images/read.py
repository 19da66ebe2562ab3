"""NIfTI, NRRD and MetaImage -> Volume in HU, through SimpleITK."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import (
    GeometryError,
    MissingSlices,
    NotCT,
    NotHU,
    TooFewSlices,
    TooLarge,
    UnreadableFile,
)
from dlild_client.flags import Flag
from dlild_client.itk import load_sitk
from dlild_client.reading.assemble import digest
from dlild_client.reading.blanks import check_blanks
from dlild_client.reading.dicom.decode import MAXIMUM_VOXELS
from dlild_client.reading.images import metaimage, nrrd
from dlild_client.reading.images.metaimage import SUFFIXES as METAIMAGE_SUFFIXES
from dlild_client.reading.images.nifti import SUFFIXES as NIFTI_SUFFIXES
from dlild_client.reading.images.nifti import survey
from dlild_client.reading.images.nrrd import SUFFIXES as NRRD_SUFFIXES
from dlild_client.reading.images.voxeldata import VoxelData, check_files, check_voxels
from dlild_client.reading.quality import check_hu, geometry_flags, pixel_flags, thickness_flags
from dlild_client.volume import AIR_HU, SeriesInfo, Triple, Volume, as_matrix

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File names that are read as images."""

MINIMUM_COVERAGE_MM = 100.0
"""Shorter along the body cannot hold a pair of lungs."""


def is_image_name(path: Path) -> bool:
    """Tell by its name whether a file is one of `SUFFIXES`."""
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
        int16 HU, axes (z, y, x) as stored, geometry in LPS. HU below -1024 are -1024.

    Raises
    ------
    UnreadableFile
        The file cannot be read, or is cut short.
    NotCT
        Not one three-dimensional grey image.
    NotHU
        Values that cannot be HU of a chest.
    GeometryError, TooFewSlices
        Spacing or coverage that cannot be a chest.
    """
    hu, spacing, origin, direction = _load(path)
    _check_geometry(hu.shape, spacing, direction, path.name)
    body_axis = int(np.argmax(np.abs(direction[2])))
    step = spacing[body_axis]
    in_plane = [s for axis, s in enumerate(spacing) if axis != body_axis]
    flags = pixel_flags(hu)
    flags += _blanks(np.moveaxis(hu, body_axis, 0), path.name)
    flags += thickness_flags(step, None)
    flags += geometry_flags(step, (in_plane[0], in_plane[1]))
    info = SeriesInfo(
        source="image",
        slice_step_mm=round(float(step), 4),
        slices=hu.shape[body_axis],
        image_shape=(hu.shape[1], hu.shape[2]),
        digest=digest(hu, spacing),
    )
    return Volume(
        array=hu,
        spacing_mm=spacing,
        origin_mm=origin,
        direction=as_matrix(direction),
        series=info,
        flags=tuple(flags),
    )


def _load(
    path: Path,
) -> tuple[npt.NDArray[np.int16], Triple, Triple, npt.NDArray[np.float64]]:
    """HU (z, y, x), spacing (z, y, x), origin (x, y, z), direction with columns z, y, x."""
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        survey(path)
    data = _locate(path)
    sitk = load_sitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_header(reader, path.name)
        if data is not None:
            voxel_bytes = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
            check_voxels(path.name, data, math.prod(reader.GetSize()) * voxel_bytes)
        image = reader.Execute()
    except RuntimeError as error:
        raise UnreadableFile(f"{path.name}: {_why(error)}") from None
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]  # one moment in time
    hu = _to_hu(sitk.GetArrayViewFromImage(image))
    try:
        check_hu(hu[:: max(1, len(hu) // 60), ::4, ::4])
    except NotHU as error:
        raise NotHU(f"{path.name}: {error}") from None
    x, y, z = image.GetSpacing()
    # SimpleITK's columns are the axes x, y, z; ours are z, y, x.
    direction = np.asarray(image.GetDirection()).reshape(3, 3)[:, ::-1]
    return hu, (z, y, x), image.GetOrigin(), direction


def _check_header(reader: Any, name: str) -> None:
    """Raise before anything is allocated, unless this is one grey 3D image of bearable size."""
    size = reader.GetSize()
    if len(size) < 3 or any(n > 1 for n in size[3:]) or reader.GetNumberOfComponents() != 1:
        raise NotCT(
            f"{name}: {len(size)} dimensions with {reader.GetNumberOfComponents()} value(s) a "
            "voxel, not one grey 3D image; give a chest CT"
        )
    if "complex" in load_sitk().GetPixelIDValueAsString(reader.GetPixelID()):
        raise NotCT(f"{name}: complex values, not HU; give a chest CT")
    # SimpleITK holds the voxels in their own type beside our int16.
    if math.prod(size) > MAXIMUM_VOXELS // 2:
        shape = " x ".join(str(n) for n in size)
        raise TooLarge(f"{name}: {shape} voxels; give one chest CT")


def _blanks(slices: npt.NDArray[np.int16], name: str) -> list[Flag]:
    try:
        return check_blanks(slices)
    except MissingSlices as error:
        raise MissingSlices(f"{name}: {error}") from None


def _locate(path: Path) -> VoxelData | None:
    """Find the files of the voxels of an NRRD or MetaImage file."""
    name = path.name.lower()
    if name.endswith(NRRD_SUFFIXES):
        data = nrrd.locate(path)
    elif name.endswith(METAIMAGE_SUFFIXES):
        data = metaimage.locate(path)
    else:
        return None
    check_files(path.name, data)
    return data


def _why(error: RuntimeError) -> str:
    if "orthonormal" in str(error):
        return (
            "its axes are not at right angles (a tilted gantry or a shear), which this format's "
            "reader does not take; give the DICOM series"
        )
    return "cannot be read as an image; is the file whole?"


def _to_hu(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
    numbers = np.asarray(values)
    if np.issubdtype(numbers.dtype, np.floating):
        # Some converters write NaN outside the field of view.
        numbers = np.nan_to_num(np.rint(numbers), nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)
    return np.clip(numbers, AIR_HU, np.iinfo(np.int16).max).astype(np.int16)


def _check_geometry(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    direction: npt.NDArray[np.float64],
    name: str,
) -> None:
    if not all(0.05 <= s <= 15 for s in spacing):
        raise GeometryError(f"{name}: a spacing of {spacing} mm (z, y, x) cannot be right")
    extent = np.abs(direction) @ (np.asarray(shape) * np.asarray(spacing))
    if min(shape) < 10 or extent[2] < MINIMUM_COVERAGE_MM:
        raise TooFewSlices(
            f"{name}: {shape} voxels over {extent[2]:.0f} mm of the body; a chest needs at least "
            f"10 slices and {MINIMUM_COVERAGE_MM:.0f} mm; give the whole series"
        )
