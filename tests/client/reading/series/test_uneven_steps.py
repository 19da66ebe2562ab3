"""Slices in uneven steps: each is taken at its own position, or the series is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from client.writers import write_enhanced

from dlild_client.errors import GeometryError, IrregularSpacingError, MissingSlicesError
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.reading.survey import survey_series
from dlild_client.volume import Volume

FIRST_MM = -300.0

STEPS = {
    "pairs of slices": [1, 9] * 14 + [1],
    "pairs, the first slice alone": [9, 1] * 14 + [9],
    "5-5-10": [5, 5, 10] * 9 + [5, 5],
    "10-10-9.3-10.7": [10, 10, 9.3, 10.7] * 7 + [10],
    "2 then 5 mm": [2] * 12 + [5] * 17,
    "2, 5, then 10 mm": [2] * 10 + [5] * 10 + [10] * 9,
    "the last slice 0.4 mm off": [4] * 28 + [3.6],
    "one slice 0.4 mm off": [4] * 12 + [4.4, 3.6] + [4] * 15,
    "whole millimetres": np.diff(np.rint(np.arange(30) * 4.4)).tolist(),
    "jitter": [4, 4.5, 3.5, 4.2, 3.8] * 5 + [4] * 4,
    "two blocks with 2.5 mm between them": [4] * 14 + [6.5] + [4] * 14,
    "six overlapping slices, then a gap": ([4] * 6 + [12]) * 4 + [4],
    "a block in wider steps": [4] * 24 + [8] * 5,
}


def place_at(steps, *, thickness=None, numbers=None, more=None):
    """Edit of a series: 30 slices at these steps; HU rise along the body by 2 per mm."""
    places = np.concatenate([[0.0], np.cumsum(steps)])

    def edit(ds, i):
        ds.ImagePositionPatient[2] = round(FIRST_MM + float(places[i]), 4)
        ds.SliceThickness = thickness
        ds.InstanceNumber = i + 1 if numbers is None else numbers[i]
        values = np.full((ds.Rows, ds.Columns), round(-900 + 2 * places[i]), np.int16)
        # A little air and tissue, as in any chest.
        values[0], values[-1] = -1000, 40
        ds.PixelData = values.astype("<i2").tobytes()
        if more is not None:
            more(ds, i)

    return edit


def rises_along_the_body(volume, contract, *, rest=5.0):
    """Check that HU on the grid rise by 2 per mm, from the first slice to the last."""
    grid = to_grid(volume, contract)
    middle = grid.shape[1] // 2
    z = grid.points_mm(np.stack([np.arange(grid.shape[0]), *[[0] * grid.shape[0]] * 2], -1))[:, 2]
    length = volume.slice_positions_mm[-1]
    inner = (z > FIRST_MM + rest) & (z < FIRST_MM + length - rest)
    assert np.count_nonzero(inner) > 40
    wanted = -900 + 2 * (z - FIRST_MM)
    return np.abs(grid.array[inner, middle, grid.shape[2] // 2] - wanted[inner])


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
def test_values_lie_at_the_true_positions(series_writer, scan, contract, steps):
    volume = read_volume(series_writer.write(scan, edit=place_at(steps)))
    np.testing.assert_allclose(np.diff(volume.slice_positions_mm), steps, atol=1e-4)
    assert rises_along_the_body(volume, contract).max() <= 2
    flag = next(f for f in volume.flags if f == "uneven_steps")
    assert flag.values["widest_mm"] == pytest.approx(max(steps), abs=1e-3)
    assert flag.values["narrowest_mm"] == pytest.approx(min(steps), abs=1e-3)
    assert "mm" in flag.values["steps"]


@pytest.mark.parametrize("steps", [STEPS["pairs of slices"], STEPS["5-5-10"]])
def test_any_order_of_files_and_numbers_is_the_same(series_writer, scan, contract, steps):
    straight = read_volume(series_writer.write(scan, edit=place_at(steps)))
    down = [30 - i for i in range(30)]
    other = read_volume(series_writer.write(scan, "down", place_at(steps, numbers=down)))
    np.testing.assert_array_equal(straight.array, other.array)
    same = read_volume(series_writer.write(scan, "none", place_at(steps, numbers=[1] * 30)))
    np.testing.assert_array_equal(straight.array, same.array)
    assert straight.series.digest == other.series.digest == same.series.digest


@pytest.mark.parametrize("per_frame", [False, True])
def test_an_enhanced_object_in_uneven_steps(series_writer, scan, contract, tmp_path, per_frame):
    folder = series_writer.write(scan, edit=place_at(STEPS["pairs of slices"]))
    path = write_enhanced(
        folder, tmp_path / "one.dcm", per_frame=per_frame, order=lambda n: (n * 7) % 31
    )
    volume = read_volume(path)
    assert "uneven_steps" in volume.flags
    assert rises_along_the_body(volume, contract).max() <= 2


def test_slices_written_from_the_head_down_are_the_same_grid(series_writer, scan, contract):
    """A row that runs to the patient's right turns the order of the slices round."""
    steps = STEPS["2 then 5 mm"]
    straight = read_volume(series_writer.write(scan, edit=place_at(steps)))

    def turn(ds, i):
        ds.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient[0] += 3.0 * (ds.Columns - 1)

    turned = read_volume(series_writer.write(scan, "turned", place_at(steps, more=turn)))
    assert turned.direction[2][0] == -1
    np.testing.assert_allclose(np.diff(turned.slice_positions_mm), steps[::-1], atol=1e-4)
    ours, theirs = to_grid(straight, contract), to_grid(turned, contract)
    np.testing.assert_allclose(ours.origin_mm, theirs.origin_mm, atol=1e-6)
    np.testing.assert_array_equal(ours.array, theirs.array)


