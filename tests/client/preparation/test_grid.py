from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.errors import GeometryError
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.resampling import triangle_band
from dlild_client.volume import LPS_GRID, Volume


def turned(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same scan, written with its axes in another order and sense."""
    direction = np.asarray(volume.direction)[:, list(order)]
    array = volume.array.transpose(order)
    spacing = tuple(volume.spacing_mm[i] for i in order)
    corner = np.zeros(3)
    for axis, flip in enumerate(flips):
        if flip:
            corner[order[axis]] = volume.shape[order[axis]] - 1
            array = np.flip(array, axis)
            direction[:, axis] *= -1
    return Volume(array, spacing, tuple(volume.points_mm(corner)), direction)


@pytest.fixture(scope="module")
def noise() -> Volume:
    rng = np.random.default_rng(7)
    array = rng.integers(-1000, 400, (13, 40, 52)).astype(np.int16)
    return Volume(array, (3.0, 0.7, 0.8), (-20.5, 13.25, -400.0))


@pytest.mark.parametrize(
    ("order", "flips"),
    list(
        itertools.product(
            itertools.permutations(range(3)), itertools.product([False, True], repeat=3)
        )
    )[1:],
)
def test_a_scan_turned_round_gives_the_same_grid(noise, contract, order, flips):
    straight, other = to_grid(noise, contract), to_grid(turned(noise, order, flips), contract)
    np.testing.assert_array_equal(straight.array, other.array)
    np.testing.assert_allclose(straight.origin_mm, other.origin_mm, atol=1e-9)
    assert other.direction == LPS_GRID


@given(
    n=st.integers(1, 60),
    spacing=st.floats(0.3, 10),
    target=st.floats(0.5, 3),
    extra=st.integers(0, 1),
)
def test_weights_are_a_mean_that_keeps_ramps(n, spacing, target, extra):
    count = max(1, int(np.ceil(n * spacing / target))) + extra
    band = triangle_band(n, spacing, count, target)
    assert band.taps.shape[0] == count
    np.testing.assert_allclose(band.taps.sum(axis=1), 1, rtol=1e-5)
    assert np.all(band.taps >= 0)
    last = band.first + band.taps.shape[1]
    assert np.all((band.first >= 0) & (last <= n))
    # Far from the ends a straight ramp stays a straight ramp.
    ramp = (np.arange(n) - (n - 1) / 2) * spacing
    places = (np.arange(count) - (count - 1) / 2) * target
    values = [t @ ramp[f : f + len(t)] for t, f in zip(band.taps, band.first, strict=True)]
    inner = np.abs(places) < n * spacing / 2 - 2 * max(spacing, target)
    # Linear interpolation is exact; a mean over sampled places wobbles within half a fine voxel.
    allowed = 1e-3 + (0.5 * spacing if target > spacing else 0)
    assert np.all(np.abs(np.asarray(values) - places)[inner] <= allowed)


@given(data=st.data())
@examples(60)
def test_resampling_is_one_plain_sum_along_each_axis(contract, data):
    shape = tuple(data.draw(st.tuples(st.integers(1, 40), st.integers(1, 90), st.integers(1, 140))))
    spacing = tuple(data.draw(st.tuples(*[st.floats(0.05, 6.0)] * 3)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    array = np.random.default_rng(seed).integers(-3024, 4000, shape).astype(np.int16)
    grid = to_grid(Volume(array, spacing), contract)
    # Rows, columns, slices, voxel by voxel in float32: to the last bit, however it is cut up.
    values = np.clip(array, contract.hu.minimum, contract.hu.maximum).astype(np.float32)
    for axis in (1, 2, 0):
        band = triangle_band(shape[axis], spacing[axis], grid.shape[axis], grid.spacing_mm[axis])
        values = np.moveaxis(values, axis, -1)
        total = np.zeros((*values.shape[:-1], grid.shape[axis]), dtype=np.float32)
        for k in range(band.taps.shape[1]):
            total += band.taps[:, k] * values[..., band.first + k]
        values = np.moveaxis(total, -1, axis)
    np.testing.assert_array_equal(grid.array, np.rint(values))


def test_the_grid_covers_the_scan_from_face_to_face(noise, contract):
    grid = to_grid(noise, contract)
    low, high = grid.points_mm([-0.5] * 3), grid.points_mm(np.array(grid.shape) - 0.5)
    scan_low, scan_high = noise.points_mm([-0.5] * 3), noise.points_mm(np.array(noise.shape) - 0.5)
    assert np.all(low <= scan_low + 0.01)
    assert np.all(high >= scan_high - 0.01)
    assert np.all(np.array(grid.shape) * 1.5 < np.array(noise.shape) * noise.spacing_mm + 1.5)
    assert grid.array.dtype == np.int16


@given(value=st.integers(-3024, 4000))
@examples(20)
def test_a_flat_scan_stays_flat_and_within_range(contract, value):
    volume = Volume(np.full((12, 20, 20), value, dtype=np.int16), (5, 0.8, 0.9))
    grid = to_grid(volume, contract)
    assert np.all(grid.array == np.clip(value, contract.hu.minimum, contract.hu.maximum))


def test_padding_below_the_range_does_not_bleed(contract):
    array = np.full((10, 20, 20), 0, dtype=np.int16)
    array[:, :, :10] = -3024
    grid = to_grid(Volume(array, (3, 1.5, 1.5)), contract)
    assert grid.array.min() == -1024
    # The voxel beside the edge is tissue still, not pulled down by -3024.
    assert grid.array[5, 10, 11] == 0


def test_a_ball_keeps_its_volume_and_position(contract):
    z, y, x = np.meshgrid(
        np.arange(40) * 2.5, np.arange(160) * 0.7, np.arange(150) * 0.7, indexing="ij"
    )
    ball = np.where((z - 50) ** 2 + (y - 60) ** 2 + (x - 45) ** 2 < 30**2, 0, -1000)
    volume = Volume(ball.astype(np.int16), (2.5, 0.7, 0.7), (7, 8, 9))
    grid = to_grid(volume, contract)
    share = (grid.array.astype(float) + 1000) / 1000
    assert share.sum() * grid.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.01)
    centre = np.array([np.average(i, weights=share) for i in np.indices(grid.shape)])
    np.testing.assert_allclose(grid.points_mm(centre), [45 + 7, 60 + 8, 50 + 9], atol=0.2)


@pytest.mark.parametrize("degrees", [3.0, 15.0])
@pytest.mark.parametrize("kind", ["oblique", "tilted"])
def test_an_oblique_or_tilted_scan_is_put_straight(contract, degrees, kind):
    angle = np.radians(degrees)
    rotation = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    direction = (rotation @ np.eye(3))[:, ::-1].copy()
    if kind == "tilted":
        direction[:, 0] = [0, 0, 1]  # the table still moves along the body
    shape, spacing = (50, 140, 140), (3.0, 1.0, 1.0)
    empty = Volume(np.zeros(shape, dtype=np.int16), spacing, (-70.0, -70.0, -75.0), direction)
    points = empty.points_mm(np.stack(np.indices(shape), axis=-1))
    centre = empty.points_mm((np.array(shape) - 1) / 2) + np.array([6.0, -4.0, 5.0])
    inside = np.linalg.norm(points - centre, axis=-1) < 30
    scan = empty.with_array(np.where(inside, 0, -1000).astype(np.int16))
    grid = to_grid(scan, contract)
    assert grid.direction == LPS_GRID
    share = np.clip((grid.array.astype(float) + 1000) / 1000, 0, None)
    assert share.sum() * grid.voxel_volume_mm3 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.02)
    middle = np.array([np.average(i, weights=share) for i in np.indices(grid.shape)])
    np.testing.assert_allclose(grid.points_mm(middle), centre, atol=0.3)
    assert np.any(grid.array == contract.hu.padding)


def test_a_scan_larger_than_any_body_is_refused(contract):
    with pytest.raises(GeometryError, match="check its spacing"):
        to_grid(Volume(np.zeros((10, 10, 10), dtype=np.int16), (500, 1, 1)), contract)


def test_provenance_and_flags_travel(noise, contract):
    flagged = replace(noise, flags=("thick_slices",))
    assert to_grid(flagged, contract).flags == ("thick_slices",)
