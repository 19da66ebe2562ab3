"""Resamples a volume to the model grid: LPS orientation, spacing of the contract.

Scans aligned with the body axes (nearly all) use separable resampling: along each axis a triangle
kernel, as wide as the larger of the two spacings, so that fine scans are averaged rather than
subsampled, and thick slices interpolated. Oblique scans and those with gantry tilt are first
averaged along their own axes, then interpolated at the voxels of the grid. Uneven slices, and
slices with gaps, are resampled at their own positions (`dlild_client.preparation.resampling`).

The grid covers the scan from voxel face to voxel face and is centred on it, so that a flipped or
reordered scan gives the same grid.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract, HuRange
from dlild_client.errors import GeometryError
from dlild_client.preparation.resampling import (
    Band,
    has_plain_slices,
    resample,
    slice_band,
    slice_faces_mm,
)
from dlild_client.slabs import is_slabs
from dlild_client.volume import LPS_GRID, Triple, Volume

ALIGNED_COSINE = float(np.cos(np.radians(0.1)))
"""Axes within 0.1° of the body axes count as aligned: 0.7 mm at the edge of a 400 mm scan."""

MAXIMUM_EXTENT_MM = 2500.0
MAXIMUM_GRID_VOXELS = 200_000_000


@cache
def load_sitk() -> Any:
    """Import SimpleITK at first use, with its warnings off: an error is one line for the user."""
    sitk = import_module("SimpleITK")
    sitk.ProcessObject.GlobalWarningDisplayOff()
    return sitk


def to_grid(volume: Volume, contract: Contract) -> Volume:
    """Resample a volume to the model grid.

    Parameters
    ----------
    volume : Volume
        HU in any orientation and spacing.
    contract : Contract
        Spacing of the grid, HU range and padding.

    Returns
    -------
    Volume
        int16 HU within the contract's range, axes (z to the head, y to the back, x to the left).

    Raises
    ------
    GeometryError
        The scan is larger than a body.
    """
    return resample_to_grid(volume, contract.grid.spacing_mm, contract.hu)


def resample_to_grid(volume: Volume, target: Triple, hu: HuRange) -> Volume:
    """Resample a volume to LPS voxels of the spacing `target` (z, y, x) in mm.

    What `to_grid` does, for a result that is read from its files, without a contract.

    Raises
    ------
    GeometryError
        The scan is larger than a body.
    """
    lower, upper = _bounds_mm(volume)
    extent = (upper - lower)[::-1]  # (z, y, x)
    count = np.maximum(1, np.ceil(extent / np.asarray(target) - 1e-3)).astype(int)
    if extent.max() > MAXIMUM_EXTENT_MM or int(np.prod(count)) > MAXIMUM_GRID_VOXELS:
        size = " x ".join(f"{v:.0f}" for v in extent)
        raise GeometryError(f"the scan measures {size} mm (z, y, x); check its spacing")
    shape = (int(count[0]), int(count[1]), int(count[2]))
    centre = (lower + upper) / 2
    origin = centre - ((count - 1) * np.asarray(target) / 2)[::-1]
    axes = _aligned_axes(volume)
    if axes is None:
        array = _resample_oblique(volume, shape, target, origin, hu)
    elif is_slabs(volume.array):
        array = _resample_as_stored(volume, axes, shape, target, hu)
    else:
        spacing = tuple(volume.spacing_mm[axis] for axis, _ in axes)
        bands = _slice_bands(volume, axes, shape, target)
        turned = _turn(volume.array, axes)
        array = resample(turned, spacing, shape, target, hu, bands)
    return replace(
        volume,
        array=array,
        spacing_mm=target,
        origin_mm=tuple(origin.tolist()),
        direction=LPS_GRID,
        slice_positions_mm=None,
        slice_thicknesses_mm=None,
    )


def _slice_bands(
    volume: Volume, axes: tuple[tuple[int, bool], ...], shape: tuple[int, int, int], target: Triple
) -> dict[int, Band]:
    """Weights along the grid axis that the slices are stacked along, where they are not plain."""
    if has_plain_slices(volume):
        return {}
    along = [axis for axis, _ in axes].index(0)
    band = slice_band(volume, shape[along], target[along], backwards=axes[along][1])
    return {along: band}


def _bounds_mm(volume: Volume) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lowest and highest patient coordinates (x, y, z) of the faces of the volume."""
    ends = np.array([[-0.5, n - 0.5] for n in volume.shape])
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
    points = volume.points_mm(corners)
    return points.min(axis=0), points.max(axis=0)


