import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from server.cases import make_contract

from contract.score import ZONES
from score import Counts, measure

CLASSES = make_contract().classes
RIGHT, LEFT = slice(0, 3), slice(3, 6)

volumes = arrays.arrays(
    np.uint8,
    st.tuples(*[st.integers(1, 12)] * 3),
    elements=st.sampled_from((0, 0, 0, 1, 1, 2, 5)),
)


def score_of(labels, axial_area_mm2=100.0):
    counts = Counts(labels.shape, CLASSES)
    for z, axial in enumerate(labels):
        counts.add(z, axial, np.zeros(len(CLASSES)))
    return measure(
        counts,
        labels,
        voxel_volume_mm3=2.0,
        axial_area_mm2=axial_area_mm2,
    )


@settings(deadline=None)
@given(volumes)
def test_zones_and_classes_sum_to_the_totals(labels):
    score = score_of(labels)
    lung, lesion = np.count_nonzero(labels) * 2e-3, np.count_nonzero(labels > 1) * 2e-3
    np.testing.assert_allclose(score.class_volumes_ml.sum(), labels.size * 2e-3)
    np.testing.assert_allclose(score.zone_volumes_ml.sum(axis=0), [lung, lesion], atol=1e-12)
    if lung:
        assert score.dl_ild_percent == pytest.approx(100 * lesion / lung)
    else:
        assert math.isnan(score.dl_ild_percent)


@settings(deadline=None)
@given(volumes)
def test_turning_the_scan_round_swaps_the_sides_and_keeps_the_score(labels):
    score, turned = score_of(labels), score_of(np.ascontiguousarray(labels[:, :, ::-1]))
    np.testing.assert_allclose(turned.zone_volumes_ml[RIGHT], score.zone_volumes_ml[LEFT])
    np.testing.assert_allclose(turned.zone_volumes_ml[LEFT], score.zone_volumes_ml[RIGHT])
    np.testing.assert_equal(turned.dl_ild_percent, score.dl_ild_percent)


@settings(deadline=None)
@given(volumes)
def test_standing_on_the_head_keeps_volumes(labels):
    score, turned = score_of(labels), score_of(np.ascontiguousarray(labels[::-1]))
    np.testing.assert_array_equal(turned.class_volumes_ml, score.class_volumes_ml)


def test_two_lungs_with_a_lesion_in_the_left_base():
    labels = np.zeros((9, 10, 20), np.uint8)
    labels[:, 2:8, 2:8] = 1
    labels[:, 2:8, 12:18] = 1
    labels[0:3, 2:8, 12:18] = 4  # z runs to the head, x to the patient's left
    zones = dict(zip(ZONES, score_of(labels).zone_volumes_ml.tolist(), strict=True))
    third = 3 * 6 * 6 * 2e-3
    assert zones["left_lower"] == pytest.approx([third, third])
    for name in set(ZONES) - {"left_lower"}:
        assert zones[name] == pytest.approx([third, 0.0])
    assert score_of(labels).dl_ild_percent == pytest.approx(100 / 6)


def test_a_stray_voxel_does_not_stretch_the_height():
    labels = np.zeros((30, 10, 10), np.uint8)
    labels[0:9] = 1
    labels[29, 0, 0] = 1
    # A voxel of 1.5 mm is 2.25 mm2: a slice needs 45 of them to count.
    zones = score_of(labels, axial_area_mm2=2.25).zone_volumes_ml[:, 0].reshape(2, 3).sum(axis=0)
    np.testing.assert_allclose(zones, np.array([301, 300, 300]) * 2e-3)


@pytest.mark.parametrize("upwards", [True, False])
def test_a_piece_apart_from_the_lungs_does_not_move_the_zones(upwards):
    labels = np.zeros((60, 20, 20), np.uint8)
    labels[10:40, 2:18, 2:8] = labels[10:40, 2:18, 12:18] = 1
    clean = score_of(labels).zone_volumes_ml
    stray = labels.copy()
    stray[50:54, 8:11, 4:7] = 1
    moved = score_of(stray if upwards else stray[::-1]).zone_volumes_ml
    was = clean if upwards else score_of(labels[::-1]).zone_volumes_ml
    end = "right_upper" if upwards else "right_lower"
    for name, before, now in zip(ZONES, was[:, 0], moved[:, 0], strict=True):
        assert now == pytest.approx(before + (36 * 2e-3 if name == end else 0)), name


def test_lungs_in_pieces_keep_their_height():
    labels = np.zeros((60, 20, 20), np.uint8)
    labels[np.r_[0:10, 20:30, 50:60], 2:18, 2:8] = 1
    zones = score_of(labels).zone_volumes_ml[:, 0].reshape(2, 3).sum(axis=0)
    np.testing.assert_allclose(zones, np.full(3, 10 * 16 * 6 * 2e-3))


def test_no_lung_has_no_score_and_empty_zones():
    score = score_of(np.zeros((4, 5, 6), np.uint8))
    assert math.isnan(score.dl_ild_percent)
    assert not score.zone_volumes_ml.any()
