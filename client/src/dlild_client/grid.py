"""The model grid: any volume, turned to LPS and resampled to the contract's spacing.

Scans whose axes run along the body axes (nearly all) go through separable resampling: along each
axis a triangle kernel, as wide as the coarser of the two spacings, so that fine scans are averaged
rather than picked from, and thick slices interpolated. Tilted and oblique scans are first averaged
along their own axes and then interpolated at the voxels of the grid.

The grid covers the scan from voxel face to voxel face and is centred on it, so that a scan turned
round or written in another order gives the same grid.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract, HuRange
from dlild_client.errors import GeometryError
from dlild_client.itk import load_sitk
from dlild_client.volume import LPS_GRID, Triple, Volume

Float = npt.NDArray[np.float32]

ALIGNED_COSINE = float(np.cos(np.radians(0.1)))
"""Axes within 0.1° of the body axes count as aligned: 0.7 mm at the edge of a 400 mm scan."""

MAXIMUM_EXTENT_MM = 2500.0
MAXIMUM_GRID_VOXELS = 200_000_000

_SLAB = 8  # slices worked on at once: what they take is small enough for malloc to use again
_TURNED = 64  # rows turned at once: four cache lines of what is written
_APART = 16  # floats between rows: else rows a power of two long push each other out of the cache
_COLUMN = 16384  # voxels of a plane that are resampled in depth at once: they fit the cache


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
        The scan is larger than any body.
    """
    target = contract.grid.spacing_mm
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
        array = _resample_oblique(volume, shape, target, origin, contract.hu)
    else:
        array = _resample_aligned(
            _turn(volume, axes),
            tuple(volume.spacing_mm[axis] for axis, _ in axes),
            shape=shape,
            target=target,
            hu=contract.hu,
        )
    return replace(
        volume, array=array, spacing_mm=target, origin_mm=tuple(origin.tolist()), direction=LPS_GRID
    )


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


def _turn(volume: Volume, axes: tuple[tuple[int, bool], ...]) -> npt.NDArray[Any]:
    """View of the array with axes in grid order and sense; nothing is copied."""
    turned = volume.array.transpose([axis for axis, _ in axes])
    return turned[tuple(slice(None, None, -1 if backwards else 1) for _, backwards in axes)]


def _resample_aligned(
    array: npt.NDArray[Any],
    spacing: tuple[float, ...],
    *,
    shape: tuple[int, int, int],
    target: Triple,
    hu: HuRange,
) -> npt.NDArray[np.int16]:
    bands = [triangle_band(array.shape[i], spacing[i], shape[i], target[i]) for i in range(3)]
    return _resample_depth(_resample_planes(array, bands[1], bands[2], hu), bands[0])


@dataclass(frozen=True)
class Band:
    """Resampling along one axis: output `i` is ``taps[i] @ input[first[i] : first[i] + k]``.

    Attributes
    ----------
    first : ndarray, shape (n_out,)
        First input voxel that counts.
    taps : ndarray, shape (n_out, k)
        float32; rows sum to one.
    """

    first: npt.NDArray[np.intp]
    taps: Float


def triangle_band(n_in: int, spacing_in: float, n_out: int, spacing_out: float) -> Band:
    """Weights of a triangle kernel between two evenly spaced axes with a common centre.

    The kernel's half-width is the larger spacing: linear interpolation where the output is finer, a
    weighted mean where it is coarser. Beyond the outermost centres the edge voxel goes on.

    Parameters
    ----------
    n_in, n_out : int
        Voxels of the input and the output.
    spacing_in, spacing_out : float
        In mm.
    """
    width = max(spacing_in, spacing_out) / spacing_in
    places = (np.arange(n_out) - (n_out - 1) / 2) * (spacing_out / spacing_in) + (n_in - 1) / 2
    places = np.clip(places, 0, n_in - 1)
    k = min(n_in, int(np.ceil(2 * width)) + 1)
    first = np.clip(np.floor(places - width).astype(np.intp) + 1, 0, n_in - k)
    distance = np.abs(places[:, None] - (first[:, None] + np.arange(k)))
    taps = np.maximum(0.0, 1 - distance / width)
    return Band(first, (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32))


