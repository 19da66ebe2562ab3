"""Volume: voxels with their geometry and provenance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError
from dlild_client.source import SourceSeries

AIR_HU = -1024
"""HU of voxels outside the field of view: padding is set to it when a scan is read."""

LPS_GRID = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Direction of the model grid: axis z to the head, y to the back, x to the patient's left."""

Triple = tuple[float, float, float]
Matrix = tuple[Triple, Triple, Triple]


@dataclass(frozen=True)
class SeriesInfo:
    """Provenance of a volume, without anything that identifies a patient.

    Attributes
    ----------
    source : str
        `dicom`, `image` or `array`.
    modality, manufacturer, kernel : str or None
        As in the header.
    slice_thickness_mm, slice_step_mm : float or None
        Nominal thickness, and the measured distance between neighbouring slices; its mean where the
        steps differ.
    slices : int or None
        Number of slices that make the volume.
    image_shape : tuple of int or None
        (rows, columns).
    digest : str or None
        `sha256:…` over HU and geometry: distinguishes scans, identifies no patient.
    series_found : int or None
        Number of series in the folder; those not scored were set aside.
    """

    source: str = "array"
    modality: str | None = None
    manufacturer: str | None = None
    kernel: str | None = None
    slice_thickness_mm: float | None = None
    slice_step_mm: float | None = None
    slices: int | None = None
    image_shape: tuple[int, int] | None = None
    digest: str | None = None
    series_found: int | None = None


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry; axes are (z, y, x), that is slice, row, column.

    The centre of voxel `i` lies at ``origin_mm + direction @ (i * spacing_mm)``, unless
    `slice_positions_mm` says how far along axis z its slice lies.

    Attributes
    ----------
    array : ndarray, shape (z, y, x)
        HU, or labels. A scan too large for memory has a lazy `slabs.Slabs`; ``np.asarray`` reads
        it whole.
    spacing_mm : tuple of float
        Distance between voxel centres along the axes (z, y, x). The mean along z where the slices
        are not evenly spaced.
    origin_mm : tuple of float
        Patient coordinates (x, y, z) of DICOM (LPS) of the centre of voxel (0, 0, 0).
    direction : 3 x 3 tuple of float
        Columns are the unit vectors, in patient coordinates, of the axes z, y, x. A tilted gantry
        makes columns that are not orthogonal.
    series : SeriesInfo
        Provenance, without patient identity.
    flags : tuple of str
        Doubts found so far; they are part of the result.
    slice_positions_mm : tuple of float or None
        Where the slices are not evenly spaced: distance of each from the first, along axis z. None
        for even steps of ``spacing_mm[0]``.
    slice_thicknesses_mm : tuple of float or None
        Nominal thickness of each slice, where known: distinguishes thick slices from thin ones
        with gaps between them.
    source : SourceSeries or None
        Headers of the DICOM series, **which identify the patient**: only where they were asked for.

    Raises
    ------
    GeometryError
        The array is empty or has not three axes; spacing is not positive and finite; a direction
        is no unit vector; directions are coplanar; slices and their positions do not match.
    """

    array: npt.NDArray[Any]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: Matrix = LPS_GRID
    series: SeriesInfo = field(default_factory=SeriesInfo)
    flags: tuple[str, ...] = ()
    slice_positions_mm: tuple[float, ...] | None = None
    slice_thicknesses_mm: tuple[float, ...] | None = None
    source: SourceSeries | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the invariants, and convert the geometry to plain tuples of float."""
        spacing = np.asarray(self.spacing_mm, dtype=float)
        origin = np.asarray(self.origin_mm, dtype=float)
        direction = np.asarray(self.direction, dtype=float)
        _check(self.array, spacing, origin, direction)
        _check_slices(len(self.array), self.slice_positions_mm, self.slice_thicknesses_mm)
        object.__setattr__(self, "spacing_mm", tuple(spacing.tolist()))
        object.__setattr__(self, "origin_mm", tuple(origin.tolist()))
        object.__setattr__(self, "direction", as_matrix(direction))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        z, y, x = self.array.shape
        return z, y, x

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³, also where the axes are not orthogonal."""
        return float(np.prod(self.spacing_mm) * abs(np.linalg.det(np.asarray(self.direction))))

    def points_mm(self, indices: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert voxel indices to patient coordinates.

        Parameters
        ----------
        indices : array_like, shape (..., 3)
            Voxel indices (z, y, x), fractional ones included.

        Returns
        -------
        ndarray, shape (..., 3)
            (x, y, z) in mm, LPS.
        """
        steps = np.asarray(self.direction) * np.asarray(self.spacing_mm)
        located = np.asarray(indices, dtype=float)
        if self.slice_positions_mm is not None:
            located = located.copy()
            located[..., 0] = self._positions_mm(located[..., 0]) / self.spacing_mm[0]
        points = located @ steps.T + np.asarray(self.origin_mm)
        return np.asarray(points, dtype=np.float64)

    def slice_indices(self, positions_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Convert distances from the first slice along axis z to fractional slice indices.

        Parameters
        ----------
        positions_mm : array_like
            Beyond the ends, extrapolated with the outermost steps.

        Returns
        -------
        ndarray of the same shape
        """
        along = np.asarray(positions_mm, dtype=np.float64)
        if self.slice_positions_mm is None:
            return along / self.spacing_mm[0]
        known = np.array(self.slice_positions_mm)
        return _interpolate(along, known, np.arange(len(known), dtype=np.float64))

    def _positions_mm(self, indices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Convert indices along axis z to distances from the first slice."""
        known = np.array(self.slice_positions_mm)
        return _interpolate(indices, np.arange(len(known), dtype=np.float64), known)

    def with_array(self, array: npt.NDArray[Any]) -> Volume:
        """Return a volume of the same geometry with another array of the same shape."""
        if array.shape != self.array.shape:
            raise GeometryError(f"an array of {array.shape} does not fit a volume of {self.shape}")
        return replace(self, array=array)


def _interpolate(
    at: npt.NDArray[np.float64], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Interpolate linearly; extrapolate with the outermost steps."""
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    return np.asarray(y[i] + (at - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i]), np.float64)


def as_matrix(values: npt.ArrayLike) -> Matrix:
    """Convert a 3 x 3 array to the tuples of `Volume.direction`."""
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(values, dtype=float).tolist()
    return (a, b, c), (d, e, f), (g, h, i)


def _check(
    array: npt.NDArray[Any],
    spacing: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    direction: npt.NDArray[np.float64],
) -> None:
    if array.ndim != 3 or array.size == 0:
        raise GeometryError(
            f"a volume has three axes and at least one voxel, not shape {array.shape}"
        )
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise GeometryError(f"the spacing {spacing.tolist()} mm is not three positive numbers")
    if origin.shape != (3,) or not np.all(np.isfinite(origin)):
        raise GeometryError(f"the origin {origin.tolist()} mm is not three numbers")
    if direction.shape != (3, 3) or not np.all(np.isfinite(direction)):
        raise GeometryError("the direction is not a 3 x 3 matrix of numbers")
    if np.any(np.abs(np.linalg.norm(direction, axis=0) - 1) > 1e-3):
        raise GeometryError(
            f"the direction {direction.tolist()} has a column that is no unit vector"
        )
    if abs(np.linalg.det(direction)) < 0.2:
        raise GeometryError(f"the direction {direction.tolist()} does not span three dimensions")


def _check_slices(
    count: int, positions_mm: tuple[float, ...] | None, thicknesses_mm: tuple[float, ...] | None
) -> None:
    for name, values in (("positions", positions_mm), ("thicknesses", thicknesses_mm)):
        if values is not None and len(values) != count:
            raise GeometryError(f"{len(values)} {name} do not fit a volume of {count} slices")
    if positions_mm is not None and (
        count < 2 or positions_mm[0] != 0 or not np.all(np.diff(positions_mm) > 0)
    ):
        raise GeometryError("the positions of the slices do not ascend from 0 mm")
    if thicknesses_mm is not None and not all(np.isfinite(t) and t > 0 for t in thicknesses_mm):
        raise GeometryError("the thicknesses of the slices are not positive numbers")
