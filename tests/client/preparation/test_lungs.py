from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.errors import NotChestError
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.lungs import _block_means, find_lungs
from dlild_client.reading.read import read_volume


def lung_bounds(volume, contract):
    """Bounds of the true lungs of the synthetic chest on the grid."""
    truth = volume.with_array(np.where(volume.array == -820, 1000, -1000).astype(np.int16))
    used = np.nonzero(to_grid(truth, contract).array > 0)
    return [int(u.min()) for u in used], [int(u.max()) + 1 for u in used]


def test_the_box_holds_both_lungs_with_margin_and_not_the_table(chest, contract):
    grid = to_grid(chest, contract)
    box = find_lungs(grid)
    low, high = lung_bounds(chest, contract)
    assert all(a + 6 <= b for a, b in zip(box.start, low, strict=True))
    assert all(a >= b + 6 for a, b in zip(box.stop, high, strict=True))
    assert all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, grid.shape, strict=True))
    assert box.stop[1] < grid.shape[1] * 0.93
    assert box.flags == ()
    expected = (chest.array == -820).sum() * chest.voxel_volume_mm3 / 1000
    assert box.aerated_ml == pytest.approx(expected, rel=0.1)


def test_the_box_is_the_same_for_the_mirrored_scan(chest, contract):
    box = find_lungs(to_grid(chest, contract))
    mirrored = find_lungs(to_grid(chest.with_array(chest.array[:, :, ::-1].copy()), contract))
    width = to_grid(chest, contract).shape[2]
    assert mirrored.start[2] == pytest.approx(width - box.stop[2], abs=2)
    assert mirrored.start[:2] == box.start[:2]


