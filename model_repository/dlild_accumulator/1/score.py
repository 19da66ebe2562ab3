"""From a label map to volumes, zones and DL-ILD."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A slice belongs to the height of the lungs when it holds this much lung; less is a tip or a
# stray voxel.
SLICE_LUNG_MM2 = 100.0
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


def measure(
    labels: NDArray[np.uint8],
    *,
    lung: Sequence[bool],
    lesion: Sequence[bool],
    voxel_volume_mm3: float,
    axial_area_mm2: float,
) -> Score:
    """Measure a label map.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Class of each voxel; z runs to the head, x to the patient's left.
    lung, lesion : sequence of bool
        For each class, whether it counts as lung and as lesion.
    voxel_volume_mm3 : float
        Volume of one voxel, in mm3.
    axial_area_mm2 : float
        Area of one voxel in an axial slice, in mm2.

    Returns
    -------
    Score
    """
    counts = _count_table(labels, classes=len(lung))
    per_class = counts.sum(axis=(1, 2))
    lung_table = counts[np.flatnonzero(lung)].sum(axis=0)
    lesion_table = counts[np.flatnonzero(lesion)].sum(axis=0)
    lung_voxels = int(lung_table.sum())
    voxel_ml = voxel_volume_mm3 / 1000
    least_voxels = SLICE_LUNG_MM2 / axial_area_mm2
    zones = np.stack(
        [_zone_counts(table, lung_table, least_voxels) for table in (lung_table, lesion_table)],
        axis=1,
    )
    return Score(
        dl_ild_percent=(
            100.0 * int(lesion_table.sum()) / lung_voxels if lung_voxels else float("nan")
        ),
        class_volumes_ml=per_class * voxel_ml,
        zone_volumes_ml=zones * voxel_ml,
        labels=labels,
    )


def _count_table(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Voxels of each class by (class, z, x): all that volumes and zones need, in one pass."""
    depth, _, width = labels.shape
    table = np.zeros((classes, depth, width), dtype=np.int64)
    for z, axial in enumerate(labels):
        for label in range(1, classes):
            np.sum(axial == label, axis=0, dtype=np.int64, out=table[label, z])
    table[0] = labels.shape[1] - table[1:].sum(axis=0)
    return table


def _zone_counts(
    table: NDArray[np.int64], lung_table: NDArray[np.int64], least_voxels: float
) -> NDArray[np.float64]:
    """Voxels of a (z, x) table in the six zones."""
    thirds = _thirds(lung_table.sum(axis=1), least_voxels)
    right_share = _right_share(lung_table.sum(axis=0))
    right = table @ right_share
    left = table @ (1.0 - right_share)
    return np.array([side[thirds == third].sum() for side in (right, left) for third in range(3)])


def _thirds(lung_by_z: NDArray[np.int64], least_voxels: float) -> NDArray[np.int64]:
    """Third of each slice: 0 upper, 1 middle, 2 lower. Slices beyond the ends join the nearest."""
    inside = np.flatnonzero(lung_by_z >= least_voxels)
    if not inside.size:
        inside = np.flatnonzero(lung_by_z)
    if not inside.size:
        return np.zeros(lung_by_z.shape, dtype=np.int64)
    lowest, height = inside[0], inside[-1] - inside[0] + 1
    from_below = (np.arange(lung_by_z.size) - lowest) * 3 // height
    thirds: NDArray[np.int64] = 2 - np.clip(from_below, 0, 2)
    return thirds


def _right_share(lung_by_x: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each sagittal plane that lies on the patient's right of the midline.

    The midline is the plane of least lung in the central half of the lungs' extent, the one nearest
    the middle where several are equal. Its own voxels belong half to each side, so that turning the
    scan round swaps the sides exactly.
    """
    planes = np.flatnonzero(lung_by_x)
    if not planes.size:
        return np.zeros(lung_by_x.shape, dtype=np.float64)
    first, last = int(planes[0]), int(planes[-1])
    middle, quarter = (first + last) / 2, (last - first + 1) // 4
    central = np.arange(first + quarter, last - quarter + 1)
    least = central[lung_by_x[central] == lung_by_x[central].min()]
    distance = np.abs(least - middle)
    midline = least[distance == distance.min()].mean()
    share: NDArray[np.float64] = 0.5 * (1.0 - np.sign(np.arange(lung_by_x.size) - midline))
    return share
