"""Figures of slices that two sides labelled: extent, Dice, sensitivity and precision.

The first side is a reader. The second is the label map, or another reader. All figures come from
one table of areas: density of the tissue, class of the first side, class of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dlild_client.contract import Contract
from dlild_client.contract.score import dl_ild_percent
from dlild_export.data.labels import IGNORE
from dlild_export.readers.outlines import UNNAMED
from dlild_export.readers.slices import Plane

DENSITY_EDGES_HU = (-800.0, -650.0)
DENSITY_NAMES = ("below -800 HU", "-800 to -650 HU", "above -650 HU")
SMOOTHING_FWHM_MM = 6.0
_NAN = float("nan")

Table = npt.NDArray[np.float64]
"""Areas in mm², shape (densities + 1, classes + 1, classes + 1).

The last density is the unknown one (no CT), the last class a lesion without a class.
"""


@dataclass(frozen=True)
class ClassFigures:
    """How one class of the first side was found.

    Attributes
    ----------
    first_mm2, second_mm2 : float
        Areas that either side gives this class.
    dice : float
        Of the class itself; NaN where neither side has it.
    called_lesion : float
        Share of the first side's area that the second calls a lesion, of whichever class.
    same_class : float
        Share that it gives the same class.
    """

    first_mm2: float
    second_mm2: float
    dice: float
    called_lesion: float
    same_class: float


@dataclass(frozen=True)
class DensityFigures:
    """How lesions of one density were found.

    Attributes
    ----------
    first_mm2, second_mm2 : float
        Areas of lesion of either side.
    sensitivity, precision : float
    classes : mapping of str to float
        Share of each class's area that the second side calls a lesion.
    """

    first_mm2: float
    second_mm2: float
    sensitivity: float
    precision: float
    classes: Mapping[str, float]


@dataclass(frozen=True)
class Figures:
    """Agreement of two sides over some slices; NaN where a figure has no value.

    Attributes
    ----------
    slices : int
        Slices that both sides outlined.
    first_percent, second_percent : float
        Lesions in percent of the lung, of the same slices.
    dice, sensitivity, precision : float
        Of all lesions together, by area over all slices.
    classes : mapping of str to ClassFigures
    densities : mapping of str to DensityFigures
        By the local mean HU of the lung; empty where there was no CT.
    """

    slices: int
    first_percent: float
    second_percent: float
    dice: float
    sensitivity: float
    precision: float
    classes: Mapping[str, ClassFigures]
    densities: Mapping[str, DensityFigures]


def tabulate(
    first: Plane,
    second: Plane,
    contract: Contract,
    pixel_mm: tuple[float, float],
    hu: npt.NDArray[np.int16] | None,
) -> Table:
    """Sum up the areas of one slice.

    Parameters
    ----------
    first, second : ndarray of uint8, shape (rows, columns)
        Labels of the contract, `UNNAMED`; what either side ignores is left out.
    contract : Contract
    pixel_mm : tuple of float
        Height and width of a pixel.
    hu : ndarray of int16, shape (rows, columns), or None
        The CT.

    Returns
    -------
    ndarray, shape (densities + 1, classes + 1, classes + 1)
        Areas, mm².
    """
    count = len(contract.classes)
    known = (first != IGNORE) & (second != IGNORE)
    a, b = (np.where(side == UNNAMED, count, side).astype(np.intp) for side in (first, second))
    dense = np.full(first.shape, len(DENSITY_NAMES), np.intp)
    if hu is not None:
        lung = known & (_is_lung(a, contract) | _is_lung(b, contract))
        if lung.any():
            mean = local_mean(hu, lung, pixel_mm)
            dense[lung] = np.digitize(mean[lung], DENSITY_EDGES_HU)
    size = (len(DENSITY_NAMES) + 1, count + 1, count + 1)
    flat = np.ravel_multi_index((dense[known], a[known], b[known]), size)
    table: Table = np.bincount(flat, minlength=int(np.prod(size))).reshape(size).astype(np.float64)
    return table * pixel_mm[0] * pixel_mm[1]


def local_mean(
    hu: npt.NDArray[np.int16], lung: npt.NDArray[np.bool_], pixel_mm: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return the mean HU of the lung round each pixel: a Gaussian of 6 mm FWHM, within the lung.

    Chest wall and heart do not enter: the lung's edge would be dense everywhere.
    """
    sigma = [SMOOTHING_FWHM_MM / 2.3548 / mm for mm in pixel_mm]
    weight = ndimage.gaussian_filter(lung.astype(np.float64), sigma)
    sums = ndimage.gaussian_filter(np.where(lung, hu, 0).astype(np.float64), sigma)
    mean: npt.NDArray[np.float64] = sums / np.maximum(weight, 1e-6)
    return mean


def figures(table: Table, slices: int, contract: Contract) -> Figures:
    """Work out the figures of a table.

    Parameters
    ----------
    table : ndarray
        Of one slice, or the sum over several; see `tabulate`.
    slices : int
        How many.
    contract : Contract
    """
    count = len(contract.classes)
    lesion = [*contract.lesion_labels, count]
    lung = [*contract.lung_labels, count]
    areas = table.sum(axis=0)
    first, second, both = _overlap(areas, lesion)
    return Figures(
        slices=slices,
        first_percent=dl_ild_percent(first, float(areas[lung].sum())),
        second_percent=dl_ild_percent(second, float(areas[:, lung].sum())),
        dice=_ratio(2 * both, first + second),
        sensitivity=_ratio(both, first),
        precision=_ratio(both, second),
        classes={c.name: _of_class(areas, c.label, lesion) for c in contract.classes if c.lesion},
        densities=_by_density(table, lesion, contract),
    )


def _of_class(areas: Table, label: int, lesion: list[int]) -> ClassFigures:
    first, second, both = _overlap(areas, [label])
    return ClassFigures(
        first_mm2=first,
        second_mm2=second,
        dice=_ratio(2 * both, first + second),
        called_lesion=_ratio(float(areas[label, lesion].sum()), first),
        same_class=_ratio(both, first),
    )


def _by_density(table: Table, lesion: list[int], contract: Contract) -> dict[str, DensityFigures]:
    found = {}
    for name, areas in zip(DENSITY_NAMES, table, strict=False):
        first, second, both = _overlap(areas, lesion)
        if not areas.any():
            continue
        found[name] = DensityFigures(
            first_mm2=first,
            second_mm2=second,
            sensitivity=_ratio(both, first),
            precision=_ratio(both, second),
            classes={
                c.name: _of_class(areas, c.label, lesion).called_lesion
                for c in contract.classes
                if c.lesion
            },
        )
    return found


def _overlap(areas: Table, labels: list[int]) -> tuple[float, float, float]:
    return (
        float(areas[labels].sum()),
        float(areas[:, labels].sum()),
        float(areas[np.ix_(labels, labels)].sum()),
    )


def _is_lung(codes: npt.NDArray[np.intp], contract: Contract) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.isin(codes, [*contract.lung_labels, len(contract.classes)])
    return found


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else _NAN