def test_a_white_lung_is_in_the_box(chest, contract):
    array = chest.array.copy()
    array[:, :, : array.shape[2] // 2][array[:, :, : array.shape[2] // 2] == -820] = 30
    box = find_lungs(to_grid(chest.with_array(array), contract))
    low, _ = lung_bounds(chest, contract)
    assert box.start[2] <= low[2]


def test_solid_lower_lobes_are_in_the_box(chest, contract):
    array = chest.array.copy()
    lower = array[: array.shape[0] // 2]
    lower[lower == -820] = 30
    box = find_lungs(to_grid(chest.with_array(array), contract))
    low, _ = lung_bounds(chest, contract)
    assert box.start[0] <= low[0]


@pytest.mark.parametrize(("cut", "flag"), [(slice(30, None), "bottom"), (slice(0, 32), "top")])
def test_lungs_cut_off_are_flagged(chest, contract, cut, flag):
    cropped = replace(chest, array=chest.array[cut].copy())
    assert find_lungs(to_grid(cropped, contract)).flags == (f"lungs_cut_off_{flag}",)


def test_a_body_without_lungs_is_no_chest(chest, contract):
    array = np.where(chest.array == -820, 30, chest.array).astype(np.int16)
    with pytest.raises(NotChestError, match=r"\d+ mL of aerated lung, a chest has at least 300"):
        find_lungs(to_grid(chest.with_array(array), contract))


def test_the_lungs_of_a_child_are_lungs(chest, contract):
    small = replace(chest, spacing_mm=tuple(s * 0.4 for s in chest.spacing_mm))
    box = find_lungs(to_grid(small, contract))
    expected = (small.array == -820).sum() * small.voxel_volume_mm3 / 1000
    assert 50 < expected < 300
    assert box.aerated_ml == pytest.approx(expected, rel=0.15)


def test_gas_of_the_same_size_is_none(chest, contract):
    small = replace(
        chest,
        spacing_mm=tuple(s * 0.4 for s in chest.spacing_mm),
        array=np.where(chest.array == -820, -995, chest.array).astype(np.int16),
    )
    with pytest.raises(
        NotChestError, match=r"1\d\d mL of aerated lung.*50 mL that are denser than gas"
    ):
        find_lungs(to_grid(small, contract))


def test_gas_in_the_abdomen_is_no_lung_however_large(chest, contract):
    alone = find_lungs(to_grid(chest, contract))
    below = chest.array[:1].repeat(60, axis=0).copy()
    body = below > -300
    below[10:40, 30:60, 40:80] = -995
    assert body[10:40, 30:60, 40:80].all()
    with_gas = replace(chest, array=np.concatenate([below, chest.array]))
    box = find_lungs(to_grid(with_gas, contract))
    gas_ml = 30 * 30 * 40 * chest.voxel_volume_mm3 / 1000
    assert gas_ml > 0.25 * alone.aerated_ml
    assert box.aerated_ml == pytest.approx(alone.aerated_ml, rel=0.01)
    assert box.start[0] > 10 * 4 / 1.5  # the gas begins there


@pytest.fixture(scope="module")
def real(shared_data, contract):
    return to_grid(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)


@pytest.mark.parametrize(
    ("part", "millilitres"),
    [
        (np.s_[:, :, 80:], 2600),  # the right side
        (np.s_[:, 115:, :], 2600),  # the front
        (np.s_[:, 60:200, 50:215], 2600),  # all round
        (np.s_[26:120, 62:192, 62:192], 1650),  # a scan of the heart
    ],
)
def test_lungs_that_the_field_cuts_off_are_found_and_flagged(real, part, millilitres):
    box = find_lungs(replace(real, array=np.ascontiguousarray(real.array[part])))
    assert box.aerated_ml == pytest.approx(millilitres, rel=0.05)
    flags = {str(flag): flag.values for flag in box.flags}
    assert 80 < flags["lungs_cut_off_sides"]["area_cm2"] < 200


def test_too_little_lung_reports_what_is_cut_off(real):
    part = replace(real, array=np.ascontiguousarray(real.array[:, :, 199:]))
    with pytest.raises(
        NotChestError, match=r"4\d mL of aerated lung, .* cuts lungs off \(5\d cm2 at the sides\)"
    ):
        find_lungs(part)


def test_a_table_on_the_border_is_no_lung(chest, contract):
    array = chest.array.copy()
    array[:, -6:] = -850
    rng = np.random.default_rng(2)
    array[:, -6:] += rng.normal(0, 15, array[:, -6:].shape).astype(np.int16)
    box = find_lungs(to_grid(chest.with_array(array), contract))
    assert box.flags == ()
    assert box.aerated_ml == pytest.approx(
        find_lungs(to_grid(chest, contract)).aerated_ml, rel=0.001
    )


@pytest.mark.parametrize("value", [-1024, -1000, 0, 500])
def test_a_scan_of_nothing_is_no_chest(chest, contract, value):
    flat = chest.with_array(np.full(chest.shape, value, dtype=np.int16))
    with pytest.raises(NotChestError):
        find_lungs(to_grid(flat, contract))


def test_a_real_scan_has_its_lungs_in_the_box(shared_data, contract):
    grid = to_grid(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)
    box = find_lungs(grid)
    assert box.aerated_ml == pytest.approx(2800, rel=0.03)
    size = np.subtract(box.stop, box.start)
    assert np.all(size >= [175, 121, 152])
    assert np.all(size <= [184, 160, 190])
    assert box.flags == ()


@given(data=st.data())
@examples(50)
def test_coarse_voxels_are_the_means_of_their_blocks(data):
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    factors = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    most = data.draw(st.sampled_from([2047, 32767]))
    dtype = data.draw(st.sampled_from([np.int16, np.float32]))
    array = np.random.default_rng(1).integers(-most, most + 1, shape).astype(dtype)
    # Whole blocks, filled with the edge.
    index = [
        np.minimum(np.arange(-(-n // f) * f), n - 1) for n, f in zip(shape, factors, strict=True)
    ]
    blocks = array[np.ix_(*index)].astype(np.float64)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, blocks.shape[axis], factor)
        blocks = np.add.reduceat(blocks, starts, axis=axis) / factor
    means = _block_means(array, np.array(factors))
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, blocks, rtol=1e-6, atol=1e-3)
