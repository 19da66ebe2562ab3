"""The label of a scanned voxel is that of the nearest voxel of the grid, however it was scanned."""

from __future__ import annotations

import numpy as np
import pytest
from client.results.labelled import label_at
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.preparation.native import SEPARABLE_VOXELS, sample, stack_of
from dlild_client.volume import LPS_GRID, Volume, as_matrix

GRID = Volume(np.zeros((60, 50, 56), np.uint8), (1.5, 1.5, 1.5), (-42.0, 11.0, 300.0))
CENTRE = GRID.points_mm((np.array(GRID.shape) - 1) / 2)
SIZE = np.array(GRID.shape[::-1]) * 1.5


def points_of(volume: Volume) -> np.ndarray:
    indices = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    return volume.points_mm(indices)


LABELS = GRID.with_array(label_at(points_of(GRID), CENTRE, SIZE))


def nearest(points: np.ndarray) -> np.ndarray:
    """Labels of points one by one: what sampling must give."""
    index = np.floor((points[..., ::-1] - np.array(GRID.origin_mm)[::-1]) / 1.5 + 0.5).astype(int)
    inside = ((index >= 0) & (index < GRID.shape)).all(axis=-1)
    index = np.clip(index, 0, np.array(GRID.shape) - 1)
    return np.where(inside, LABELS.array[tuple(np.moveaxis(index, -1, 0))], 0)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


@st.composite
def scans(draw: st.DrawFn) -> Volume:
    """Scans over the grid in any orientation: tilted, uneven, turned, of any spacing."""
    spacing = tuple(draw(st.sampled_from([0.8, 1.0, 1.7, 2.5])) for _ in range(3))
    axes = np.array(LPS_GRID)[:, draw(st.permutations([0, 1, 2]))]
    axes = axes * draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    if draw(st.booleans()):
        axes = rotation(draw(st.tuples(*[st.floats(-40, 40)] * 3))) @ axes
    if draw(st.booleans()):  # a tilted gantry
        leaned = axes[:, 0] + np.tan(np.radians(draw(st.floats(-25, 25)))) * axes[:, 1]
        axes[:, 0] = leaned / np.linalg.norm(leaned)
    shape = tuple(draw(st.integers(15, 40)) for _ in range(3))
    middle = axes @ ((np.array(shape) - 1) / 2 * spacing)
    origin = CENTRE - middle + np.array(draw(st.tuples(*[st.floats(-20, 20)] * 3)))
    positions = None
    if draw(st.booleans()):
        steps = draw(
            st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=shape[0] - 1, max_size=shape[0] - 1)
        )
        positions = (0.0, *(np.cumsum(steps) * spacing[0]).tolist())
    return Volume(
        np.zeros(shape, np.int16),
        spacing,
        tuple(origin),
        as_matrix(axes),
        slice_positions_mm=positions,
    )


@examples(60)
@given(scans())
def test_every_voxel_has_the_label_of_the_nearest_one(scan):
    found = sample(LABELS, stack_of(scan))
    expected = nearest(points_of(scan))
    whole = np.zeros(scan.shape, np.uint8)
    whole[found.box] = found.array
    # A point on the border of two voxels may fall to either; so may one near it where a rotation
    # within the tolerance of resampling is ignored.
    differ = whole != expected
    index = (points_of(scan)[..., ::-1] - np.array(GRID.origin_mm)[::-1]) / 1.5 + 0.5
    from_border = np.abs(index - np.round(index)).min(axis=-1)
    straight = np.sort(np.abs(np.array(scan.direction)), axis=0)[:-1].max() < 0.05
    assert not (differ & (from_border > (SEPARABLE_VOXELS if straight else 1e-4))).any()


def test_a_rotation_that_resampling_ignores_is_ignored_here_too():
    turned = as_matrix(rotation((0.0, 0.0, 0.05)) @ np.array(LPS_GRID))
    origin = tuple(CENTRE - np.array(turned) @ (np.full(3, 39 / 2) * 1.5))
    scan = Volume(np.zeros((40, 40, 40), np.int16), (1.5, 1.5, 1.5), origin, turned)
    found = sample(LABELS, stack_of(scan))
    assert np.mean(found.array == nearest(points_of(scan))[found.box]) > 0.99


@pytest.mark.parametrize("away", [0.0, 500.0])
def test_without_labels_there_is_nothing(away):
    scan = Volume(np.zeros((20, 20, 20), np.int16), (1.0, 1.0, 1.0), (away, 0.0, 0.0))
    labels = LABELS if away else GRID
    assert not sample(labels, stack_of(scan)).array.any()
