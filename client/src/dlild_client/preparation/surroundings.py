"""Leaves out of the windows what lies beside the patient: clothes, blankets, foam of the table.

Some of it has the HU and the texture of aerated lung, and the network calls it lung: in a scan of
a patient under a blanket 139 mL of 2.9 L. It stands beside the lungs in the box, so DL-ILD, a share
of the lung, is too low by as much. Where the patient is, the search for the lungs has found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract.schema import Shape
from dlild_client.contract.windows import Box, extract_window
from dlild_client.preparation.lungs import Mask, SeenChest


def cut_window(
    grid: npt.NDArray[Any],
    seen: SeenChest | None,
    box: Box,
    origin: Shape,
    shape: Shape,
    padding: int,
) -> npt.NDArray[np.float16]:
    """Cut one window out of the grid, without what lies beside the patient.

    Parameters
    ----------
    grid : ndarray, shape (z, y, x)
        HU.
    seen : SeenChest or None
        Masks of the search for the lungs; without them nothing is left out.
    box : Box
        The lung box in the grid.
    origin, shape : tuple of int
        First voxel of the window in the box, and its shape.
    padding : int
        HU beyond the grid, and beside the patient.

    Returns
    -------
    ndarray of float16, shape `shape`
    """
    window = extract_window(grid, box, origin, shape, padding)
    if seen is not None:
        first = [a + o for a, o in zip(box.start, origin, strict=True)]
        planes, *cells = _cells(seen.outside, seen.factors, shape, first)
        inside = np.ix_(*cells)
        for plane in np.unique(planes):
            window[planes == plane] = np.where(
                seen.outside[plane][inside], np.float16(padding), window[planes == plane]
            )
    return window


def in_voxels(coarse: Mask, factors: Shape, shape: Shape) -> Mask:
    """Return a coarse mask in voxels of the grid.

    Parameters
    ----------
    coarse : ndarray of bool
        Axes (z, y, x); its last voxels stand for what lies beyond them.
    factors : tuple of int
        Voxels of the grid per coarse voxel, along each axis.
    shape : tuple of int
        Of the grid.

    Returns
    -------
    ndarray of bool, shape `shape`
    """
    return coarse[np.ix_(*_cells(coarse, factors, shape, (0, 0, 0)))]


def _cells(
    coarse: Mask, factors: Shape, shape: Shape, first: Sequence[int]
) -> list[npt.NDArray[np.int_]]:
    """Return the coarse voxel of each voxel of a part of the grid, along each axis."""
    return [
        np.minimum((start + np.arange(length)) // factor, count - 1)
        for start, length, factor, count in zip(first, shape, factors, coarse.shape, strict=True)
    ]
