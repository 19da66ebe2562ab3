from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.errors import MissingGeometryError, MissingSlicesError, MixedOrientationError
from dlild_client.reading.series.geometry import (
    Tolerances,
    common_orientation,
    regular_stack,
    repeated_positions,
)

ROW, COLUMN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


@given(
    count=st.integers(2, 60),
    step=st.floats(0.3, 12),
    tilt_deg=st.floats(-25, 25),
    shuffle=st.randoms(use_true_random=False),
)
def test_any_even_stack_is_put_in_order(count, step, tilt_deg, shuffle):
    shift = np.tan(np.radians(tilt_deg)) * step
    order = list(range(count))
    shuffle.shuffle(order)
    positions = np.array([[5.0, 7.0 + i * shift, -100 + i * step] for i in order])
    stack = regular_stack(positions, ROW, COLUMN, [None] * count, Tolerances())
    assert [order[i] for i in stack.order] == list(range(count))
    assert stack.coverage_mm == pytest.approx(count * step)
    if abs(tilt_deg) > 0.3:
        assert stack.tilt_deg == pytest.approx(abs(tilt_deg), abs=0.01)
        np.testing.assert_allclose(stack.step, [0, shift, step], atol=1e-9)
    elif abs(tilt_deg) < 0.1:
        assert stack.tilt_deg == 0
        np.testing.assert_allclose(stack.step, [0, 0, step], atol=1e-9)


@given(count=st.integers(6, 60), step=st.floats(0.3, 12), data=st.data())
def test_any_missing_slice_is_noticed(count, step, data):
    gone = data.draw(st.integers(1, count - 2))
    positions = np.array([[0, 0, i * step] for i in range(count) if i != gone])
    with pytest.raises(MissingSlicesError, match="1 slice is missing"):
        regular_stack(positions, ROW, COLUMN, [None] * (count - 1), Tolerances())


def test_slightly_different_cosines_are_one_orientation():
    orientations = np.array([[1, 0, 0, 0, 1, 0], [0.999999, 0.001, 0, -0.001, 0.999999, 0]])
    row, column = common_orientation(orientations, Tolerances())
    assert row @ column == pytest.approx(0, abs=1e-12)
    with pytest.raises(MixedOrientationError):
        common_orientation(orientations, Tolerances(angle_deg=0.01))


@pytest.mark.parametrize("bad", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [2, 0, 0, 0, 1, 0]])
def test_vectors_that_are_no_axes_are_refused(bad):
    with pytest.raises(MissingGeometryError):
        common_orientation(np.array([bad], dtype=float), Tolerances())


def test_slices_at_one_position_are_grouped():
    positions = np.array([[0, 0, 5.0], [0, 0, 1.0], [9, 0, 5.001], [0, 0, 3.0]])
    assert repeated_positions(positions, np.cross(ROW, COLUMN), Tolerances()) == [(0, 2)]


def test_a_stack_that_drifts_from_even_steps_keeps_its_positions():
    steps = [1.0] * 30 + [1.1] * 31  # each within the tolerance of the usual one
    places = np.concatenate([[0.0], np.cumsum(steps)])
    positions = np.stack([np.zeros(62), np.zeros(62), places], axis=1)
    stack = regular_stack(positions, ROW, COLUMN, list(range(62)), Tolerances())
    np.testing.assert_allclose(stack.positions_mm, places)
    assert stack.widest_step_mm == pytest.approx(1.1)
    assert stack.coverage_mm == pytest.approx(62 * places[-1] / 61)


@given(data=st.data(), count=st.integers(8, 40))
def test_any_steps_of_thin_slices_within_the_bound_are_kept(data, count):
    steps = data.draw(st.lists(st.floats(0.5, 14.9), min_size=count, max_size=count))
    places = np.concatenate([[0.0], np.cumsum(steps)])
    order = data.draw(st.permutations(range(count + 1)))
    positions = np.array([[0.0, 0.0, places[i]] for i in order])
    stack = regular_stack(
        positions, ROW, COLUMN, [100 - i for i in order], Tolerances(), [0.3] * (count + 1)
    )
    assert [order[i] for i in stack.order] == list(range(count + 1))
    kept = stack.positions_mm or np.arange(count + 1) * np.linalg.norm(stack.step)
    # An even stack may round by its tolerance; another one may not.
    rounding = 0.5 * np.linalg.norm(stack.step) if stack.positions_mm is None else 1e-5
    assert np.abs(kept - places).max() <= rounding + 1e-6
