"""Which class a voxel is given, and how sure its class is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import ContractError
from .schema import LARGEST_CLASS, LESIONS_TOGETHER, LabelClass

SURE = 0.51
"""A class with this share of a voxel has more than all others together, whatever rounding does."""
# Equal but for the rounding of weights: then the single class names the voxel.
_TIE = 1 + 1e-6

Array = Any
"""An array of numpy, or of a library with its functions."""


def _unchanged(values: Array) -> Array:
    return values


def label_voxels(
    values: Array,
    classes: Sequence[LabelClass],
    rule: str,
    *,
    sure: Array,
    floats: Callable[[Array], Array] = _unchanged,
    xp: Any = np,
) -> tuple[Array, Array]:
    """Name the class of each voxel.

    With `LARGEST_CLASS` the largest value names it. With `LESIONS_TOGETHER` a voxel is a lesion
    where the lesion classes add up to more than any other class, and the largest of them names it:
    DL-ILD does not depend on how sure the network is which lesion it sees.

    Parameters
    ----------
    values : ndarray, shape (classes, ...)
        Probabilities, or their weighted sums, in any type that keeps their order. Of a few slices:
        class by class, and so that all stays in the cache, this is ten times as fast as numpy's
        argmax over the first axis.
    classes : sequence of LabelClass
        `Contract.classes`.
    rule : str
        `ScoreSpec.labels`.
    sure : scalar or ndarray, shape (...)
        `SURE` of what a voxel's values add up to, in the type of `values`.
    floats : callable, optional
        Turns values into floating-point numbers.
    xp : module, optional
        Library of the arrays.

    Returns
    -------
    labels : ndarray of uint8, shape (...)
        The first of equals.
    certainty : ndarray of float64, shape (classes,)
        Of each lesion class, the sum over its voxels of its share of all lesion classes; 0 for the
        others.

    Raises
    ------
    ContractError
        There is no such rule.
    """
    if rule not in (LARGEST_CLASS, LESIONS_TOGETHER):
        raise ContractError(f"the contract's score.labels is {rule!r}, which is unknown here")
    labels, best = _largest(values, xp)
    lesions = [c.label for c in classes if c.lesion]
    is_lesion = xp.asarray([c.lesion for c in classes])[labels]
    asked = (is_lesion | (best < sure)) if rule == LESIONS_TOGETHER else is_lesion
    index = xp.flatnonzero(asked)
    shares = xp.stack([floats(values[label].reshape(-1)[index]) for label in lesions])
    total = shares.sum(axis=0)
    flat = labels.reshape(-1)
    here = is_lesion.reshape(-1)[index]
    if rule == LESIONS_TOGETHER:
        turned = ~here & (total > _TIE * floats(best.reshape(-1)[index]))
        named = xp.asarray(lesions, dtype=np.uint8)[shares[:, turned].argmax(axis=0)]
        flat[index[turned]] = named
        here |= turned
    share = shares.max(axis=0)[here] / total[here]
    certainty = xp.bincount(flat[index[here]], weights=share, minlength=len(classes))
    return labels, certainty


def _largest(values: Array, xp: Any) -> tuple[Array, Array]:
    """Return the label of the largest value of each voxel, and that value."""
    best = values[0]
    labels = xp.zeros(best.shape, dtype=np.uint8)
    for label in range(1, len(values)):
        # Labels rise, so the largest of those that won so far is the last to win.
        won = (values[label] > best).view(np.uint8)
        won *= np.uint8(label)
        xp.maximum(labels, won, out=labels)
        best = xp.maximum(best, values[label])
    return labels, best
