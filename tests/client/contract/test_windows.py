from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract import WindowSpec
from dlild_client.contract.blending import window_weights
from dlild_client.contract.windows import (
    Box,
    WindowPlan,
    axis_origins,
    choose_shape,
    extract_window,
    fit_box,
    plan_windows,
)
from dlild_client.errors import TooLargeError

overlaps = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75])


@given(window=st.integers(1, 40), more=st.integers(0, 200), overlap=overlaps)
def test_windows_of_an_axis_cover_it_and_overlap_enough(window, more, overlap):
    length = window + more
    origins = axis_origins(length, window, overlap)
    assert origins[0] == 0
    assert origins[-1] == length - window
    steps = np.diff(origins)
    assert np.all(steps > 0)
    assert np.all(steps <= max(1, window * (1 - overlap) + 1e-9))
    assert np.all(np.ptp(steps) <= 1 if len(steps) else True)


@given(window=st.integers(2, 40), more=st.integers(1, 200), overlap=overlaps)
def test_one_window_fewer_would_overlap_too_little(window, more, overlap):
    origins = axis_origins(window + more, window, overlap)
    longest_step = max(1, int(window * (1 - overlap) + 1e-9))
    assert (len(origins) - 2) * longest_step < more


def test_an_axis_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        axis_origins(5, 6, 0.25)


boxes = st.tuples(*[st.integers(8, 260)] * 3)
"""Lung boxes in voxels of 1.5 mm: to 390 mm."""


def tiling_voxels(box, edge, overlap):
    """Voxels that cubes of one edge take to cover a box, at the same overlap."""
    return math.prod(len(axis_origins(max(n, edge), edge, overlap)) * edge for n in box)


@given(box=boxes)
def test_a_plan_covers_every_voxel_from_inside_the_box(contract, box):
    box = fit_box((0, 0, 0), box, box, contract).shape
    plan = plan_windows(box, contract)
    for axis, (length, edge) in enumerate(zip(box, plan.shape, strict=True)):
        covered = np.zeros(length, dtype=bool)
        for origin in {o[axis] for o in plan.origins}:
            assert 0 <= origin <= length - edge
            covered[origin : origin + edge] = True
        assert covered.all()
    # Along every axis each place is taken with all places of the others: so the axes tell all.
    assert len(set(plan.origins)) == len(plan.origins)
    assert len(plan.origins) == math.prod(len({o[a] for o in plan.origins}) for a in range(3))
    assert plan == plan_windows(box, contract)


@given(box=boxes)
def test_every_voxel_of_the_box_has_weight(contract, box):
    plan = plan_windows(fit_box((0, 0, 0), box, box, contract).shape, contract)
    assert window_weights(plan.shape).min() > 0


@given(box=boxes)
def test_a_plan_never_takes_more_voxels_than_cubes_of_96(contract, box):
    plan = plan_windows(fit_box((0, 0, 0), box, box, contract).shape, contract)
    assert plan.voxels <= tiling_voxels(box, 96, contract.windows.minimum_overlap)


@given(box=boxes)
def test_windows_keep_the_bounds_and_the_overlap_of_the_contract(contract, box):
    fitted = fit_box((0, 0, 0), box, box, contract)
    plan = plan_windows(fitted.shape, contract)
    assert contract.windows.takes(plan.shape)
    assert choose_shape(box, contract.windows) == plan.shape  # widening the box changes nothing
    for axis, edge in enumerate(plan.shape):
        places = sorted({origin[axis] for origin in plan.origins})
        steps = np.diff(places)
        assert np.all(steps <= edge * (1 - contract.windows.minimum_overlap))


@given(box=boxes)
def test_windows_are_sent_from_the_feet_to_the_head(contract, box):
    plan = plan_windows(fit_box((0, 0, 0), box, box, contract).shape, contract)
    assert list(plan.origins) == sorted(plan.origins)


def test_the_shape_with_the_fewest_voxels_is_chosen(small_contract):
    assert plan_windows((48, 48, 24), small_contract).shape == (48, 48, 24)
    assert choose_shape((24, 56, 42), small_contract.windows) == (24, 56, 48)
    assert len(plan_windows((24, 56, 48), small_contract).origins) == 1
    # One window of 100 would do, were it not for the bounds: two of 56 overlap by a quarter.
    assert plan_windows((98, 24, 24), small_contract) == WindowPlan(
        (56, 24, 24), ((0, 0, 0), (42, 0, 0))
    )


def test_too_many_voxels_or_windows_are_refused_with_the_numbers(small_contract):
    few = replace(small_contract, limits=replace(small_contract.limits, windows=3))
    with pytest.raises(TooLargeError, match=r"takes \d+ windows, more than the 3"):
        plan_windows((90, 90, 90), few)
    small = replace(small_contract, limits=replace(small_contract.limits, box_voxels=1000))
    with pytest.raises(TooLargeError, match="1000"):
        plan_windows((90, 90, 90), small)


@given(data=st.data())
def test_a_fitted_box_holds_the_box_and_stays_in_the_grid_where_it_can(small_contract, data):
    contract = replace(
        small_contract, windows=WindowSpec(8, (32, 24, 16), (32, 24, 16), 32 * 24 * 16, 0.25, 2)
    )
    grid = data.draw(st.tuples(*[st.integers(8, 80)] * 3))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in grid)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid, strict=True))
    box = fit_box(start, stop, grid, contract)
    for a, b, first, last, n, p in zip(
        start, stop, box.start, box.stop, grid, (32, 24, 16), strict=True
    ):
        assert 0 <= first <= a
        assert last >= b
        assert last - first == max(p, b - a)
        assert last <= max(n, p)


def test_a_box_outside_the_grid_is_a_programming_error(small_contract):
    with pytest.raises(ValueError, match="not within"):
        fit_box((0, 0, 0), (5, 5, 50), (40, 40, 40), small_contract)


@given(data=st.data())
def test_windows_put_together_give_the_box_back(small_contract, data):
    shape = data.draw(st.tuples(*[st.integers(20, 60)] * 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    grid = rng.integers(-1024, 2048, shape).astype(np.int16)
    box = fit_box((0, 0, 0), shape, shape, small_contract)
    plan = plan_windows(box.shape, small_contract)
    out = np.full(box.shape, np.nan, dtype=np.float32)
    for origin in plan.origins:
        window = extract_window(grid, box, origin, plan.shape, padding=-1024)
        assert window.dtype == np.float16
        assert window.shape == plan.shape
        out[tuple(slice(o, o + p) for o, p in zip(origin, plan.shape, strict=True))] = window
    z, y, x = shape
    np.testing.assert_array_equal(out[:z, :y, :x], grid)
    beyond = np.ones(box.shape, dtype=bool)
    beyond[:z, :y, :x] = False
    assert np.all(out[beyond] == -1024)


def test_a_window_is_cut_where_the_box_lies():
    grid = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    window = extract_window(grid, Box((1, 2, 3), (9, 9, 9)), (1, 1, 1), (2, 2, 2), -1024)
    np.testing.assert_array_equal(window, grid[2:4, 3:5, 4:6])


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_every_value_of_16_bits_is_sent_as_numpy_converts_it(dtype):
    grid = np.arange(-32768, 32768).reshape(16, 64, 64).astype(dtype)[:, ::2, 1:]
    box = Box((0, 0, 0), grid.shape)
    with np.errstate(over="ignore"):
        expected = grid.astype(np.float16)
    window = extract_window(grid, box, (0, 0, 0), grid.shape, -1024)
    assert window.dtype == np.float16
    assert window.flags.c_contiguous
    np.testing.assert_array_equal(window, expected)
