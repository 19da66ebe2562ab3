"""From a label map to volumes, zones and DL-ILD."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A slice belongs to the height of the lungs when it holds this much lung; less is a tip or a
# stray voxel.
SLICE_LUNG_MM2 = 100.0
# Runs of slices apart from the others are lungs when they hold this share of all lung.
LEAST_SHARE = 0.01
ZONES = (
    "right_upper",
    "right_middle",
    "right_lower",
    "left_upper",
    "left_middle",
    "left_lower",
)


@dataclass(frozen=True)
class Score:
    """What a complete scan answers.

    Attributes
    ----------
    dl_ild_percent : float
        100 x lesion volume / lung volume, lesions included; NaN where there is no lung.
    class_volumes_ml : ndarray of float64, shape (classes,)
        Volume of each class, in mL.
    zone_volumes_ml : ndarray of float64, shape (6, 2)
        Lung and lesion mL of each zone, in the order of ``ZONES``.
    labels : ndarray of uint8, shape (z, y, x)
        Label map of the box.
    """

    dl_ild_percent: float
    class_volumes_ml: NDArray[np.float64]
    zone_volumes_ml: NDArray[np.float64]
    labels: NDArray[np.uint8]


class Counts:
    """Voxels of a label map, counted slice by slice: all that volumes and zones need.

    Parameters
    ----------
    shape : tuple of int
        Shape of the label map (z, y, x), in voxels.
    lung, lesion : sequence of bool
        For each class, whether it counts as lung and as lesion.

    Attributes
    ----------
    classes : ndarray of int64, shape (classes,)
        Voxels of each class.
    lung, lesion : ndarray of int32, shape (z, x)
        Voxels of lung and of lesion in each column along y.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, lung: Sequence[bool], lesion: Sequence[bool]
    ) -> None:
        depth, _, width = shape
        self._counted_as = tuple(zip(lung, lesion, strict=True))
        self.classes = np.zeros(len(self._counted_as), dtype=np.int64)
        self.lung = np.zeros((depth, width), dtype=np.int32)
        self.lesion = np.zeros((depth, width), dtype=np.int32)

    @staticmethod
    def bytes_needed(shape: tuple[int, int, int], classes: int) -> int:
        """Bytes that the counts of a label map take.

        Parameters
        ----------
        shape : tuple of int
            Shape of the label map (z, y, x), in voxels.
        classes : int
            Number of classes.

        Returns
        -------
        int
        """
        depth, _, width = shape
        return classes * 8 + 2 * depth * width * 4

    def add(self, z: int, labels: NDArray[np.uint8]) -> None:
        """Count a slice.

        Parameters
        ----------
        z : int
            Its place; each slice is counted once.
        labels : ndarray of uint8, shape (y, x)
            Class of each voxel.
        """
        lung, lesion = np.zeros((2, *labels.shape), dtype=np.bool_)
        for label, (is_lung, is_lesion) in enumerate(self._counted_as):
            here = labels == label
            self.classes[label] += np.count_nonzero(here)
            if is_lung:
                lung |= here
            if is_lesion:
                lesion |= here
        self.lung[z] = lung.sum(axis=0, dtype=np.int32)
        self.lesion[z] = lesion.sum(axis=0, dtype=np.int32)


def measure(
    counts: Counts,
    labels: NDArray[np.uint8],
    *,
    voxel_volume_mm3: float,
    axial_area_mm2: float,
) -> Score:
    """Measure a label map whose slices have all been counted.

    Parameters
    ----------
    counts : Counts
        Of all slices of the label map.
    labels : ndarray of uint8, shape (z, y, x)
        Class of each voxel; z runs to the head, x to the patient's left. Handed on as it is.
    voxel_volume_mm3 : float
        Volume of one voxel, in mm3.
    axial_area_mm2 : float
        Area of one voxel in an axial slice, in mm2.

    Returns
    -------
    Score
    """
    lung_voxels = int(counts.lung.sum(dtype=np.int64))
    lesion_voxels = int(counts.lesion.sum(dtype=np.int64))
    voxel_ml = voxel_volume_mm3 / 1000
    least_voxels = SLICE_LUNG_MM2 / axial_area_mm2
    zones = np.stack(
        [_zone_counts(table, counts.lung, least_voxels) for table in (counts.lung, counts.lesion)],
        axis=1,
    )
    return Score(
        dl_ild_percent=100.0 * lesion_voxels / lung_voxels if lung_voxels else float("nan"),
        class_volumes_ml=counts.classes * np.float64(voxel_ml),
        zone_volumes_ml=zones * voxel_ml,
        labels=labels,
    )


def _zone_counts(
    table: NDArray[np.int32], lung_table: NDArray[np.int32], least_voxels: float
) -> NDArray[np.float64]:
    """Voxels of a (z, x) table in the six zones."""
    thirds = _thirds(lung_table.sum(axis=1), least_voxels)
    right_halves = _right_halves(lung_table.sum(axis=0))
    # No matrix product: BLAS would keep a processor spinning for 40 ms or more, for want of work.
    right = (table * right_halves).sum(axis=1) / 2
    left = (table * (2 - right_halves)).sum(axis=1) / 2
    return np.array([side[thirds == third].sum() for side in (right, left) for third in range(3)])


def _lungs_alone(inside: NDArray[np.intp], lung_by_z: NDArray[np.int64]) -> NDArray[np.intp]:
    """Slices of those runs that hold at least `LEAST_SHARE` of the lung."""
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    least = LEAST_SHARE * lung_by_z.sum()
    large = [run for run in runs if lung_by_z[run].sum() >= least]
    return np.concatenate(large) if large else inside


def _thirds(lung_by_z: NDArray[np.int64], least_voxels: float) -> NDArray[np.int64]:
    """Third of each slice: 0 upper, 1 middle, 2 lower. Slices beyond the ends join the nearest.

    What lies apart from the lungs, above or below, and is hardly any of them (a windpipe or gas in
    the bowel that passed for lung) does not move the ends.
    """
    inside = _lungs_alone(np.flatnonzero(lung_by_z >= least_voxels), lung_by_z)
    if not inside.size:
        inside = np.flatnonzero(lung_by_z)
    if not inside.size:
        return np.zeros(lung_by_z.shape, dtype=np.int64)
    lowest, height = inside[0], inside[-1] - inside[0] + 1
    from_below = (np.arange(lung_by_z.size) - lowest) * 3 // height
    thirds: NDArray[np.int64] = 2 - np.clip(from_below, 0, 2)
    return thirds


def _right_halves(lung_by_x: NDArray[np.int64]) -> NDArray[np.int32]:
    """Halves of each sagittal plane, 0 to 2, that lie on the patient's right of the midline.

    The midline is the plane of least lung in the central half of the lungs' extent, the one nearest
    the middle where several are equal. Its own voxels belong half to each side, so that turning the
    scan round swaps the sides exactly.
    """
    planes = np.flatnonzero(lung_by_x)
    if not planes.size:
        return np.zeros(lung_by_x.shape, dtype=np.int32)
    first, last = int(planes[0]), int(planes[-1])
    middle, quarter = (first + last) / 2, (last - first + 1) // 4
    central = np.arange(first + quarter, last - quarter + 1)
    least = central[lung_by_x[central] == lung_by_x[central].min()]
    distance = np.abs(least - middle)
    midline = least[distance == distance.min()].mean()
    beside: NDArray[np.float64] = np.sign(np.arange(lung_by_x.size) - midline)
    return 1 - beside.astype(np.int32)
