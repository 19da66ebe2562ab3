"""How far a label map is from the truth: Dice, surface Dice, volumes and DL-ILD of one case.

A *region* is a class of the contract, or one of the two unions that the score is made of:
`all_lung` and `all_lesions`.

Voxels whose truth is `IGNORE` count nowhere: not in Dice, not in volumes, not in DL-ILD, and no
surface runs along them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dlild_client.contract import Contract
from dlild_client.contract.score import dl_ild_percent, lesion_and_lung
from dlild_export.data.crop import box_of
from dlild_export.data.labels import IGNORE

ALL_LUNG, ALL_LESIONS = "all_lung", "all_lesions"

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RegionScore:
    """Agreement on one region of one case.

    Attributes
    ----------
    dice : float
        NaN where the truth holds no such region: `predicted_ml` is false then, and says how much.
    surface_dice : float
        Normalised surface Dice, NaN where the truth holds no such region.
    truth_ml, predicted_ml : float
        Volumes.
    """

    dice: float
    surface_dice: float
    truth_ml: float
    predicted_ml: float

    @property
    def error_ml(self) -> float:
        """Predicted minus true volume."""
        return self.predicted_ml - self.truth_ml


@dataclass(frozen=True)
class Agreement:
    """Agreement on one case: DL-ILD in percent, and every region by its name."""

    true_percent: float
    dl_ild_percent: float
    regions: Mapping[str, RegionScore]


def regions_of(contract: Contract) -> dict[str, tuple[int, ...]]:
    """Return the labels of every region: both unions, then the classes that are lung."""
    classes = {c.name: (c.label,) for c in contract.classes if c.lung}
    return {ALL_LUNG: contract.lung_labels, ALL_LESIONS: contract.lesion_labels} | classes


def compare(
    truth: Labels,
    predicted: Labels,
    contract: Contract,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = 2.0,
) -> Agreement:
    """Compare a label map with the truth.

    Parameters
    ----------
    truth, predicted : ndarray of uint8, shape (z, y, x)
        Labels of the contract; `IGNORE` in the truth where it is not known.
    contract : Contract
        Which classes count as lung and as lesion.
    spacing_mm : tuple of float
        Of the voxels (z, y, x).
    tolerance_mm : float
        Distance of two surfaces that still counts as agreement.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        The shapes differ, a label is not one of the contract, or no lung is in the truth.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {predicted.shape}")
    counts = count_pairs(truth, predicted, len(contract.classes))
    true_percent = _percent(counts.sum(axis=1), contract)
    if np.isnan(true_percent):
        raise ValueError("the truth holds no lung: DL-ILD has no value")
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return Agreement(
        true_percent=true_percent,
        dl_ild_percent=_percent(counts.sum(axis=0), contract),
        regions={
            name: RegionScore(
                dice=dice(counts, labels),
                surface_dice=_surface_dice(truth, predicted, labels, spacing_mm, tolerance_mm),
                truth_ml=float(counts[list(labels)].sum()) * voxel_ml,
                predicted_ml=float(counts[:, list(labels)].sum()) * voxel_ml,
            )
            for name, labels in regions_of(contract).items()
        },
    )


def count_pairs(truth: Labels, predicted: Labels, classes: int) -> Counts:
    """Count voxels by true and by predicted class, those to ignore left out.

    Returns
    -------
    ndarray of int64, shape (classes, classes)
        Rows are the truth.

    Raises
    ------
    ValueError
        A label is none of the classes.
    """
    known = truth != IGNORE
    for kind, labels in (("truth", truth), ("prediction", predicted)):
        highest = int(labels.max(initial=0, where=known))
        if highest >= classes:
            raise ValueError(
                f"the {kind} holds label {highest}, the contract ends at {classes - 1}"
            )
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def dice(counts: Counts, labels: tuple[int, ...]) -> float:
    """Return the Dice coefficient of a region (Dice 1945), NaN where the truth has none.

    Parameters
    ----------
    counts : ndarray, shape (classes, classes)
        From `count_pairs`.
    labels : tuple of int
        Classes that make up the region.
    """
    rows = list(labels)
    true, predicted = int(counts[rows].sum()), int(counts[:, rows].sum())
    both = int(counts[np.ix_(rows, rows)].sum())
    return 2 * both / (true + predicted) if true else float("nan")


def surface_dice(
    truth: Mask,
    predicted: Mask,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
    known: Mask | None = None,
) -> float:
    """Return the normalised surface Dice (Nikolov et al. 2021) of two masks.

    The share of both masks' boundary voxels that lie within the tolerance of the other's boundary.
    A boundary voxel belongs to the mask and has a face neighbour that does not; distances run
    between centres of voxels.

    Parameters
    ----------
    truth, predicted : ndarray of bool, shape (z, y, x)
    spacing_mm : tuple of float
        Of the voxels (z, y, x).
    tolerance_mm : float
    known : ndarray of bool, optional
        Voxels that count; boundaries next to the others do not.

    Returns
    -------
    float
        NaN where both masks are empty.
    """
    either = truth | predicted
    if not either.any():
        return float("nan")
    box = box_of(either, margin=1)
    edges = [_boundary(mask[box]) for mask in (truth, predicted)]
    if known is not None:
        inner = ndimage.binary_erosion(known[box], border_value=1)
        edges = [edge & inner for edge in edges]
    offsets = _ball(spacing_mm, tolerance_mm)
    near = _count_near(edges[0], edges[1], offsets) + _count_near(edges[1], edges[0], offsets)
    whole = sum(int(edge.sum()) for edge in edges)
    return near / whole if whole else float("nan")


def _surface_dice(
    truth: Labels,
    predicted: Labels,
    labels: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> float:
    true_mask = np.isin(truth, labels)
    if not true_mask.any():
        return float("nan")
    known = truth != IGNORE
    mask = np.isin(predicted, labels)
    if known.all():
        return surface_dice(true_mask, mask, spacing_mm, tolerance_mm)
    return surface_dice(true_mask, mask & known, spacing_mm, tolerance_mm, known)


def _percent(voxels: Counts, contract: Contract) -> float:
    return dl_ild_percent(*lesion_and_lung(voxels, contract.classes))


def _boundary(mask: Mask) -> Mask:
    edge: Mask = mask & ~ndimage.binary_erosion(mask)
    return edge


def _ball(spacing_mm: tuple[float, float, float], radius_mm: float) -> npt.NDArray[np.int64]:
    """List the steps in voxels that lead no further than a radius."""
    reach = [int(radius_mm / s) for s in spacing_mm]
    steps = np.array(list(product(*(range(-r, r + 1) for r in reach))))
    length_mm = np.sqrt(((steps * np.asarray(spacing_mm)) ** 2).sum(axis=1))
    near: npt.NDArray[np.int64] = steps[length_mm <= radius_mm + 1e-9]
    return near


def _count_near(edge: Mask, other: Mask, offsets: npt.NDArray[np.int64]) -> int:
    """Count the voxels of an edge that reach the other by one of the steps.

    The same as comparing a distance map with the tolerance, many times faster: edges are thin.
    """
    reach = int(np.abs(offsets).max())
    padded = np.pad(other, reach).ravel()
    strides = np.array([np.prod([n + 2 * reach for n in other.shape[a + 1 :]]) for a in range(3)])
    indices = (np.argwhere(edge) + reach) @ strides.astype(np.int64)
    met = np.zeros(len(indices), dtype=np.bool_)
    for step in offsets @ strides.astype(np.int64):
        met |= padded[indices + step]
    return int(met.sum())
