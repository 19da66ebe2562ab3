"""Counting of concordant pairs in O(n log^2 n), without a loop over patients.

Patients are put in the order of time; a bottom-up merge then counts, for every pair of
neighbouring blocks, which of the later patients score below each of the earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlild_analysis.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Pairs of each patient with those of later and of earlier time; each shape (n,).

    Attributes
    ----------
    later, lower, tied
        Patients of later time; those of them with a lower score; with an equal score.
    before, higher_before, tied_before
        Summed weights of patients of earlier time; of those with a higher score; an equal score.
    """

    later: FloatArray
    lower: FloatArray
    tied: FloatArray
    before: FloatArray
    higher_before: FloatArray
    tied_before: FloatArray


def count_pairs(time: FloatArray, score: FloatArray, weight: FloatArray) -> PairCounts:
    """Count, for each patient, the pairs that it can be compared in.

    Parameters
    ----------
    time, score
        Shape (n,).
    weight
        Shape (n,): 0 for a censored patient, which is compared with earlier patients only. A
        patient of weight zero at the time of one with weight counts as later.

    Returns
    -------
    PairCounts
        In the order of the input.
    """
    n = time.size
    rank = np.unique(score, return_inverse=True)[1].astype(np.int64)
    _, stamp = np.unique(time, return_inverse=True)
    place = 2 * stamp.astype(np.int64) + (weight == 0)
    # Among equal places the lowest score comes first, so that such pairs are never counted.
    order = np.lexsort((rank, place))
    lower, higher_before = _merge_counts(rank[order], weight[order])
    by_place = np.sort(place)
    later = (n - np.searchsorted(by_place, place, side="right")).astype(np.float64)
    before = _weight_before(place, weight, np.zeros(n, dtype=np.int64))
    tied_before = _weight_before(place, weight, rank)
    tied = _weight_before(-place, np.ones(n), rank)
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    return PairCounts(
        later=later,
        lower=lower[back],
        tied=tied,
        before=before,
        higher_before=higher_before[back],
        tied_before=tied_before,
    )


def _weight_before(place: IntArray, weight: FloatArray, group: IntArray) -> FloatArray:
    """Sum the weight of the same group's patients that lie strictly before each patient."""
    order = np.lexsort((place, group))
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    p, g = place[order], group[order]
    new_group = np.concatenate([[True], g[1:] != g[:-1]])
    new_run = new_group | np.concatenate([[True], p[1:] != p[:-1]])
    index = np.arange(place.size)
    run = np.maximum.accumulate(np.where(new_run, index, 0))
    start = np.maximum.accumulate(np.where(new_group, index, 0))
    result = np.empty(place.size)
    result[order] = total[run] - total[start]
    return result


def _merge_counts(rank: IntArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each element: how many later ones rank lower; weight of earlier ones that rank higher."""
    n = rank.size
    lower, higher_before = np.zeros(n), np.zeros(n)
    index = np.arange(n)
    span = int(rank.max()) + 2
    width = 1
    order = index.copy()
    while width < n:
        pair = index // (2 * width)
        # Within each pair of blocks, in rising rank; an earlier element precedes its equals.
        key = pair[order] * span + rank[order]
        order = order[np.argsort(key, kind="stable")]
        is_right = (order // width) % 2 == 1
        in_pair = pair[order]
        rights = np.concatenate([[0], np.cumsum(is_right)])
        lefts = np.concatenate([[0.0], np.cumsum(np.where(is_right, 0.0, weight[order]))])
        first = np.searchsorted(in_pair, in_pair, side="left")
        last = np.searchsorted(in_pair, in_pair, side="right")
        run = _run_start(in_pair * span + rank[order], index)
        end = _run_end(in_pair * span + rank[order], index)
        lower[order] += np.where(is_right, 0, rights[run] - rights[first])
        higher_before[order] += np.where(is_right, lefts[last] - lefts[end], 0.0)
        width *= 2
    return lower, higher_before


def _run_start(key: IntArray, index: IntArray) -> IntArray:
    new = np.concatenate([[True], key[1:] != key[:-1]])
    start: IntArray = np.maximum.accumulate(np.where(new, index, 0))
    return start


def _run_end(key: IntArray, index: IntArray) -> IntArray:
    """One past the last index of each run of equal keys."""
    last = np.concatenate([key[1:] != key[:-1], [True]])
    end: IntArray = np.minimum.accumulate(np.where(last, index + 1, key.size)[::-1])[::-1]
    return end
