"""The windpipe: how round it is, as a sign of the breath that a scan was taken in.

In inspiration it is round, or taller than wide. In expiration its soft back wall comes forward, so
that it is flat, or a crescent.
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
    """Shape of the windpipe, as medians over its slices.

    Attributes
    ----------
    ratio : float
        Depth (front to back) over width.
    bow : float
        How far the middle of the back wall lies in front of its sides, as a share of the depth;
        negative where it bulges to the back.
    slices : int
        Slices that it was found in.
    """

    ratio: float
    bow: float
    slices: int


def measure_trachea(grid: Volume, seen: SeenChest) -> Trachea | None:
    """Measure the windpipe in the upper 60 mm of the lungs; None where it is not found.

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
    """List the planes, rows and columns that hold any of a mask."""
    return tuple(np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))


def _shape(labels: npt.NDArray[Any], pixel_cm2: float) -> tuple[float, float] | None:
    """Ratio and bow of the largest piece of air of the right size that touches no side."""
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
