"""Slices with gaps between them, or in uneven steps, on the model grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.resampling import (
    find_gaps,
    has_plain_slices,
    slice_band,
    slice_faces_mm,
)
from dlild_client.volume import Volume


def stack(array, positions=None, thickness=None, step=10.0) -> Volume:
    places = None if positions is None else tuple(float(p) for p in positions)
    mean = step if positions is None else positions[-1] / (len(positions) - 1)
    thicknesses = None if thickness is None else (thickness,) * len(array)
    return Volume(
        array, (mean, 1.5, 1.5), slice_positions_mm=places, slice_thicknesses_mm=thicknesses
    )


@pytest.mark.parametrize(
    ("step", "thickness", "gap"),
    [
        (10.0, 1.0, True),
        (10.0, None, False),
        (10.0, 10.0, False),
        (10.0, 5.0, False),
        (5.0, 1.0, False),
        (5.5, 1.0, True),
        (1.0, 1.0, False),
        (8.0, 8.0, False),
    ],
)
def test_a_gap_is_a_wide_step_beside_thin_slices(step, thickness, gap):
    volume = stack(np.zeros((12, 4, 4), np.int16), thickness=thickness, step=step)
    assert find_gaps(volume).tolist() == [gap] * 11
    assert has_plain_slices(volume) is not gap


def test_each_step_is_judged_by_its_own_slices():
    volume = Volume(
        np.zeros((4, 4, 4), np.int16), (20 / 3, 1, 1), slice_positions_mm=(0.0, 2.0, 10.0, 20.0),
        slice_thicknesses_mm=(2.0, 2.0, 2.0, 10.0),
    )  # fmt: skip
    assert find_gaps(volume).tolist() == [False, True, False]


@given(
    steps=st.lists(st.floats(0.3, 15), min_size=1, max_size=30),
    thickness=st.sampled_from([None, 1.0, 3.0]),
    spacing=st.floats(0.8, 3),
    backwards=st.booleans(),
)
def test_weights_are_a_mean_of_neighbours(steps, thickness, spacing, backwards):
    places = np.concatenate([[0.0], np.cumsum(steps)])
    volume = stack(np.zeros((len(places), 2, 2), np.int16), places, thickness)
    low, high = slice_faces_mm(volume)
    count = max(1, int(np.ceil((high - low) / spacing)))
    band = slice_band(volume, count, spacing, backwards=backwards)
    assert np.all(band.taps >= 0)
    np.testing.assert_allclose(band.taps.sum(axis=1), 1, rtol=1e-5)
    assert np.all((band.first >= 0) & (band.first + band.taps.shape[1] <= len(places)))
    ours = places[::-1] if backwards else places
    values = [t @ ours[f : f + len(t)] for t, f in zip(band.taps, band.first, strict=True)]
    at = (low + high) / 2 + (np.arange(count) - (count - 1) / 2) * spacing
    wanted = np.clip(at[::-1] if backwards else at, 0, places[-1])
    # As far from its place as the nearest slice in a gap, or as the triangle is wide.
    assert np.abs(np.array(values) - wanted).max() <= max(*steps, spacing, 0) / 2 + spacing


@given(spacing=st.sampled_from([1.0, 1.5]), count=st.integers(4, 40), seed=st.integers(0, 99))
def test_positions_that_are_even_give_what_even_steps_give(contract, spacing, count, seed):
    array = np.random.default_rng(seed).integers(-1000, 400, (count, 6, 6)).astype(np.int16)
    even = Volume(array, (spacing * 2, 1.5, 1.5))
    told = stack(array, np.arange(count) * spacing * 2)
    ours, theirs = to_grid(even, contract), to_grid(told, contract)
    assert np.abs(ours.array.astype(int) - theirs.array).max() <= 1
    np.testing.assert_allclose(ours.origin_mm, theirs.origin_mm, atol=1e-9)


def test_noise_in_a_gap_is_about_that_of_slices_that_touch(contract):
    noise = np.random.default_rng(5).normal(-800, 50, (150, 60, 60)).astype(np.int16)
    touching = Volume(noise, (1.0, 1.5, 1.5), slice_thicknesses_mm=(1.0,) * 150)
    gapped = stack(noise[::10], thickness=1.0)
    plain, ours = (to_grid(v, contract).array[:, 4:-4, 4:-4].std() for v in (touching, gapped))
    assert ours == pytest.approx(plain, rel=0.1)


def test_smoothing_in_a_gap_keeps_a_flat_slice_and_the_sum(contract):
    array = np.full((12, 30, 30), -700, np.int16)
    array[:, 15, 15] = 300
    grid = to_grid(stack(array, thickness=1.0), contract).array.astype(int)
    np.testing.assert_array_equal(grid[:, :5], -700)
    assert np.all(np.abs((grid[20] + 700).sum() - 1000) <= 9)
    assert grid[20, 15, 15] < 0


def test_a_gapped_scan_turned_round_is_the_same_grid(contract):
    rng = np.random.default_rng(1)
    array = rng.integers(-1000, 200, (14, 20, 22)).astype(np.int16)
    steps = np.array([1, 9] * 6 + [1], float)
    places = np.concatenate([[0.0], np.cumsum(steps)])
    straight = stack(array, places, 1.0)
    down = np.array(straight.direction)
    down[:, 0] *= -1
    turned = Volume(
        array[::-1], straight.spacing_mm, (0, 0, float(places[-1])), down,
        slice_positions_mm=tuple((places[-1] - places[::-1]).tolist()),
        slice_thicknesses_mm=(1.0,) * 14,
    )  # fmt: skip
    ours, theirs = to_grid(straight, contract), to_grid(turned, contract)
    np.testing.assert_array_equal(ours.array, theirs.array)
    np.testing.assert_allclose(ours.origin_mm, theirs.origin_mm, atol=1e-9)
