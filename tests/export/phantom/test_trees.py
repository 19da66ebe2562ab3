"""Trees of vessels reach what they should, and are drawn as wide as they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dlild_export.phantom.anatomy.trees import Segment, draw_segments, grow_tree


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_every_target_is_reached(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.uniform(0, 100, (count, 3))

    segments = grow_tree(np.zeros(3), targets, 0.5, rng)

    ends = {tuple(s.stop) for s in segments}
    assert all(tuple(t) in ends for t in targets)
    assert max(s.radius_mm for s in segments) == segments[0].radius_mm


def test_a_tube_fills_its_volume() -> None:
    tube = Segment(np.array([5.0, 20.0, 20.0]), np.array([35.0, 20.0, 20.0]), 5.0)

    share = draw_segments((40, 40, 40), 1.0, [tube])

    expected = np.pi * 25 * 30 + 4 / 3 * np.pi * 125
    assert abs(share.sum() - expected) / expected < 0.05


def test_a_thin_tube_fills_less_than_its_voxels() -> None:
    tube = Segment(np.array([5.0, 20.0, 20.0]), np.array([35.0, 20.0, 20.0]), 0.2)

    share = draw_segments((40, 40, 40), 1.0, [tube])

    assert 0 < share.max() < 0.25
