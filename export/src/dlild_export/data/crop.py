"""Boxes round masks, and edges that a network takes."""

from __future__ import annotations

import numpy as np


def box_of(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """Return the box of the voxels that are not 0, widened by a margin within the volume.

    Parameters
    ----------
    mask : ndarray, shape (z, y, x)
        Mask or label map, not empty.
    margin : int
        Voxels to add on every side.

    Returns
    -------
    tuple of slice
        One an axis.
    """
    return tuple(
        slice(max(int(indices.min()) - margin, 0), min(int(indices.max()) + 1 + margin, size))
        for indices, size in zip(np.nonzero(mask), mask.shape, strict=True)
    )


def pad_to_multiple(volume: np.ndarray, multiple: int, padding: int) -> np.ndarray:
    """Lengthen a volume at its far ends until every edge is a multiple of a number."""
    missing = [(0, -n % multiple) for n in volume.shape]
    return np.pad(volume, missing, constant_values=padding)
