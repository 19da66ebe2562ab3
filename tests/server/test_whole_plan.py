import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.cases import make_contract

from contract import ScanLimits, WindowSpec
from contract.refusals import RefusedError
from contract.windows import axis_origins
from whole import plan_volume, turns

CONTRACT = make_contract(
    windows=WindowSpec(2, (6, 8, 8), (10, 10, 12), 800, 0.25, 4), limits=ScanLimits(60_000, 60)
)
volume_shapes = st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(10, 40))


def planned(shape):
    return plan_volume(shape, replace(CONTRACT, limits=ScanLimits(10**6, 10**4)))


@given(volume_shapes)
def test_windows_cover_every_voxel_and_stay_inside(shape):
    plan = planned(shape)
    covered = np.zeros(shape, np.bool_)
    for origin in plan.origins:
        stop = tuple(o + w for o, w in zip(origin, plan.shape, strict=True))
        assert all(o >= 0 and s <= n for o, s, n in zip(origin, stop, shape, strict=True))
        covered[tuple(map(slice, origin, stop))] = True
    assert covered.all()


@given(st.integers(1, 300), st.integers(1, 100), st.floats(0, 0.9))
def test_neighbours_overlap_as_much_as_asked(extra, window, overlap):
    length = window + extra
    origins = axis_origins(length, window, overlap)
    assert origins[0] == 0
    assert origins[-1] == length - window
    steps = np.diff(origins)
    assert (steps > 0).all()
    assert steps.max() <= max(1, math.floor(window * (1 - overlap) + 1e-9))


@given(volume_shapes)
def test_turns_keep_the_order_that_the_other_model_asks_for(shape):
    plan = planned(shape)
    rows = list(turns(plan))
    assert [index for row in rows for index in row] == list(range(len(plan.origins)))
    assert rows[0] == [0]
    assert rows[-1] == [len(plan.origins) - 1]
    heights = [{plan.origins[index][0] for index in row} for row in rows]
    assert all(len(height) == 1 for height in heights)
    assert [height for (height,) in heights] == sorted(height for (height,) in heights)


@given(volume_shapes)
def test_no_shape_takes_fewer_voxels(shape):
    best = planned(shape)
    for window in product(range(6, 11, 2), range(8, 11, 2), range(8, 13, 2)):
        if math.prod(window) > 800 or any(n < w for n, w in zip(shape, window, strict=True)):
            continue
        count = math.prod(
            len(axis_origins(n, w, CONTRACT.windows.minimum_overlap))
            for n, w in zip(shape, window, strict=True)
        )
        assert len(best.origins) * math.prod(best.shape) <= count * math.prod(window)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((5, 8, 10), r"volume \(5, 8, 10\) is smaller than the smallest window \(6, 8, 8\)"),
        ((40, 40, 40), r"volume \(40, 40, 40\) holds 64000 voxels, the limit is 60000"),
        ((38, 38, 38), r"volume \(38, 38, 38\) takes \d+ windows, the limit is 60"),
    ],
)
def test_what_cannot_be_tiled_is_refused_by_value(shape, says):
    with pytest.raises(RefusedError, match=f"^REFUSED: {says}"):
        plan_volume(shape, CONTRACT)
