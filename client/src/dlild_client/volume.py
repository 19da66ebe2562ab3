"""A volume: voxels that carry their geometry and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError

AIR_HU = -1024
"""HU of voxels outside the field of view: what padding becomes when a scan is read."""

LPS_GRID = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Direction of the model grid: axis z to the head, y to the back, x to the patient's left."""

Triple = tuple[float, float, float]
Matrix = tuple[Triple, Triple, Triple]


@dataclass(frozen=True)
class SeriesInfo:
    """Where a volume comes from, without anything that names a patient.

    Attributes
    ----------
    source : str
        `dicom`, `image` or `array`.
    modality, manufacturer, kernel : str or None
        As the scanner wrote them.
    slice_thickness_mm, slice_step_mm : float or None
        Nominal thickness, and the measured distance between neighbouring slices.
    slices : int or None
        Number of slices that make the volume.
    image_shape : tuple of int or None
        (rows, columns).
    digest : str or None
        `sha256:…` over HU and geometry: tells scans apart, leads to no patient.
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

    The centre of voxel `i` lies at ``origin_mm + direction @ (i * spacing_mm)``.

    Attributes
    ----------
    array : ndarray, shape (z, y, x)
        HU, or labels. Of a scan that was read and is too large to be held, `slabs.Slabs` that read
        it again; ``np.asarray`` makes an array of them.
    spacing_mm : tuple of float
        Distance between voxel centres along the axes (z, y, x).
    origin_mm : tuple of float
        Patient coordinates (x, y, z) of DICOM (LPS) of the centre of voxel (0, 0, 0).
    direction : 3 x 3 tuple of float
        Columns are the unit vectors, in patient coordinates, of the axes z, y, x. A tilted gantry
        makes columns that are not orthogonal.
    series : SeriesInfo
        Provenance, without patient identity.
    flags : tuple of str
        Doubts met on the way here; they end in the result.

    Raises
    ------
    GeometryError
        The array has not three axes or is empty; spacing is not positive and finite; a direction is
        no unit vector; directions lie in one plane.
    """

    array: npt.NDArray[Any]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: Matrix = LPS_GRID
    series: SeriesInfo = field(default_factory=SeriesInfo)
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the invariants and turn the geometry into plain tuples of float."""
        spacing = np.asarray(self.spacing_mm, dtype=float)
        origin = np.asarray(self.origin_mm, dtype=float)
        direction = np.asarray(self.direction, dtype=float)
        _check(self.array, spacing, origin, direction)
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
        """Patient coordinates of voxels.

        Parameters
        ----------
        indices : array_like, shape (..., 3)
            Voxel indices (z, y, x), whole or not.

        Returns
        -------
        ndarray, shape (..., 3)
            (x, y, z) in mm, LPS.
        """
        steps = np.asarray(self.direction) * np.asarray(self.spacing_mm)
        points = np.asarray(indices, dtype=float) @ steps.T + np.asarray(self.origin_mm)
        return np.asarray(points, dtype=np.float64)

    def with_array(self, array: npt.NDArray[Any]) -> Volume:
        """Make a volume of the same geometry that holds another array of the same shape."""
        if array.shape != self.array.shape:
            raise GeometryError(f"an array of {array.shape} does not fit a volume of {self.shape}")
        return replace(self, array=array)


def as_matrix(values: npt.ArrayLike) -> Matrix:
    """Turn a 3 x 3 array into the tuples of `Volume.direction`."""
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