def _apply(band: Band, array: Float) -> Float:
    """Resample along the first axis: (n_in, m) to (n_out, m)."""
    m = array.shape[1]
    out = np.empty((len(band.first), m + _APART), dtype=np.float32)[:, :m]
    for i in range(len(out)):
        _sum_up(band, i, array, out[i])
    return out


def _sum_up(band: Band, i: int, array: Float, out: Float) -> None:
    """Write output `i` along the first axis of (n_in, m), which are m values.

    A small sum: on a busy machine a loop of them is many times faster than a matrix product, whose
    threads wait for each other, and it gives the same bits whatever the number of threads.
    """
    first = int(band.first[i])
    taps = band.taps[i]
    np.einsum("k,km->m", taps, array[first : first + len(taps)], out=out)


def _resample_planes(array: npt.NDArray[Any], rows: Band, columns: Band, hu: HuRange) -> Float:
    """Resample every slice in its plane, slab by slab in two threads: (n, ny, nx) float32."""
    depth, n_rows, n_columns = array.shape
    ny, nx = len(rows.first), len(columns.first)
    out = np.empty((depth, ny, nx), dtype=np.float32)

    def work(low: int) -> None:
        slab = array[low : low + _SLAB]
        # Padding of -2000 or -3024 must not bleed into the body, so values are clipped first.
        clipped = np.clip(slab, hu.minimum, hu.maximum).transpose(1, 0, 2)
        by_row = _apply(rows, clipped.astype(np.float32, order="C").reshape(n_rows, -1))
        turned = _columns_first(by_row.reshape(ny, -1, n_columns))
        by_column = _apply(columns, turned.reshape(n_columns, -1))
        out[low : low + _SLAB] = by_column.reshape(nx, -1, ny).transpose(1, 2, 0)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(0, depth, _SLAB)))
    return out


def _columns_first(rows: Float) -> Float:
    """Copy (row, slice, column) to (column, slice, row).

    A few rows at a time: their cache lines are used up before they are dropped, which makes it many
    times as fast as numpy's own copy.
    """
    n_rows, n_slices, n_columns = rows.shape
    out = np.empty((n_columns, n_slices, n_rows), dtype=np.float32)
    for z in range(n_slices):
        for low in range(0, n_rows, _TURNED):
            out[:, z, low : low + _TURNED] = rows[low : low + _TURNED, z].T
    return out


def _resample_depth(planes: Float, band: Band) -> npt.NDArray[np.int16]:
    """Resample along the first axis and round, a part of all planes at a time."""
    flat = planes.reshape(len(planes), -1)
    out = np.empty((len(band.first), flat.shape[1]), dtype=np.int16)

    def work(low: int) -> None:
        part = flat[:, low : low + _COLUMN]
        values = np.empty(part.shape[1], dtype=np.float32)
        for i in range(len(out)):
            _sum_up(band, i, part, values)
            # Means of values within the HU range: rounded, they are within it, too.
            out[i, low : low + _COLUMN] = np.rint(values, out=values)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(0, flat.shape[1], _COLUMN)))
    return out.reshape(-1, *planes.shape[1:])


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
    # Two thirds of the grid's voxel: the interpolation that follows widens the kernel to about a
    # whole one.
    coarse_spacing = np.maximum(spacing, finest / 1.5)
    extent = np.asarray(volume.shape) * spacing
    coarse_shape = np.maximum(1, np.ceil(extent / coarse_spacing - 1e-3)).astype(int)
    coarse = _resample_aligned(
        volume.array,
        volume.spacing_mm,
        shape=(int(coarse_shape[0]), int(coarse_shape[1]), int(coarse_shape[2])),
        target=(float(coarse_spacing[0]), float(coarse_spacing[1]), float(coarse_spacing[2])),
        hu=hu,
    )
    # The image lives in index space; the transform leads from patient coordinates to indices, and
    # so may shear, which SimpleITK's own image direction may not.
    image = sitk.GetImageFromArray(coarse)
    steps = np.asarray(volume.direction) * coarse_spacing
    centre = volume.points_mm((np.asarray(volume.shape) - 1) / 2)
    to_index = np.linalg.inv(steps)[::-1]  # rows in the order x, y, z of SimpleITK
    offset = ((coarse_shape - 1) / 2)[::-1] - to_index @ centre
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_index.ravel().tolist())
    transform.SetTranslation(offset.tolist())
    # Half a voxel beyond the outermost centres is still scan: faces bound it, not centres.
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
