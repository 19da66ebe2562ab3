"""Flags of the chest itself: contrast medium, breath, metal, noise, volumes, orientation.

Computed from the scan on the model grid and the coarse masks of the search for the lungs; axes
(z, y, x), z to the head, y to the back, x to the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.flags import Flag
from dlild_client.preparation.lungs import AIRWAY_CM2, CUT_OFF_CM2, SeenChest
from dlild_client.preparation.orientation import (
    find_spine,
    flag_orientation,
    front_first,
    judge_orientation,
)
from dlild_client.preparation.trachea import extents, measure_trachea
from dlild_client.volume import Volume

CONTRAST_HU = 90.0
"""Blood has 30 to 55 HU; with contrast medium, in any phase that is scanned, 100 to 400."""

NOISE_HU = 60.0
"""Standard deviation on the model grid; the network was trained on 5 to 60 HU."""

METAL_HU, METAL_ML = 1900, 2.0
"""Denser than bone, and more than sternal wires."""

LITTLE_LUNG_ML, MUCH_LUNG_ML = 800.0, 9000.0
"""Aerated lung of an adult: the largest total lung capacities are about 9 L."""

LONGEST_LUNG_MM = 400.0
"""From apex to base, and across both lungs."""

LEAST_SHAPE, LARGEST_SHAPE = 0.55, 1.7
"""Height of both lungs over their width: 0.64 to 1.25 in 20 real shapes and three real scans. A
spacing that is wrong by a factor of two along one axis leaves these bounds."""

DENSE_LUNG_HU = -770.0
"""Mode of aerated lung: -900 to -800 HU in full inspiration, -750 to -650 HU otherwise."""

ONE_SIDE = 0.3
"""A lung below this fraction of the other is small, or partly not aerated."""

SMALL_LUNGS_ML = 2500.0
FLAT_TRACHEA = 0.65
BOWED_TRACHEA = 0.1


def inspect_chest(grid: Volume, seen: SeenChest, aerated_ml: float) -> list[Flag]:
    """Flag findings of the chest that make a score doubtful.

    Parameters
    ----------
    grid : Volume
        HU on the model grid.
    seen : SeenChest
        Masks of the search for the lungs.
    aerated_ml : float
        Lung volume by threshold.

    Returns
    -------
    list of Flag
    """
    flags = []
    if strange := strange_lungs(seen, aerated_ml):
        flags.append(Flag("chest_doubtful", **strange))
    orientation = judge_orientation(seen)
    facing = front_first(seen, orientation)
    blood = None if facing is None else blood_hu(facing)
    if blood is not None and blood > CONTRAST_HU:
        flags.append(Flag("contrast_likely", blood_hu=blood))
    breath = judge_breath(grid, seen, aerated_ml)
    if breath.expiration:
        flags.append(Flag("expiration_likely", **breath.values))
    metal = metal_ml(grid, seen)
    if metal > METAL_ML:
        flags.append(Flag("metal_likely", volume_ml=metal))
    noise = noise_hu(grid)
    if noise is not None and noise > NOISE_HU:
        flags.append(Flag("heavy_noise", noise_hu=noise))
    return [*flags, *flag_orientation(orientation)]


def strange_lungs(seen: SeenChest, aerated_ml: float) -> dict[str, float]:
    """Find implausible volumes and lengths of the lungs: mostly a wrong spacing.

    Parameters
    ----------
    seen : SeenChest
        Masks of the search for the lungs.
    aerated_ml : float
        Lung volume by threshold.

    Returns
    -------
    dict of str to float
        Values out of bounds, by their names in the flag. Of lungs that the scan cuts off only the
        volume is checked; the shape is not checked of a single lung.
    """
    strange = {}
    if not LITTLE_LUNG_ML <= aerated_ml <= MUCH_LUNG_ML:
        strange["aerated_ml"] = aerated_ml
    areas_cm2 = seen.lungs.sum(axis=(1, 2)) * float(seen.spacing[1] * seen.spacing[2]) / 100
    planes = np.flatnonzero(areas_cm2 > AIRWAY_CM2)
    if not len(planes) or max(areas_cm2[:2].max(), areas_cm2[-2:].max()) > CUT_OFF_CM2:
        return strange
    lungs = seen.lungs[planes[0] : planes[-1] + 1]
    columns = extents(lungs)[2]
    height, width = (
        float((used[-1] - used[0] + 1) * step)
        for used, step in ((planes, seen.spacing[0]), (columns, seen.spacing[2]))
    )
    strange |= {
        name: mm
        for name, mm in (("height_mm", height), ("width_mm", width))
        if mm > LONGEST_LUNG_MM
    }
    spine = find_spine(seen)
    one_alone = spine is None or min(_sides_ml(seen, spine.x)) < ONE_SIDE * aerated_ml / 2
    if not one_alone and not LEAST_SHAPE <= height / width <= LARGEST_SHAPE:
        strange |= {"height_mm": height, "width_mm": width}
    return strange


def _sides_ml(seen: SeenChest, middle: int) -> tuple[float, float]:
    """Aerated lung right and left of a plane, in mL."""
    voxel_ml = float(np.prod(seen.spacing)) / 1000
    right, left = (
        float(np.count_nonzero(side)) * voxel_ml
        for side in (seen.lungs[:, :, :middle], seen.lungs[:, :, middle:])
    )
    return right, left


def blood_hu(seen: SeenChest) -> float | None:
    """Upper quartile of the HU of heart and great vessels; None where too little is visible.

    Eroded soft tissue between the lungs, in front of the spine, at mid-height. Tissue around the
    vessels is darker than enhanced blood, and there is too little bone to move the quartile.
    """
    planes, rows, columns = extents(seen.lungs)
    if not len(planes):
        return None
    height, depth = len(planes), rows[-1] - rows[0] + 1
    middle, reach = (columns[0] + columns[-1]) / 2, 50.0 / seen.spacing[2]
    region = seen.coarse[
        planes[0] + int(0.35 * height) : planes[0] + int(0.75 * height) + 1,
        rows[0] : rows[0] + int(0.62 * depth),
        max(0, int(middle - reach)) : int(middle + reach) + 1,
    ]
    inside = _without_rim((region > -20) & (region < 500))
    return float(np.quantile(region[inside], 0.75)) if np.count_nonzero(inside) > 500 else None


@dataclass(frozen=True)
class Breath:
    """Whether a scan is likely expiratory, and the values behind it."""

    expiration: bool
    values: dict[str, Any]


def judge_breath(grid: Volume, seen: SeenChest, aerated_ml: float) -> Breath:
    """Judge expiration by two of three signs: dense lung, small lungs, a flat trachea.

    The density is the mode, which lesions do not move until they take most of the lung. The
    posterior wall of the trachea is soft, and bows inwards in expiration.
    """
    hu = most_frequent_hu(seen)
    trachea = measure_trachea(grid, seen)
    flat = trachea is not None and (trachea.ratio < FLAT_TRACHEA or trachea.bow > BOWED_TRACHEA)
    signs = (hu is not None and hu > DENSE_LUNG_HU, aerated_ml < SMALL_LUNGS_ML, flat)
    values = {"aerated_ml": aerated_ml}
    if hu is not None:
        values["lung_hu"] = hu
    if trachea is not None:
        values |= {"trachea_ratio": trachea.ratio, "trachea_bow": trachea.bow}
    # Small lungs may be due to fibrosis: one of the other signs is required.
    return Breath(sum(signs) >= 2 and (signs[0] or flat), values)


def most_frequent_hu(seen: SeenChest) -> float | None:
    """Mode of the HU of eroded aerated lung, in bins of 10 HU; None for too little lung."""
    hu = seen.coarse[_without_rim(seen.lungs)]
    if hu.size < 500:
        return None
    counts, edges = np.histogram(hu, bins=np.arange(-1000, -390, 10))
    smooth = np.convolve(counts, np.ones(3), mode="same")
    return float(edges[int(np.argmax(smooth))] + 5)


def metal_ml(grid: Volume, seen: SeenChest) -> float:
    """Volume denser than bone, in mL, within the body, in slices with lung."""
    if grid.array.max() <= METAL_HU:
        return 0.0
    dense = np.argwhere(grid.array > METAL_HU)
    coarse = dense // np.asarray(seen.factors)
    z, y, x = coarse.T
    inside = seen.body[z, y, x] & np.isin(z, extents(seen.lungs)[0])
    return float(np.count_nonzero(inside)) * grid.voxel_volume_mm3 / 1000


def noise_hu(grid: Volume) -> float | None:
    """Estimate the standard deviation of the noise on the grid, from neighbours in soft tissue.

    Median absolute difference, scaled as for a normal distribution: robust to edges.
    """
    planes = grid.array[:: max(1, len(grid.array) // 40)]
    left, right = planes[:, :, :-1], planes[:, :, 1:]
    twice_mean = left + right
    tissue = (right - left)[(twice_mean > 0) & (twice_mean < 200)]
    if tissue.size < 1000:
        return None
    return float(np.median(np.abs(tissue)) / 0.6745 / np.sqrt(2))


def _without_rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Erode a mask by its six neighbours."""
    out = mask.copy()
    for axis in range(3):
        out &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
    return out
