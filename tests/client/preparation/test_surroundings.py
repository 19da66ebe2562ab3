"""What lies beside the patient is not sent, and all that may be lung is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract.windows import extract_window
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.lungs import find_lungs
from dlild_client.preparation.prepare import prepare
from dlild_client.preparation.surroundings import in_voxels
from dlild_client.reading.read import read_volume

NEAR_SKIN_MM = 9.0


def covered(chest):
    """Lay a blanket over the chest, down to its sides, and foam with a cover under its back.

    In a wider field; where cloth lies is returned as well.
    """
    wider = np.pad(chest.array, ((0, 0), (20, 20), (10, 10)), constant_values=-1000)
    chest = replace(chest, array=wider)
    _, y, x = (np.arange(n) * s for n, s in zip(chest.shape, chest.spacing_mm, strict=True))
    body = (chest.array > -500).any(axis=0)
    rows = np.flatnonzero(body.any(axis=1))
    columns = np.flatnonzero(body.any(axis=0))
    front, back = y[rows[0]], y[rows[-1]]
    wide = (x > x[columns[0]] - 20) & (x < x[columns[-1]] + 20)
    cloth = np.zeros(chest.shape[1:], dtype=bool)
    for column in np.flatnonzero(wide):
        inside = np.flatnonzero(body[:, column])
        face = y[inside[0]] if len(inside) else back
        cloth[(y > front - 40) & (y < face), column] = True
    foam = (y > back) & (y < back + 40)
    texture = np.random.default_rng(7).normal(-850, 60, chest.shape)
    outside = np.broadcast_to(cloth, chest.shape) & (chest.array < -900)
    outside |= np.broadcast_to((foam[:, None] & wide), chest.shape) & (chest.array < -900)
    array = np.where(outside, np.clip(texture, -1000, -600), chest.array).astype(np.int16)
    cover = int(np.searchsorted(y, back + 40))
    array[:, cover : cover + 1, wide] = 40
    cloth_alone = np.where(outside, 1000, -1000).astype(np.int16)
    return chest, chest.with_array(array), chest.with_array(cloth_alone)


def test_blankets_and_foam_are_padding_and_the_patient_is_sent_as_scanned(chest, contract):
    wide, volume, cloth = covered(chest)
    prepared = prepare(volume, contract)
    grid, plan, padding = prepared.grid.array, prepared.plan, contract.hu.padding
    there = to_grid(cloth, contract).array > 500
    body = to_grid(wide, contract).array > -900
    reach = int(NEAR_SKIN_MM / contract.grid.spacing_mm[0])
    near = body.copy()
    for axis in range(3):
        for step in range(1, reach + 1):
            near |= np.roll(body, step, axis) | np.roll(body, -step, axis)
    seen = sent = 0
    for origin, window in prepared.windows(padding):
        plain = extract_window(grid, prepared.box, origin, plan.shape, padding)
        region = [
            slice(a + o, a + o + n)
            for a, o, n in zip(prepared.box.start, origin, plan.shape, strict=True)
        ]
        held = tuple(slice(0, n) for n in body[tuple(region)].shape)
        patient, far = body[tuple(region)], (there & ~near)[tuple(region)]
        assert np.array_equal(window[held][patient], plain[held][patient])
        seen += int(far.sum())
        sent += int((window[held][far] != padding).sum())
    assert seen > 10_000
    assert sent < 0.01 * seen


@pytest.fixture(scope="module")
def real(shared_data, contract):
    return to_grid(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)


@pytest.fixture(scope="module")
def lung(real):
    """Aerated lung of the whole scan."""
    seen = find_lungs(real).seen
    return in_voxels(seen.lungs, seen.factors, real.shape) & (real.array < -500)


@given(data=st.data())
@examples(25)
def test_lung_is_sent_wherever_the_field_cuts_the_chest_open(real, lung, data):
    part = tuple(
        slice(data.draw(st.integers(0, most)), n - data.draw(st.integers(0, most)))
        for n, most in zip(real.shape, (60, 95, 95), strict=True)
    )
    cropped = replace(real, array=np.ascontiguousarray(real.array[part]))
    seen = find_lungs(cropped, minimum_ml=50).seen
    lost = lung[part] & in_voxels(seen.outside, seen.factors, cropped.shape)
    assert lost.sum() <= 0.001 * lung[part].sum()


def test_lung_beside_blank_slices_is_sent(real, lung):
    array = real.array.copy()
    array[70:80] = -1024
    seen = find_lungs(real.with_array(array)).seen
    assert not (lung & in_voxels(seen.outside, seen.factors, real.shape)).any()
