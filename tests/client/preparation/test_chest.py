from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from dlild_client.preparation.chest import Ends, find_ribs, hull_area, judge_ends

SHAPE = (60, 40, 80)
MIDDLE = 40.0


def lungs(bottom=0, top=60, side=None, hollow=True):
    """Two lungs: a dome above, and below a dome of the diaphragm that leaves a wedge behind.

    Not `hollow`: below a plane that falls to the back, all is solid.
    """
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    out = np.zeros(SHAPE, dtype=bool)
    for centre in (20, 60):
        chest = ((y - 20) / 18) ** 2 + ((x - centre) / 16) ** 2 < np.clip((60 - z) / 25, 0, 1)
        across = ((x - centre) / 16) ** 2 if hollow else 0
        diaphragm = z < 18 - 22 * (np.clip((y - 20) / 18, -0.2, 1) ** 2 + across)
        part = chest & ~diaphragm
        out |= part if side in (None, centre) else False
    out[:bottom] = False
    out[top:] = False
    used = np.flatnonzero(out.any(axis=(1, 2)))
    return out[used[0] : used[-1] + 1]


def test_whole_lungs_end_in_a_wedge_and_a_dome():
    assert judge_ends(lungs(), MIDDLE) == Ends(bottom=True, top=True)


@pytest.mark.parametrize("bottom", [16, 20, 30, 40])
def test_lungs_that_end_bluntly_below_are_not_whole_there(bottom):
    ends = judge_ends(lungs(bottom=bottom), MIDDLE)
    assert (ends.bottom, ends.top) == (False, True)


@pytest.mark.parametrize("top", [40, 48])
def test_lungs_that_end_bluntly_above_are_not_whole_there(top):
    assert judge_ends(lungs(top=top), MIDDLE) == Ends(bottom=True, top=False)


def test_a_wedge_in_front_is_what_a_solid_lower_lobe_leaves():
    assert not judge_ends(lungs()[:, ::-1], MIDDLE).bottom


def test_what_is_left_above_a_plane_that_falls_to_the_back_is_not_whole():
    assert judge_ends(lungs(hollow=False), MIDDLE) == Ends(bottom=True, top=True, hollow=False)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_hull_of_a_slice_is_that_of_its_corners(voxels):
    plane = np.zeros((13, 10), dtype=bool)
    plane[tuple(np.transpose(voxels))] = True
    corners = np.concatenate([np.argwhere(plane) + d for d in ((0, 0), (0, 1), (1, 0), (1, 1))])
    assert hull_area(plane) == pytest.approx(ConvexHull(corners).volume)


@pytest.mark.parametrize("side", [20, 60])
def test_a_missing_side_may_be_white_from_end_to_end(side):
    assert judge_ends(lungs(side=side), MIDDLE) == Ends(bottom=False, top=False)


def test_a_single_slice_is_no_end():
    assert judge_ends(np.ones((1, 10, 10), dtype=bool), 5.0) == Ends(bottom=False, top=False)


def cage():
    """An oval cage of bone in a body, with a spine and an arm in a few slices."""
    _, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    radius = ((y - 20) / 15) ** 2 + ((x - 40) / 30) ** 2
    hu = np.where(radius < 1, 40, -1000).astype(np.float32)
    hu[(radius < 1) & (radius > 0.85)] = 400
    hu[:, 33:39, 38:43] = 600
    hu[:10, 18:22, 2:5] = 500
    return hu


def test_ribs_bound_the_chest_and_spine_and_arm_do_not_count():
    hu = cage()
    ribs = find_ribs(hu, hu > -250, MIDDLE, 3.0)
    assert ribs is not None
    assert ribs.right == pytest.approx(11, abs=1)
    assert ribs.left == pytest.approx(70, abs=1)
    assert ribs.front == pytest.approx(6, abs=1)
    assert ribs.back == pytest.approx(34, abs=1)


def test_bone_outside_the_body_is_no_rib():
    hu = cage()
    hu[:, :, 78] = 800
    body = hu > -250
    body[:, :, 78] = False
    ribs = find_ribs(hu, body, MIDDLE, 3.0)
    assert ribs is not None
    assert ribs.left < 72


def test_no_ribs_are_found_where_there_is_no_bone():
    hu = np.minimum(cage(), 100)
    assert find_ribs(hu, hu > -250, MIDDLE, 3.0) is None
    assert find_ribs(hu[:0], (hu > -250)[:0], MIDDLE, 3.0) is None
