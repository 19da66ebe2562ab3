"""NIfTI, NRRD and MetaImage -> Volume in HU, through SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlild_client.dicom import THICK_SLICE_MM, digest
from dlild_client.errors import GeometryError, NotCT, NotHU, TooFewSlices, UnreadableFile
from dlild_client.itk import load_sitk
from dlild_client.volume import AIR_HU, SeriesInfo, Volume, as_matrix

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
        The file cannot be read.
    NotCT
        Not one three-dimensional grey image.
    NotHU
        Values that cannot be HU of a chest.
    GeometryError, TooFewSlices
        Spacing or coverage that cannot be a chest.
    """
    sitk = load_sitk()

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise UnreadableFile(
            f"{path.name}: cannot be read as an image; is the file whole?"
        ) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise NotCT(
            f"{path.name}: {image.GetDimension()} dimensions with "
            f"{image.GetNumberOfComponentsPerPixel()} "
            "value(s) a voxel, not one grey 3D image; give a chest CT"
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise NotCT(f"{path.name}: complex values, not HU; give a chest CT")
    hu = _to_hu(sitk.GetArrayViewFromImage(image), path.name)
    spacing = image.GetSpacing()[::-1]
    # SimpleITK's columns are the axes x, y, z; ours are z, y, x.
    direction = np.asarray(image.GetDirection()).reshape(3, 3)[:, ::-1]
    _check_geometry(hu.shape, spacing, direction, path.name)
    body_axis = int(np.argmax(np.abs(direction[2])))
    step = spacing[body_axis]
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
        origin_mm=image.GetOrigin(),
        direction=as_matrix(direction),
        series=info,
        flags=("thick_slices",) if step > THICK_SLICE_MM else (),
    )


def _to_hu(values: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.int16]:
    numbers = np.asarray(values)
    if np.issubdtype(numbers.dtype, np.floating):
        # Some converters write NaN outside the field of view.
        numbers = np.nan_to_num(np.rint(numbers), nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)
    low, high = float(numbers.min()), float(numbers.max())
    if low > -500 or high < 0:
        raise NotHU(
            f"{name}: values from {low:g} to {high:g} are not the HU of a chest "
            "(air near -1000, tissue above 0); give the CT in HU"
        )
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
