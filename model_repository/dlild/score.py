"""From a label map, counted slice by slice, to volumes, zones and DL-ILD."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.schema import LabelClass
from contract.score import SLICE_LUNG_MM2, dl_ild_percent, lesion_and_lung, zone_counts


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
        Lung and lesion mL of each zone, in the order of ``contract.score.ZONES``.
    class_certainty : ndarray of float64, shape (classes,)
        Of each lesion class, the mean over its voxels of its share of all lesion classes, from
        1 / lesion classes to 1; NaN where it has no voxel, and for the other classes.
    labels : ndarray of uint8, shape (z, y, x)
        Label map of the box.
    """

    dl_ild_percent: float
    class_volumes_ml: NDArray[np.float64]
    zone_volumes_ml: NDArray[np.float64]
    class_certainty: NDArray[np.float64]
    labels: NDArray[np.uint8]


class Counts:
    """Voxels of a label map, counted slice by slice: all that volumes and zones need.

    Parameters
    ----------
    shape : tuple of int
        Shape of the label map (z, y, x), in voxels.
    classes : sequence of LabelClass
        Classes of the contract, in the order of their labels.

    Attributes
    ----------
    voxels : ndarray of int64, shape (classes,)
        Voxels of each class.
    certainty : ndarray of float64, shape (classes,)
        Sums over voxels, as of `label_voxels`.
    lung, lesion : ndarray of int32, shape (z, x)
        Voxels of lung and of lesion in each column along y.
    """

    def __init__(self, shape: tuple[int, int, int], classes: Sequence[LabelClass]) -> None:
        depth, _, width = shape
        self.classes = tuple(classes)
        self.voxels = np.zeros(len(self.classes), dtype=np.int64)
        self.certainty = np.zeros(len(self.classes))
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
        return classes * 16 + 2 * depth * width * 4

    def add(self, z: int, labels: NDArray[np.uint8], certainty: NDArray[np.float64]) -> None:
        """Count a slice.

        Parameters
        ----------
        z : int
            Its index; each slice is counted once.
        labels : ndarray of uint8, shape (y, x)
            Class of each voxel.
        certainty : ndarray of float64, shape (classes,)
            Of the slice, as of `label_voxels`.
        """
        self.certainty += certainty
        lung, lesion = np.zeros((2, *labels.shape), dtype=np.bool_)
        for kind in self.classes:
            here = labels == kind.label
            self.voxels[kind.label] += np.count_nonzero(here)
            if kind.lung:
                lung |= here
            if kind.lesion:
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
    voxel_ml = voxel_volume_mm3 / 1000
    zones = zone_counts(counts.lung, counts.lesion, SLICE_LUNG_MM2 / axial_area_mm2)
    lesions = np.array([kind.lesion for kind in counts.classes])
    certainty = np.full(len(lesions), np.nan)
    np.divide(counts.certainty, counts.voxels, out=certainty, where=lesions & (counts.voxels > 0))
    return Score(
        dl_ild_percent=dl_ild_percent(*lesion_and_lung(counts.voxels, counts.classes)),
        class_volumes_ml=counts.voxels * np.float64(voxel_ml),
        zone_volumes_ml=zones * voxel_ml,
        class_certainty=certainty,
        labels=labels,
    )
