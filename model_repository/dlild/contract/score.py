"""DL-ILD, the volumes it is made of, and the zones of the lungs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .schema import LabelClass

Number = float | np.number[Any]

ZONES = ("right_upper", "right_middle", "right_lower", "left_upper", "left_middle", "left_lower")
"""Zones in the order of `zone_volumes_ml`."""

SLICE_LUNG_MM2 = 100.0
"""A slice belongs to the height of the lungs when it holds this much lung; less is a tip."""
LEAST_SHARE = 0.01
"""Slices apart from the others are lungs when they hold this share of all lung."""


def dl_ild_percent(lesion: Number, lung: Number) -> float:
    """DL-ILD: 100 x (volume of all lesion classes) / (volume of all lung, lesions included).

    Parameters
    ----------
    lesion, lung : number
        Volumes, or counts of voxels of one size.

    Returns
    -------
    float
        NaN where there is no lung.
    """
    return float(100.0 * lesion / lung) if lung > 0 else float("nan")


def lesion_and_lung(amounts: Any, classes: Sequence[LabelClass]) -> tuple[Any, Any]:
    """Add up what counts as lesion, and what counts as lung.

    Parameters
    ----------
    amounts : sequence, shape (classes, ...)
        Volume or voxels of each class, in the order of its label.
    classes : sequence of LabelClass
        `Contract.classes`.

    Returns
    -------
    lesion, lung
        Of the type of `amounts`; lesions are lung too.
    """
    return (
        sum(amounts[c.label] for c in classes if c.lesion),
        sum(amounts[c.label] for c in classes if c.lung),
    )


def count_labels(
    labels: npt.NDArray[np.integer[Any]], classes: Sequence[LabelClass]
) -> npt.NDArray[np.int64]:
    """Voxels of each class of a label map.

    Parameters
    ----------
    labels : ndarray of int
        Label map.
    classes : sequence of LabelClass
        `Contract.classes`. Other labels are not counted.

    Returns
    -------
    ndarray of int64, shape (classes,)
    """
    # Class by class: `bincount` would first make eight bytes of each voxel.
    return np.array([np.count_nonzero(labels == c.label) for c in classes], dtype=np.int64)


def score_labels(labels: npt.NDArray[np.integer[Any]], classes: Sequence[LabelClass]) -> float:
    """DL-ILD of a label map, in percent; NaN where there is no lung.

    Parameters
    ----------
    labels : ndarray of int
        Label map.
    classes : sequence of LabelClass
        `Contract.classes`.
    """
    return dl_ild_percent(*lesion_and_lung(count_labels(labels, classes), classes))


def zone_counts(
    lung: npt.NDArray[np.int32], lesion: npt.NDArray[np.int32], least_voxels: float
) -> npt.NDArray[np.float64]:
    """Voxels of lung and of lesion in the six zones.

    Zones are thirds of the height of the lungs, on both sides of the midline: the sagittal plane of
    least lung in the central half of their width, whose own voxels belong half to each side.

    Parameters
    ----------
    lung, lesion : ndarray of int32, shape (z, x)
        Voxels in each column along y; z runs to the head, x to the patient's left.
    least_voxels : float
        Lung of a slice that belongs to the height of the lungs: `SLICE_LUNG_MM2`.

    Returns
    -------
    ndarray of float64, shape (6, 2)
        Lung and lesion of each zone, in the order of `ZONES`.
    """
    thirds, right_halves = zone_planes(lung, least_voxels)
    counts = np.empty((len(ZONES), 2))
    for column, table in enumerate((lung, lesion)):
        # No matrix product: BLAS would keep a processor spinning for 40 ms or more, for want of
        # work.
        right = (table * right_halves).sum(axis=1) / 2
        left = (table * (2 - right_halves)).sum(axis=1) / 2
        counts[:, column] = [
            side[thirds == third].sum() for side in (right, left) for third in range(3)
        ]
    return counts


def zone_planes(
    lung: npt.NDArray[np.integer[Any]], least_voxels: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Divide the lungs into zones: by axial slice, and by sagittal plane.

    Parameters
    ----------
    lung, least_voxels
        As of `zone_counts`.

    Returns
    -------
    thirds : ndarray of int, shape (z,)
        0 upper, 1 middle, 2 lower.
    right_halves : ndarray of int, shape (x,)
        Halves of the plane's voxels, 0 to 2, that belong to the right side.
    """
    return _thirds(lung.sum(axis=1), least_voxels), _right_halves(lung.sum(axis=0))


def _thirds(lung_by_z: npt.NDArray[np.int64], least_voxels: float) -> npt.NDArray[np.int64]:
    """Third of each slice: 0 upper, 1 middle, 2 lower. Slices beyond the ends join the nearest.

    What lies apart from the lungs, above or below, and is hardly any of them (a trachea or bowel
    gas labelled as lung) does not move the ends.
    """
    inside = _connected_lungs(np.flatnonzero(lung_by_z >= least_voxels), lung_by_z)
    if not inside.size:
        inside = np.flatnonzero(lung_by_z)
    if not inside.size:
        return np.zeros(lung_by_z.shape, dtype=np.int64)
    lowest, height = inside[0], inside[-1] - inside[0] + 1
    from_below = (np.arange(lung_by_z.size) - lowest) * 3 // height
    thirds: npt.NDArray[np.int64] = 2 - np.clip(from_below, 0, 2)
    return thirds


def _connected_lungs(
    inside: npt.NDArray[np.intp], lung_by_z: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Slices of those runs that hold at least `LEAST_SHARE` of the lung."""
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    least = LEAST_SHARE * lung_by_z.sum()
    large = [run for run in runs if lung_by_z[run].sum() >= least]
    return np.concatenate(large) if large else inside


def _right_halves(lung_by_x: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Halves of each sagittal plane, 0 to 2, that lie on the patient's right of the midline.

    Where several planes have the least lung, the one nearest the middle is the midline. That its
    own voxels belong half to each side makes turning the scan round swap the sides exactly.
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
    beside: npt.NDArray[np.float64] = np.sign(np.arange(lung_by_x.size) - midline)
    return 1 - beside.astype(np.int32)
