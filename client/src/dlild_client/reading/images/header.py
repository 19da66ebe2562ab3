"""Header of an image file, in common terms for NIfTI, NRRD and MetaImage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import MissingGeometryError, NotCTError, NotHUError
from dlild_client.flags import Flag
from dlild_client.reading.images.voxeldata import VoxelData
from dlild_client.volume import Triple

Array = npt.NDArray[np.float64]

UNITS_MM: Mapping[str, float] = {
    "": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0,
    "millimetres": 1.0, "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "centimetre": 10.0,
    "centimetres": 10.0, "m": 1000.0, "meter": 1000.0, "meters": 1000.0, "metre": 1000.0,
    "metres": 1000.0, "um": 0.001, "µm": 0.001, "μm": 0.001, "\udcb5m": 0.001, "micron": 0.001,
    "microns": 0.001,
    "micrometer": 0.001, "micrometers": 0.001, "micrometre": 0.001, "micrometres": 0.001,
    "nm": 1e-6, "in": 25.4, "inch": 25.4, "inches": 25.4, "?": 1.0, "???": 1.0,
}  # fmt: skip
"""Units of length in mm, as spelled in headers, also in Latin-1; unspecified means mm."""

FLAGGED_SHEAR_DEG = 0.2


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """Header of a grey 3D image.

    Attributes
    ----------
    shape : tuple of int
        Voxels along (z, y, x): the slowest axis of the file first.
    dtype : dtype
        Of the stored values, with byte order.
    affine : ndarray, shape (3, 4)
        Columns are the steps (x, y, z; LPS; mm) of the axes x, y, z, and the centre of the first
        voxel.
    data : VoxelData
    slope, intercept : float
        HU are ``stored * slope + intercept``.
    flags : tuple of Flag
        Doubts from the header.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    affine: Array
    data: VoxelData
    slope: float = 1.0
    intercept: float = 0.0
    flags: tuple[Flag, ...] = ()

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def spacing_mm(self) -> Triple:
        """Distance between voxel centres along (z, y, x)."""
        x, y, z = np.linalg.norm(self.affine[:, :3], axis=0).tolist()
        return z, y, x

    @property
    def origin_mm(self) -> Triple:
        """Centre of the first voxel."""
        x, y, z = self.affine[:, 3].tolist()
        return x, y, z

    @property
    def direction(self) -> Array:
        """Columns are the unit vectors of the axes z, y, x."""
        steps = self.affine[:, :3]
        return np.asarray((steps / np.linalg.norm(steps, axis=0))[:, ::-1])


def check_affine(path: Path, affine: Array, source: str) -> None:
    """Raise `MissingGeometryError` where an affine is not a valid geometry.

    Parameters
    ----------
    path : Path
    affine : ndarray, shape (3, 4)
    source : str
        Its origin, for the message: `sform`, `space directions`.
    """
    fault = affine_fault(affine)
    if fault:
        raise MissingGeometryError(
            f"{path.name}: its {source} {fault}, so that the position of its voxels is unknown; "
            "convert it again from DICOM"
        )


def affine_fault(affine: Array) -> str:
    """Fault of an affine as a phrase; empty for a valid one."""
    if not np.all(np.isfinite(affine[:, :3])):
        return "holds numbers that are none (NaN or infinite)"
    if not np.all(np.isfinite(affine[:, 3])):
        return f"has an origin that is no position {tuple(affine[:, 3].tolist())}"
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    if not affine[:, :3].any():
        return "is zero"
    if np.any(lengths == 0):
        return f"has an axis of zero length (spacing {spacing_text(affine)})"
    if abs(np.linalg.det(affine[:, :3] / lengths)) < 0.2:
        return "has axes that lie in one plane"
    return ""


def shear_deg(affine: Array) -> float:
    """Largest deviation from a right angle between two axes."""
    steps = affine[:, :3] / np.linalg.norm(affine[:, :3], axis=0)
    cosines = np.abs(steps.T @ steps - np.diag(np.sum(steps**2, axis=0)))
    return float(np.degrees(np.arcsin(min(1.0, cosines.max()))))


def shear_flags(affine: Array) -> list[Flag]:
    """Flag sheared axes, from a tilted gantry, as for a DICOM series."""
    shear = shear_deg(affine)
    return [Flag("gantry_tilt_corrected", tilt_deg=shear)] if shear > FLAGGED_SHEAR_DEG else []


def spacing_text(affine: Array) -> str:
    """Format the spacing (x, y, z) of an affine."""
    return numbers_text(np.linalg.norm(affine[:, :3], axis=0))


def numbers_text(values: Iterable[float]) -> str:
    """Format lengths in mm."""
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def unit_flags(affine: Array) -> tuple[Flag, ...]:
    """Flag a spacing of exactly 1 x 1 x 1 mm: the default of software that knows none."""
    if np.all(np.linalg.norm(affine[:, :3], axis=0) == 1):
        return (Flag("spacing_doubtful", x_mm=1.0, y_mm=1.0, z_mm=1.0),)
    return ()


def grey_shape(
    path: Path, sizes: Sequence[int], components: int = 1, axes: int | None = None
) -> tuple[int, int, int]:
    """Shape (z, y, x) of one grey 3D image.

    Parameters
    ----------
    path : Path
    sizes : sequence of int
        Voxels along x, y, z and further axes, which must have length 1.
    components : int
        Values per voxel.
    axes : int, optional
        Number of dimensions for the message, where it differs from that of `sizes`.

    Raises
    ------
    NotCTError
        Not one grey 3D image.
    """
    if len(sizes) < 3 or any(n != 1 for n in sizes[3:]) or components != 1 or min(sizes) < 1:
        raise NotCTError(
            f"{path.name}: {axes or len(sizes)} dimensions ({' x '.join(map(str, sizes))}) with "
            f"{components} value(s) a voxel, not one grey 3D image; give a chest CT"
        )
    x, y, z = sizes[:3]
    return z, y, x


def check_scale(path: Path, slope: float, intercept: float, names: str) -> None:
    """Raise `NotHUError` where slope or intercept is not finite."""
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise NotHUError(
            f"{path.name}: its {names} are {slope:g} and {intercept:g}, so that its values cannot "
            "be turned into HU; convert it again from DICOM"
        )