def _aligned_axes(volume: Volume) -> tuple[tuple[int, bool], ...] | None:
    """Find the array axis along each grid axis (z, y, x), and whether it runs backwards."""
    direction = np.asarray(volume.direction)
    axes = []
    for patient_axis in (2, 1, 0):
        cosines = direction[patient_axis]
        axis = int(np.argmax(np.abs(cosines)))
        if abs(cosines[axis]) < ALIGNED_COSINE:
            return None
        axes.append((axis, bool(cosines[axis] < 0)))
    return tuple(axes)


def _turn(array: npt.NDArray[Any], axes: tuple[tuple[int, bool], ...]) -> npt.NDArray[Any]:
    """View of an array with axes in grid order and sense; nothing is copied."""
    turned = array.transpose([axis for axis, _ in axes])
    return turned[tuple(slice(None, None, -1 if backwards else 1) for _, backwards in axes)]


def _resample_as_stored(
    volume: Volume,
    axes: tuple[tuple[int, bool], ...],
    shape: tuple[int, int, int],
    target: Triple,
    hu: HuRange,
) -> npt.NDArray[np.int16]:
    """Resample along the axes in the order in which slabs can be read, and turn what comes out."""
    grid_axes = sorted(range(3), key=lambda i: axes[i][0])
    z, y, x = (shape[i] for i in grid_axes)
    spacing = [target[i] for i in grid_axes]
    bands = {} if has_plain_slices(volume) else {0: slice_band(volume, z, spacing[0])}
    array = resample(volume.array, volume.spacing_mm, (z, y, x), spacing, hu, bands)
    return np.ascontiguousarray(_turn(array, axes))


def _resample_oblique(
    volume: Volume,
    shape: tuple[int, int, int],
    target: Triple,
    origin: npt.NDArray[np.float64],
    hu: HuRange,
) -> npt.NDArray[np.int16]:
    """Average along the scan's own axes, then interpolate at the grid's voxels."""
    sitk = load_sitk()

    finest = min(target)
    spacing = np.asarray(volume.spacing_mm)
    # Two thirds of a grid voxel: the interpolation below widens the kernel to about a whole one.
    coarse_spacing = np.maximum(spacing, finest / 1.5)
    extent = np.asarray(volume.shape) * spacing
    middle = (np.asarray(volume.shape) - 1) / 2
    plain = has_plain_slices(volume)
    if not plain:
        low, high = slice_faces_mm(volume)
        coarse_spacing[0], extent[0] = finest / 1.5, high - low
        middle[0] = volume.slice_indices((low + high) / 2)
    coarse_shape = np.maximum(1, np.ceil(extent / coarse_spacing - 1e-3)).astype(int)
    z, y, x = coarse_shape.tolist()
    bands = {} if plain else {0: slice_band(volume, z, coarse_spacing[0])}
    coarse = resample(
        volume.array, volume.spacing_mm, (z, y, x), coarse_spacing.tolist(), hu, bands
    )
    # The image is in index space; the transform from patient coordinates to indices may shear,
    # which the direction of a SimpleITK image may not.
    image = sitk.GetImageFromArray(coarse)
    steps = np.asarray(volume.direction) * coarse_spacing
    centre = volume.points_mm(middle)
    to_index = np.linalg.inv(steps)[::-1]  # rows in the order x, y, z of SimpleITK
    offset = ((coarse_shape - 1) / 2)[::-1] - to_index @ centre
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_index.ravel().tolist())
    transform.SetTranslation(offset.tolist())
    # The scan extends half a voxel beyond the outermost centres, to the voxel faces.
    padded = sitk.ZeroFluxNeumannPad(image, [1, 1, 1], [1, 1, 1])
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([shape[2], shape[1], shape[0]])
    resampler.SetOutputOrigin(origin.tolist())
    resampler.SetOutputSpacing([target[2], target[1], target[0]])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(hu.padding)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    result = sitk.GetArrayFromImage(resampler.Execute(padded))
    return np.asarray(np.clip(np.rint(result), hu.minimum, hu.maximum), dtype=np.int16)
