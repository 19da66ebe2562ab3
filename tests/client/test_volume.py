from __future__ import annotations

import numpy as np
import pytest

from dlild_client.errors import GeometryError
from dlild_client.volume import Volume

ARRAY = np.zeros((2, 3, 4), dtype=np.int16)


def test_points_follow_the_axes():
    volume = Volume(ARRAY, (5, 2, 1), origin_mm=(10, 20, 30))
    # x to the left by one column, y to the back by one row, z to the head by one slice.
    np.testing.assert_allclose(
        volume.points_mm([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        [[10, 20, 30], [10, 20, 35], [10, 22, 30], [11, 20, 30]],
    )
    assert volume.voxel_volume_mm3 == pytest.approx(10)


def test_a_sheared_voxel_is_smaller_than_its_edges_say():
    tilt = np.radians(20)
    direction = [[0, 0, 1], [np.sin(tilt), 1, 0], [np.cos(tilt), 0, 0]]
    assert Volume(ARRAY, (5, 1, 1), direction=direction).voxel_volume_mm3 == pytest.approx(
        5 * np.cos(tilt)
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"array": np.zeros((2, 2))},
        {"array": np.zeros((0, 2, 2))},
        {"spacing_mm": (1, 0, 1)},
        {"spacing_mm": (1, np.nan, 1)},
        {"spacing_mm": (1, 1)},
        {"origin_mm": (0, np.inf, 0)},
        {"direction": np.eye(3) * 2},
        {"direction": [[1, 1, 0], [0, 0, 0], [0, 0, 1]]},
        {"direction": np.eye(2)},
    ],
)
def test_a_broken_invariant_is_raised(arguments):
    with pytest.raises(GeometryError):
        Volume(**({"array": ARRAY, "spacing_mm": (1, 1, 1)} | arguments))


def test_an_array_of_another_shape_does_not_fit():
    with pytest.raises(GeometryError, match="does not fit"):
        Volume(ARRAY, (1, 1, 1)).with_array(np.zeros((2, 2, 2)))


def test_slices_lie_where_their_positions_say():
    volume = Volume(
        np.zeros((3, 3, 4)), (5, 2, 1), (0, 0, 100), slice_positions_mm=(0.0, 1.0, 10.0)
    )
    ends = volume.points_mm([[-0.5, 0, 0], [0.5, 0, 0], [1, 0, 0], [2, 1, 3], [2.5, 0, 0]])
    np.testing.assert_allclose(ends[:, 2], [99.5, 100.5, 101, 110, 114.5])
    np.testing.assert_allclose(
        volume.slice_indices([-0.5, 0.5, 1, 10, 14.5]), [-0.5, 0.5, 1, 2, 2.5]
    )
    even = Volume(ARRAY, (5, 2, 1))
    np.testing.assert_allclose(even.slice_indices([-2.5, 5]), [-0.5, 1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"slice_positions_mm": (0.0, 1.0, 2.0)},
        {"slice_positions_mm": (1.0, 2.0)},
        {"slice_positions_mm": (0.0, 0.0)},
        {"slice_positions_mm": (0.0, float("nan"))},
        {"slice_thicknesses_mm": (1.0,)},
        {"slice_thicknesses_mm": (1.0, 0.0)},
    ],
)
def test_slices_that_do_not_match_are_raised(arguments):
    with pytest.raises(GeometryError):
        Volume(ARRAY, (1, 1, 1), **arguments)
