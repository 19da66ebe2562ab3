"""The slices where a prediction is furthest from the truth: few enough to keep those of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_export.data.crop import box_of
from dlild_export.data.labels import IGNORE
from dlild_export.evaluation.metrics import Labels, Mask

_MARGIN = 8  # voxels round the lungs


@dataclass(frozen=True, eq=False)
class View:
    """One slice: CT, truth and prediction, as a radiologist looks at it.

    Attributes
    ----------
    plane : str
        `axial` or `coronal`.
    index : int
        Slice of the grid, along z or y.
    hu : ndarray of int16, shape (rows, columns)
        The patient's right is on the left; the head, or the front, is above.
    truth : ndarray of uint8, shape (rows, columns), or None
        Labels; None where there are none.
    predicted : ndarray of uint8, shape (rows, columns)
    pixel_mm : tuple of float
        Height and width of a pixel.
    """

    plane: str
    index: int
    hu: npt.NDArray[np.int16]
    truth: Labels | None
    predicted: Labels
    pixel_mm: tuple[float, float]


def worst_views(
    hu: npt.NDArray[np.int16],
    truth: Labels | None,
    predicted: Labels,
    contract: Contract,
    spacing_mm: tuple[float, float, float],
) -> tuple[View, ...]:
    """Cut the axial and the coronal slice with most voxels wrong.

    Lesion where there is none, or none where there is, counts most; then lung; then a lesion of
    another class. Without a truth, the slices with most lesion are cut; without any lesion, those
    with most lung.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        On the grid: z to the head, y to the back, x to the patient's left.
    truth, predicted : ndarray of uint8, shape (z, y, x)
        Labels; `truth` is None where there is none.
    contract : Contract
    spacing_mm : tuple of float
        Of the voxels (z, y, x).

    Returns
    -------
    tuple of View
    """
    weight = _wrong(truth, predicted, contract)
    lungs = predicted > 0 if truth is None else (predicted > 0) | ((truth > 0) & (truth != IGNORE))
    box = box_of(lungs, _MARGIN) if lungs.any() else tuple(slice(0, n) for n in hu.shape)
    views = []
    for plane, axis in (("axial", 0), ("coronal", 1)):
        others = tuple(a for a in range(3) if a != axis)
        index = int(np.argmax(weight.sum(axis=others, dtype=np.int64)))
        region: list[slice | int] = list(box)
        region[axis] = index
        # z grows to the head, which belongs at the top.
        rows = slice(None, None, -1 if plane == "coronal" else 1)
        cut = tuple(region)
        height, width = (spacing_mm[a] for a in others)
        views.append(
            View(
                plane=plane,
                index=index,
                hu=hu[cut][rows].copy(),
                truth=None if truth is None else truth[cut][rows].copy(),
                predicted=predicted[cut][rows].copy(),
                pixel_mm=(height, width),
            )
        )
    return tuple(views)


def _wrong(truth: Labels | None, predicted: Labels, contract: Contract) -> npt.NDArray[np.uint8]:
    """How much each voxel weighs in the choice of a slice."""
    lesion, lung = (
        _is(predicted, group) for group in (contract.lesion_labels, contract.lung_labels)
    )
    if truth is None:
        return lesion.astype(np.uint8) if lesion.any() else lung.astype(np.uint8)
    known = truth != IGNORE
    weight: Labels = 4 * ((lesion != _is(truth, contract.lesion_labels)) & known).astype(np.uint8)
    weight += 2 * ((lung != _is(truth, contract.lung_labels)) & known).astype(np.uint8)
    weight += ((predicted != truth) & known).astype(np.uint8)
    return weight


def _is(labels: Labels, group: tuple[int, ...]) -> Mask:
    found: Mask = np.isin(labels, group)
    return found
