"""Slices that were read: found by their place, filled, and looked up in other volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from export.coded import coarse_contract
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.errors import InputError
from dlild_client.volume import Volume
from dlild_export.readers.outlines import SliceName
from dlild_export.readers.slices import Frame, fill, read_labels

TURNED = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
"""Rows run to the front and columns to the right: a header turned by 180 degrees."""


def _frame(direction: object = None, *, is_ct: bool = True) -> Frame:
    more = {} if direction is None else {"direction": direction}
    array = np.zeros((6, 8, 10), np.int16)
    volume = Volume(array, (10.0, 2.0, 2.0), (5.0, 7.0, -30.0), **more)  # type: ignore[arg-type]
    return Frame(volume, is_ct, {"1.2": -10.0})


def test_a_polygon_is_filled_where_centres_lie_inside() -> None:
    mask = fill(np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 2.5], [0.5, 2.5]]), (5, 6))

    expected = np.zeros((5, 6), bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none() -> None:
    left = fill(np.array([[0, 0], [3, 0], [3, 4], [0, 4]], float), (6, 8))
    right = fill(np.array([[3, 0], [6, 0], [6, 4], [3, 4]], float), (6, 8))

    assert not (left & right).any()
    assert (left | right).sum() == 6 * 4


def test_a_line_drawn_back_on_itself_makes_a_hole() -> None:
    outer = [[-0.5, -0.5], [6.5, -0.5], [6.5, 6.5], [-0.5, 6.5], [-0.5, -0.5]]
    inner = [[1.5, 1.5], [4.5, 1.5], [4.5, 4.5], [1.5, 4.5], [1.5, 1.5]]
    mask = fill(np.array(outer + inner), (7, 7))

    assert mask.sum() == 49 - 9
    assert not mask[2:5, 2:5].any()


@given(st.floats(2, 30), st.floats(-5, 45), st.floats(-5, 45))
def test_the_area_of_a_circle_is_that_of_its_pixels(radius: float, x: float, y: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    mask = fill(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1), (40, 40))

    row, column = np.mgrid[:40, :40]
    away = np.hypot(row - y, column - x)
    assert mask[away < radius - 0.1].all()
    assert not mask[away > radius + 0.1].any()


def test_slices_are_found_by_position_by_index_and_by_uid() -> None:
    frame = _frame()
    assert frame.index(SliceName("z_mm", -10.0)) == 2
    assert frame.index(SliceName("z_mm", -8.0)) == 2
    assert frame.index(SliceName("slice", 5.0)) == 5
    assert frame.index(SliceName("sop_instance_uid", "1.2")) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (SliceName("z_mm", -6.0), "no slice at z -6 mm: the nearest lies at -10 mm"),
        (SliceName("z_mm", 40.0), "no slice at z 40 mm"),
        (SliceName("slice", 6.0), "there is no slice 6: 6 slices, from 0"),
        (SliceName("sop_instance_uid", "1.3"), "no slice of the CT has the sop_instance_uid"),
    ],
)
def test_a_slice_that_is_not_there_is_reported(name: SliceName, said: str) -> None:
    with pytest.raises(InputError) as error:
        _frame().index(name)
    assert said in str(error.value)


def test_slices_are_counted_from_the_feet_however_they_are_stored() -> None:
    frame = _frame(((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)))
    assert frame.z_mm[5] == -80.0
    assert frame.index(SliceName("slice", 0.0)) == 5
    assert frame.from_feet(5) == 0


def test_in_a_label_map_the_nearest_slice_counts() -> None:
    assert _frame(is_ct=False).index(SliceName("z_mm", -6.0)) == 2


def test_sagittal_slices_are_reported() -> None:
    with pytest.raises(InputError, match="not axial"):
        _frame(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


@pytest.mark.parametrize("direction", [None, TURNED])
def test_patient_coordinates_become_pixels(direction: object) -> None:
    frame = _frame(direction)
    pixels = np.array([[0, 0], [9, 0], [2, 5]], float)
    points = frame.volume.points_mm([[3, y, x] for x, y in pixels])

    np.testing.assert_allclose(frame.to_pixels(points[:, :2], 3), pixels, atol=1e-9)


@pytest.mark.parametrize("direction", [None, TURNED])
def test_labels_of_another_grid_are_those_at_the_same_position(direction: object) -> None:
    frame = _frame(direction)
    fine = np.random.default_rng(0).integers(0, 6, (60, 70, 80)).astype(np.uint8)
    labels = Volume(fine, (1.5, 1.5, 1.5), (-40.0, -40.0, -45.0))

    plane = frame.look_up(labels, 2)

    for row, column in np.ndindex(8, 10):
        point = frame.volume.points_mm([2, row, column])
        index = np.rint((point - [-40.0, -40.0, -45.0])[::-1] / 1.5).astype(int)
        inside = ((index >= 0) & (index < fine.shape)).all()
        assert plane[row, column] == (fine[tuple(index)] if inside else 0)


def test_beyond_the_label_map_there_is_nothing() -> None:
    labels = Volume(np.ones((4, 4, 4), np.uint8), (1.5, 1.5, 1.5), (500.0, 0.0, 0.0))
    assert not _frame().look_up(labels, 2).any()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((3, 4, 5), 7, np.uint8), "value 7 is no label"),
        (np.full((3, 4, 5), 0.5, np.float32), "value 0.5 is no label"),
        (np.full((3, 4, 5), np.nan, np.float32), "value nan is no label"),
        (np.zeros((4, 5), np.uint8), "three axes, this one 2"),
    ],
)
def test_a_file_that_is_no_label_map_is_reported(
    tmp_path: Path, array: np.ndarray, said: str
) -> None:
    path = tmp_path / "labels.mha"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    with pytest.raises(InputError) as error:
        read_labels(path, coarse_contract())
    assert said in str(error.value)


def test_a_file_that_is_no_image_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"labels\.nii\.gz: not an image"):
        read_labels(path, coarse_contract())