@pytest.mark.parametrize("kind", ["tilted", "oblique"])
def test_uneven_slices_that_lean_are_put_straight(contract, kind):
    angle, steps = np.radians(12), [1, 9] * 14 + [1]
    places = np.concatenate([[0.0], np.cumsum(steps)])
    rotation = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    direction = (rotation @ np.eye(3))[:, ::-1].copy()
    if kind == "tilted":
        direction[:, 0] = [0, 0, 1]
    empty = Volume(
        np.zeros((30, 80, 80), np.int16), (places[-1] / 29, 1.5, 1.5), (5, 6, 7), direction,
        slice_positions_mm=tuple(places.tolist()),
    )  # fmt: skip
    points = empty.points_mm(np.stack(np.indices(empty.shape), axis=-1))
    np.testing.assert_allclose(
        points[3, 0, 0] - points[0, 0, 0], direction[:, 0] * places[3], atol=1e-9
    )
    scan = empty.with_array(np.rint(-800 + 2 * points[..., 2]).astype(np.int16))
    grid = to_grid(scan, contract)
    centre = np.array(grid.shape) // 2
    block = tuple(slice(c - 15, c + 15) for c in centre)
    at = grid.points_mm(np.stack(np.indices(grid.shape), axis=-1))[block]
    error = np.abs(grid.array[block] - (-800 + 2 * at[..., 2]))
    assert error.max() <= 4


