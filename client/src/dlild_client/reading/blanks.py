"""Slices without a picture: lost on the way, or never there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlild_client.errors import MissingSlices
from dlild_client.flags import Flag
from dlild_client.slabs import Slabs, thinned

TISSUE_HU = -500
LEAST_SHARE = 0.05
"""Of the usual area of tissue; even a neck has four times as much."""


def check_blanks(
    array: npt.NDArray[np.int16] | Slabs, names: Sequence[str] | None = None, axis: int = 0
) -> list[Flag]:
    """Look for slices that hold no picture of the body.

    Parameters
    ----------
    array : ndarray or Slabs
        HU.
    names : sequence of str, optional
        Of the slices, for messages; else they are numbered.
    axis : int
        The one of the slices, which lie across the body.

    Returns
    -------
    list of Flag
        `blank_slices` where the first or last slices are a constant.

    Raises
    ------
    MissingSlices
        Between slices of the body lie some that are a constant, or hold hardly any tissue.
    """
    small = thinned(array, axis)
    small = small.reshape(len(small), -1)
    constant = small.max(axis=1) == small.min(axis=1)
    tissue = np.count_nonzero(small > TISSUE_HU, axis=1)
    if constant.all():
        return []  # no chest at all, as others will find
    hollow = constant | (tissue < LEAST_SHARE * np.median(tissue[~constant]))
    shown = np.flatnonzero(~hollow)
    inside = shown[0] + np.flatnonzero(hollow[shown[0] : shown[-1]])
    if len(inside):
        first = names[inside[0]] if names else f"slice {inside[0] + 1}"
        raise MissingSlices(
            f"{len(inside)} slice{'s hold' if len(inside) > 1 else ' holds'} no picture of the "
            f"body, the first {first}, between slices that do; export the whole series"
        )
    ends = int(np.count_nonzero(constant))
    return [Flag("blank_slices", slices=ends)] if ends else []
