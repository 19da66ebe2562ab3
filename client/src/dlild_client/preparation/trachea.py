"""Shape of the trachea, as a sign of expiration.

In inspiration it is round, or deeper than wide. In expiration its soft posterior wall moves
forward, so that it becomes flat or crescent-shaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.preparation.lungs import SeenChest, label_slices
from dlild_client.volume import Volume

AIR_HU = -600
SMALLEST_CM2, LARGEST_CM2 = 0.7, 6.0
HALF_WIDTH_MM, DEPTH_MM = 45.0, 60.0

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trachea:
    """Shape of the trachea, as medians over its slices.

    Attributes
    ----------
    ratio : float
        Depth (front to back) over width.
    bow : float
        Distance of the middle of the posterior wall in front of its sides, as a fraction of the
        depth; negative where it bulges backwards.
    slices : int
        Slices in which it was found.
    """

    ratio: float
    bow: float
    slices: int


def measure_trachea(grid: Volume, seen: SeenChest) -> Trachea | None:
    """Measure the trachea in the upper 60 mm of the lungs; None where it is not found.

    Parameters
    ----------
    grid : Volume
        HU on the model grid.
    seen : SeenChest
    """
    areas_cm2 = seen.lungs.sum(axis=(1, 2)) * seen.spacing[1] * seen.spacing[2] / 100
    used = np.flatnonzero(areas_cm2 > 8)
    if not len(used):
        return None
    factor_z, factor_y, factor_x = seen.factors
    top = (int(used[-1]) + 1) * factor_z
    low = max(0, top - int(DEPTH_MM / grid.spacing_mm[0]))
    _, rows, columns = extents(seen.lungs)
    middle = (columns[0] + columns[-1] + 1) / 2 * factor_x
    reach = HALF_WIDTH_MM / grid.spacing_mm[2]
    crop = grid.array[
        low:top,
        rows[0] * factor_y : (rows[-1] + 1) * factor_y,
        max(0, int(middle - reach)) : int(middle + reach),
    ]
    pixel_cm2 = grid.spacing_mm[1] * grid.spacing_mm[2] / 100
    planes = label_slices(crop < AIR_HU)
    shapes = [s for labels in planes if (s := _shape(labels, pixel_cm2)) is not None]
    if len(shapes) < 10:
        return None
    ratio, bow = np.median(np.array(shapes), axis=0)
    return Trachea(float(ratio), float(bow), len(shapes))


def extents(mask: Mask) -> tuple[npt.NDArray[np.intp], ...]:
    """List the planes, rows and columns that contain any voxel of a mask."""
    return tuple(np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))


def _shape(labels: npt.NDArray[Any], pixel_cm2: float) -> tuple[float, float] | None:
    """Ratio and bow of the largest component of plausible size that touches no border."""
    sizes = np.bincount(labels.ravel()) * pixel_cm2
    sizes[0] = 0
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        sizes[edge] = 0
    sizes[sizes > LARGEST_CM2] = 0
    label = int(np.argmax(sizes))
    if sizes[label] < SMALLEST_CM2:
        return None
    part = labels == label
    part = part[np.ix_(part.any(axis=1), part.any(axis=0))]
    depth, width = part.shape
    back = depth - 1 - np.argmax(part[::-1], axis=0)
    third = max(1, width // 3)
    sides = (back[:third].max() + back[-third:].max()) / 2
    return depth / width, float(sides - back[third : width - third].mean()) / depth