@pytest.mark.parametrize(
    ("steps", "thickness"),
    [
        ([10] * 29, 1.0),
        (STEPS["pairs of slices"], 1.0),
        (STEPS["5-5-10"], 1.25),
        (STEPS["2, 5, then 10 mm"], 2.0),
    ],
)
def test_nothing_is_interpolated_across_a_gap(series_writer, scan, contract, steps, thickness):
    volume = read_volume(series_writer.write(scan, edit=place_at(steps, thickness=thickness)))
    assert "gaps_between_slices" in volume.flags
    grid = to_grid(volume, contract)
    places = np.concatenate([[0.0], np.cumsum(steps)])
    height = grid.points_mm([[i, 0, 0] for i in range(grid.shape[0])])[:, 2] - FIRST_MM
    column = grid.array[:, grid.shape[1] // 2, grid.shape[2] // 2]
    for low, high in pairwise(places):
        if high - low < 6:
            continue
        within = (height > low + 1.5) & (height < high - 1.5)
        nearest = np.where(height - low < (high - low) / 2, low, high)
        off_middle = np.abs(height - (low + high) / 2) > 0.1
        here = within & off_middle
        assert here.any()
        np.testing.assert_allclose(column[here], -900 + 2 * nearest[here], atol=1)


@pytest.mark.parametrize("thickness", [None, 4.0, 6.0, 10.0])
def test_slices_that_touch_are_resampled_as_ever(series_writer, scan, contract, thickness):
    def edit(ds, i):
        ds.SliceThickness = thickness

    volume = read_volume(series_writer.write(scan, edit=edit))
    assert volume.slice_positions_mm is None
    np.testing.assert_array_equal(
        to_grid(volume, contract).array,
        to_grid(Volume(scan.array, scan.spacing_mm), contract).array,
    )


def leave_out(edit, *gone):
    """Edit that leaves slices out; those that remain keep their numbers."""

    def change(ds, i):
        return False if i in gone else edit(ds, i)

    return change


@pytest.mark.parametrize(
    ("steps", "thickness", "gone", "words"),
    [
        ([4] * 29, 4.0, (9,), "1 slice is missing: the step is 4.00 mm, but 8.00 mm"),
        ([4] * 29, 5.0, (9, 10), "2 slices are missing"),
        ([4] * 28 + [3.6], 4.0, (9,), "1 slice is missing"),
        ([4] * 29, None, (5, 20), "2 slices are missing"),
        ([10] * 29, 1.0, (9,), "1 slice is missing: the step is 10.00 mm, but 20.00"),
    ],
)
def test_missing_slices_are_refused(series_writer, scan, steps, thickness, gone, words):
    edit = leave_out(place_at(steps, thickness=thickness), *gone)
    with pytest.raises(MissingSlicesError, match=words):
        read_volume(series_writer.write(scan, edit=edit))


@pytest.mark.parametrize(
    "steps",
    [
        [4] * 14 + [8] + [4] * 14,
        [4] * 14 + [13] + [4] * 14,
        [4] * 8 + [8] + [4] * 12 + [8] + [4] * 7,
    ],
)
def test_slices_that_are_missing_are_refused_though_numbers_go_on(series_writer, scan, steps):
    with pytest.raises(IrregularSpacingError, match="as if slices were missing"):
        read_volume(series_writer.write(scan, edit=place_at(steps, thickness=4.0)))


def test_a_slice_that_a_scan_with_gaps_lacks_is_flagged_within_the_bound(series_writer, scan):
    edit = leave_out(place_at([5] * 29, thickness=1.0), 9)
    flag = next(
        f for f in read_volume(series_writer.write(scan, edit=edit)).flags if f == "uneven_steps"
    )
    assert flag.values["steps"] == "5 mm x 27, 10 mm x 1"


def test_a_gap_beyond_the_bound_is_refused_with_its_position(series_writer, scan):
    steps = [5] * 14 + [16] + [5] * 14
    with pytest.raises(
        IrregularSpacingError, match=r"a gap of 16\.00 mm between -230\.00 and -214\.00"
    ):
        read_volume(series_writer.write(scan, edit=place_at(steps, thickness=1.0)))


def interleaved(offset):
    return [offset, 4 - offset] * 14 + [offset]


@pytest.mark.parametrize(
    ("numbers", "tag"),
    [
        ([i // 2 + 1 + 15 * (i % 2) for i in range(30)], None),
        ([i // 2 + 1 if i % 2 else 30 - i // 2 for i in range(30)], None),
        ([i // 2 + 1 for i in range(30)], None),
        ([None] * 30, None),
        (None, "AcquisitionNumber"),
        (None, "TemporalPositionIdentifier"),
        (None, "ConvolutionKernel"),
    ],
    ids=["one after the other", "up and down", "twice", "none", "acquisition", "time", "kernel"],
)
def test_slices_of_two_acquisitions_between_each_other_are_refused(
    series_writer, scan, numbers, tag
):
    def mark(ds, i):
        if tag is not None:
            setattr(ds, tag, f"B{30 + 40 * (i % 2)}f" if tag == "ConvolutionKernel" else 1 + i % 2)

    edit = place_at(interleaved(1.2), thickness=4.0, numbers=numbers, more=mark)
    folder = series_writer.write(scan, edit=edit)
    with pytest.raises(IrregularSpacingError, match="lie between each other"):
        read_volume(folder)
    assert survey_series(folder).series[0].error == "IrregularSpacing"


def test_uneven_slices_beside_one_line_are_refused(series_writer, scan):
    def shift(ds, i):
        ds.ImagePositionPatient[0] += 15 if i == 7 else 0

    with pytest.raises(GeometryError, match="sideways"):
        read_volume(series_writer.write(scan, edit=place_at(STEPS["pairs of slices"], more=shift)))


def test_uneven_slices_of_a_tilted_gantry_keep_their_tilt(series_writer, scan):
    angle = np.radians(10)
    steps = STEPS["pairs of slices"]

    def tilt(ds, i):
        ds.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]

    volume = read_volume(series_writer.write(scan, edit=place_at(steps, more=tilt)))
    assert {"gantry_tilt_corrected", "uneven_steps"} <= set(volume.flags)
    np.testing.assert_allclose(np.diff(volume.slice_positions_mm), steps, atol=1e-3)
    np.testing.assert_allclose(np.array(volume.direction)[:, 0], [0, 0, 1], atol=1e-6)


def test_the_widest_step_counts_in_the_ranking_and_in_flags(series_writer, scan):
    edit = place_at(STEPS["pairs of slices"], thickness=1.0)
    volume = read_volume(series_writer.write(scan, edit=edit))
    flag = next(f for f in volume.flags if f == "gaps_between_slices")
    assert flag.values["step_mm"] == pytest.approx(9.0)
    assert "spacing_far_from_training" in volume.flags
