"""Agreement of label maps: against figures by hand, and against MONAI's surface Dice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export.coded import coarse_contract
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from dlild_export.evaluation.metrics import (
    ALL_LESIONS,
    ALL_LUNG,
    IGNORE,
    compare,
    count_pairs,
    dice,
    surface_dice,
)

CONTRACT = coarse_contract()
ML = 4.0**3 / 1000
SPACING = (4.0, 4.0, 4.0)


def slab(*values: int) -> np.ndarray:
    """A label map of blocks of 4 x 4 x 4 voxels along x."""
    return np.concatenate([np.full((4, 4, 4), v, np.uint8) for v in values], axis=2)


def blobs(seed: int, shape=(14, 16, 18)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 1.5) > 0.02


def test_figures_by_hand() -> None:
    truth, predicted = slab(0, 1, 1, 2, 3), slab(0, 1, 2, 2, 2)

    found = compare(truth, predicted, CONTRACT, SPACING)

    assert found.true_percent == pytest.approx(50)
    assert found.dl_ild_percent == pytest.approx(75)
    regions = found.regions
    assert regions[ALL_LUNG].dice == 1
    assert regions[ALL_LESIONS].dice == pytest.approx(2 * 2 / (2 + 3))
    assert regions["ground_glass"].dice == pytest.approx(2 * 1 / (1 + 3))
    assert regions["reticulation"].dice == 0
    assert regions["ground_glass"].error_ml == pytest.approx(2 * 64 * ML)
    assert regions["lung"].truth_ml == pytest.approx(128 * ML)


def test_a_class_that_is_not_there_has_no_dice_but_a_false_volume() -> None:
    found = compare(slab(0, 1, 1), slab(0, 1, 5), CONTRACT, SPACING).regions["consolidation"]

    assert np.isnan(found.dice)
    assert np.isnan(found.surface_dice)
    assert found.truth_ml == 0
    assert found.predicted_ml == pytest.approx(64 * ML)


def test_what_nobody_labelled_counts_nowhere() -> None:
    truth = slab(0, 1, 2, IGNORE)

    right = compare(truth, slab(0, 1, 2, 0), CONTRACT, SPACING)
    other = compare(truth, slab(0, 1, 2, 5), CONTRACT, SPACING)

    assert repr(right) == repr(other)  # NaN are not equal, their text is
    assert right.dl_ild_percent == right.true_percent == pytest.approx(50)
    assert right.regions["ground_glass"].surface_dice == 1


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        (slab(0, 1), slab(0, 1, 1), "truth has shape"),
        (slab(0, 1), slab(0, 6), "prediction holds label 6"),
        (slab(0, 7), slab(0, 1), "truth holds label 7"),
        (slab(0, 0), slab(0, 1), "no lung"),
    ],
)
def test_what_cannot_be_compared(truth: np.ndarray, predicted: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare(truth, predicted, CONTRACT, SPACING)


def test_pairs_are_counted_by_truth_then_prediction() -> None:
    counts = count_pairs(slab(0, 1, IGNORE), slab(0, 2, 2), 6)

    assert counts[0, 0] == counts[1, 2] == 64
    assert counts.sum() == 128
    assert np.isnan(dice(counts, (5,)))


@given(
    seed=st.integers(0, 500),
    spacing=st.tuples(*[st.sampled_from((0.7, 1.5, 3.0))] * 3),
    tolerance=st.sampled_from((0.0, 1.5, 2.0, 3.0, 4.4)),
)
def test_surface_dice_is_monais(seed: int, spacing: tuple, tolerance: float) -> None:
    truth, predicted = blobs(seed), blobs(seed) ^ (blobs(seed + 1) & blobs(seed + 2))
    stacked = [torch.from_numpy(m[None, None].astype(np.uint8)) for m in (predicted, truth)]

    theirs = compute_surface_dice(
        *stacked, class_thresholds=[tolerance], include_background=True, spacing=spacing
    )

    ours = surface_dice(truth, predicted, spacing, tolerance)
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_surface_dice_by_hand() -> None:
    truth = np.zeros((1, 1, 12), bool)
    predicted = truth.copy()
    # Every voxel of a line is boundary: 4 against 6, of which 2 and 2 are shared.
    truth[..., 2:6] = True
    predicted[..., 4:10] = True

    assert surface_dice(truth, predicted, (1, 1, 1), 0.0) == pytest.approx((2 + 2) / 10)
    assert surface_dice(truth, predicted, (1, 1, 1), 1.0) == pytest.approx((3 + 3) / 10)
    assert surface_dice(truth, predicted, (1, 1, 1), 4.0) == 1
    assert np.isnan(surface_dice(truth & False, truth & False, (1, 1, 1), 1.0))
