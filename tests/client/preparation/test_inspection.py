from __future__ import annotations

from dataclasses import replace
from functools import cache
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.preparation.inspection import (
    blood_hu,
    inspect_chest,
    judge_breath,
    metal_ml,
    most_frequent_hu,
    noise_hu,
    strange_lungs,
)
from dlild_client.preparation.lungs import SeenChest
from dlild_client.preparation.prepare import prepare
from dlild_client.preparation.trachea import measure_trachea
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume

SHAPE, SPACING = (120, 120, 200), (1.5, 1.5, 1.5)
EVERY = (slice(None, None, 2),) * 3


@cache
def anatomy():
    """Body, lungs and heart as masks, and noise of unit variance."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    body = (y / 0.9) ** 2 + (x / 0.95) ** 2 < 1
    lungs = np.zeros(SHAPE, dtype=bool)
    for side in (-1, 1):
        lungs |= (z / 0.9) ** 2 + (y / 0.6) ** 2 + ((x - side * 0.55) / 0.28) ** 2 < 1
    heart = ((z + 0.1) / 0.7) ** 2 + ((y + 0.2) / 0.7) ** 2 + (x / 0.3) ** 2 < 1
    noise = np.random.default_rng(4).normal(0, 1, SHAPE).astype(np.float32)
    return body, lungs, heart & ~lungs, noise, (z, y, x)


def chest(lung=-850, blood=40, noise=8, trachea="round") -> tuple[Volume, SeenChest]:
    """A chest on the grid, and what a search for its lungs would have seen of it."""
    body, lungs, heart, unit, (z, y, x) = anatomy()
    hu = np.full(SHAPE, -1000.0, dtype=np.float32)
    hu[body] = 50
    hu[lungs] = lung
    hu[heart] = blood
    hu[_trachea(y, x, trachea) & (z > 0.2)] = -1000
    hu += noise * unit
    grid = Volume(np.rint(np.clip(hu, -1024, 2047)).astype(np.int16), SPACING)
    seen = SeenChest(
        coarse=hu[EVERY],
        body=(body & ~lungs)[EVERY],
        inner=lungs[EVERY],
        lungs=lungs[EVERY],
        outside=~body[EVERY],
        spacing=np.array([3.0, 3.0, 3.0]),
        factors=(2, 2, 2),
    )
    return grid, seen


def _trachea(y, x, form):
    radius = 0.1
    across, along = x * 200 / 120, y + 0.05
    tube = across**2 + along**2 < radius**2
    if form == "flat":
        return (across / 1.5) ** 2 + (along / 0.55) ** 2 < radius**2
    if form == "bowed":
        # The back wall bulges into the tube.
        return tube & ~(across**2 + (along - radius) ** 2 < (0.85 * radius) ** 2)
    return tube


def litres(seen):
    return float(seen.lungs.sum()) * 27 / 1000


def codes(flags):
    return {str(f): f.values for f in flags}


def test_a_good_scan_raises_no_flag():
    grid, seen = chest()
    assert inspect_chest(grid, seen, litres(seen)) == []


@pytest.mark.parametrize(("blood", "flagged"), [(35, False), (60, False), (120, True), (350, True)])
def test_contrast_is_seen_in_the_blood(blood, flagged):
    grid, seen = chest(blood=blood)
    assert blood_hu(seen) == pytest.approx(blood, abs=12)
    assert ("contrast_likely" in codes(inspect_chest(grid, seen, litres(seen)))) is flagged


@pytest.mark.parametrize(
    ("lung", "form", "millilitres", "flagged"),
    [
        (-850, "round", 4500, False),
        (-850, "round", 1800, False),  # fibrosis makes lungs small
        (-720, "round", 4500, False),  # disease makes lungs dense
        (-720, "round", 2000, True),
        (-720, "flat", 4500, True),
        (-850, "bowed", 2000, True),
        (-850, "bowed", 4500, False),
    ],
)
def test_two_of_three_signs_make_an_expiration_likely(lung, form, millilitres, flagged):
    grid, seen = chest(lung=lung, trachea=form)
    breath = judge_breath(grid, seen, millilitres)
    assert breath.expiration is flagged
    assert breath.values["lung_hu"] == pytest.approx(lung, abs=15)
    assert most_frequent_hu(seen) == breath.values["lung_hu"]
    assert ("expiration_likely" in codes(inspect_chest(grid, seen, millilitres))) is flagged


def test_the_windpipe_is_measured_as_it_is():
    found = {form: measure_trachea(*chest(trachea=form)) for form in ("round", "flat", "bowed")}
    assert all(t.slices > 15 for t in found.values())
    assert found["round"].ratio == pytest.approx(1.0, abs=0.1)
    assert found["flat"].ratio == pytest.approx(0.37, abs=0.1)
    assert found["round"].bow < 0.03 < 0.1 < found["bowed"].bow


def test_no_windpipe_is_no_measure_and_no_sign():
    grid, seen = chest(lung=-720)
    solid = grid.with_array(np.where(seen_up(seen), grid.array, 40).astype(np.int16))
    assert measure_trachea(solid, seen) is None
    assert not judge_breath(solid, seen, 4500).expiration


def seen_up(seen):
    return np.kron(seen.lungs, np.ones((2, 2, 2), dtype=bool))


def test_metal_counts_in_the_body_beside_lung_only():
    grid, seen = chest()
    array = grid.array.copy()
    array[60:80, 100:105, 100:110] = 2047  # in the back
    inside = metal_ml(grid.with_array(array), seen)
    assert inside == pytest.approx(20 * 5 * 10 * 3.375 / 1000, rel=0.1)
    assert "metal_likely" in codes(inspect_chest(grid.with_array(array), seen, 4000))
    outside = grid.array.copy()
    outside[60:80, :10, :20] = 2047  # a lead on the blanket
    outside[:3, 50:70, 100:120] = 2047  # below the lungs
    assert metal_ml(grid.with_array(outside), seen) == 0


@given(noise=st.floats(3, 120))
def test_noise_is_measured_to_a_tenth(noise):
    rng = np.random.default_rng(9)
    array = np.rint(rng.normal(50, noise, (12, 60, 60))).astype(np.int16)
    array[:, :, :20] -= 900
    measured = noise_hu(Volume(array, SPACING))
    # Whole HU: the median deviation is right to half of one. Beyond what soft tissue spans, the
    # window of tissue cuts the tails off.
    assert measured == pytest.approx(noise, rel=0.1 if noise < 40 else 0.3, abs=0.75)


def test_heavy_noise_and_little_lung_leave_flags():
    grid, seen = chest(noise=110)
    told = codes(inspect_chest(grid, seen, 500))
    assert told["heavy_noise"]["noise_hu"] > 60
    assert told["chest_doubtful"] == {"aerated_ml": 500}


@pytest.mark.parametrize(
    ("millilitres", "spacing", "names"),
    [
        (4500, (3.0, 3.0, 3.0), set()),
        (9400, (3.0, 3.0, 3.0), {"aerated_ml"}),
        (4500, (9.0, 3.0, 3.0), {"height_mm"}),
        (4500, (1.5, 3.0, 3.0), set()),  # no spine, no second lung to compare with
    ],
)
def test_volumes_and_lengths_that_no_lungs_have_are_named(millilitres, spacing, names):
    _, seen = chest()
    strange = strange_lungs(replace(seen, spacing=np.array(spacing)), millilitres)
    assert set(strange) == names


@pytest.mark.parametrize(
    ("factor", "flagged"), [(1.0, False), (0.5, True), (2.0, True), (3.0, True)]
)
def test_a_real_scan_with_steps_of_another_length_is_a_doubtful_chest(real_seen, factor, flagged):
    seen, millilitres = real_seen
    spacing = seen.spacing * [factor, 1, 1]
    strange = strange_lungs(replace(seen, spacing=spacing), millilitres * factor)
    assert ("height_mm" in strange) is flagged


def test_a_lung_alone_is_not_judged_by_its_shape(real_seen):
    seen, _ = real_seen
    for side in (np.s_[:, :, :63], np.s_[:, :, 63:]):
        lungs = seen.lungs.copy()
        lungs[side] = False
        assert strange_lungs(replace(seen, lungs=lungs), 1500) == {}


@pytest.fixture(scope="module")
def real_seen(shared_data, contract):
    scan = prepare(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)
    return scan.seen, scan.aerated_ml


def test_nothing_is_measured_where_nothing_is_seen():
    grid, seen = chest()
    empty = replace(seen, lungs=np.zeros_like(seen.lungs))
    air = grid.with_array(np.full(SHAPE, -1000, dtype=np.int16))
    assert blood_hu(empty) is None
    assert most_frequent_hu(empty) is None
    assert measure_trachea(grid, empty) is None
    assert noise_hu(air) is None
    assert metal_ml(air, seen) == 0
    assert codes(inspect_chest(air, empty, 4000)) == {}


def test_a_real_scan_raises_no_flag_and_its_numbers_are_plausible(shared_data, contract):
    scan = prepare(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)
    assert scan.flags == ()
    assert blood_hu(scan.seen) == pytest.approx(55, abs=5)
    assert most_frequent_hu(scan.seen) == pytest.approx(-845, abs=10)
    assert measure_trachea(scan.grid, scan.seen).ratio == pytest.approx(1.1, abs=0.15)
    assert noise_hu(scan.grid) == pytest.approx(10.5, abs=2)


def test_windows_are_ready_before_the_chest_is_inspected(monkeypatch, contract):
    """The network can work meanwhile; the flags wait for the inspection, and are all there."""
    volume, _ = chest(blood=250)
    may_inspect = Event()

    def inspect_when_asked(*arguments):
        assert may_inspect.wait(60)
        return inspect_chest(*arguments)

    monkeypatch.setattr("dlild_client.preparation.prepare.inspect_chest", inspect_when_asked)
    prepared = prepare(volume, contract)
    sent = [window for _, window in prepared.windows(contract.hu.padding)]
    assert len(sent) == len(prepared.plan.origins)
    assert prepared.inspection is not None
    assert not prepared.inspection.done()
    may_inspect.set()
    assert "contrast_likely" in prepared.flags
