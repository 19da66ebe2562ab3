"""Density of the lung on the scanned voxels, against published figures and plain computation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from client.results.labelled import labelled_result
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract.score import ZONES
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.native import crop
from dlild_client.results.densitometry import (
    HIGHEST_HU,
    LOWEST_HU,
    PERCENTILES,
    Densitometry,
    describe,
    find_disagreement,
    measure_density,
)
from dlild_client.slabs import Slabs
from dlild_client.volume import Volume

GOLDEN = Path(__file__).parents[2] / "golden" / "densitometry" / "expected.json"


def histogram_of(values: np.ndarray) -> np.ndarray:
    return np.bincount(values - LOWEST_HU, minlength=HIGHEST_HU - LOWEST_HU + 1).astype(float)


def test_the_figures_that_the_chest_imaging_platform_published_of_its_test_scan():
    golden = json.loads(GOLDEN.read_text("utf-8"))
    values = np.repeat(
        np.array(list(map(int, golden["histogram"]))), list(golden["histogram"].values())
    )
    published = golden["published"]
    found = describe(histogram_of(values), golden["voxel_ml"])
    assert found.volume_ml / 1000 == pytest.approx(published["volume (L)"], rel=1e-5)
    assert found.mean_hu == pytest.approx(published["intensityMean"], rel=1e-6)
    assert found.mean_hu == pytest.approx(-873.814, abs=5e-4)
    assert found.sd_hu == pytest.approx(published["intensitySTD"], abs=5e-4)
    assert found.skewness == pytest.approx(published["skewness"], rel=1e-5)
    assert found.kurtosis == pytest.approx(published["kurtosis"], rel=1e-5)
    assert found.low_attenuation_percent == pytest.approx(published["%Below-950"], rel=1e-5)
    assert found.low_attenuation_percent == pytest.approx(19.662, abs=5e-4)
    above = published["%Above-600"] - published["%Above-250"]
    assert found.high_attenuation_percent == pytest.approx(above, rel=1e-5)
    assert found.mass_g == pytest.approx(published["mass (g)"], rel=1e-6)
    # The platform names the last HU below which less than the percentage lies: one less.
    assert found.percentiles_hu["10"] == published["tenthPercentileHU"] + 1
    assert found.percentiles_hu["15"] == published["fifteenthPercentileHU"] + 1


@examples(50)
@given(st.lists(st.integers(-1024, 400), min_size=2, max_size=300))
def test_moments_and_percentiles_are_those_of_the_values(values):
    v = np.array(values)
    found = describe(histogram_of(v), 0.002)
    assert found.mean_hu == pytest.approx(v.mean(), abs=1e-9)
    assert found.sd_hu == pytest.approx(v.std(), abs=1e-9)
    if v.std():
        z = (v - v.mean()) / v.std()
        assert found.skewness == pytest.approx((z**3).mean(), rel=1e-6, abs=1e-6)
        assert found.kurtosis == pytest.approx((z**4).mean(), rel=1e-6)
    else:
        assert found.skewness is found.kurtosis is None
    for q in PERCENTILES:
        assert found.percentiles_hu[str(q)] == np.percentile(v, q, method="inverted_cdf")
    assert found.high_attenuation_percent == pytest.approx(100 * ((v > -600) & (v <= -250)).mean())
    assert found.low_attenuation_percent == pytest.approx(100 * (v < -950).mean())
    assert found.mass_g == pytest.approx(((v + 1000) / 1000 * 0.002).sum(), abs=1e-9)


def measured(volume: Volume, contract, result=None):
    result = result or labelled_result(volume, contract)
    grid = result.image
    native = crop(volume, grid, (0, 0, 0), grid.shape)
    return measure_density(native, result.labels, contract), result


def noisy(chest: Volume) -> Volume:
    noise = np.random.default_rng(5).integers(-60, 60, chest.shape)
    return replace(chest, array=(chest.array + noise).clip(-1024, None).astype(np.int16))


def test_zones_are_those_of_the_score_and_add_up(chest_maker, contract):
    volume = noisy(chest_maker((50, 60, 80), (4.0, 3.0, 3.0)))
    found, result = measured(volume, contract)
    assert found.lung.volume_ml == pytest.approx(result.lung_volume_ml, rel=0.04)
    assert list(found.zones) == list(ZONES)
    for name, zone in found.zones.items():
        assert zone.volume_ml == pytest.approx(result.zones[name].lung_ml, rel=0.1, abs=3)
    for name in ("volume_ml", "mass_g"):
        whole = sum(getattr(z, name) for z in found.zones.values())
        assert whole == pytest.approx(getattr(found.lung, name))
    mean = sum(z.mean_hu * z.volume_ml for z in found.zones.values()) / found.lung.volume_ml
    assert mean == pytest.approx(found.lung.mean_hu)


def test_it_is_measured_on_the_scanned_voxels_not_on_the_grid(chest_maker, contract):
    """Averaging to the grid would shrink noise of scanned voxels."""
    volume = noisy(chest_maker((60, 80, 100), (2.0, 0.7, 0.7)))
    found, result = measured(volume, contract)
    on_grid = result.image.array[np.isin(result.labels.array, contract.lung_labels)]
    assert found.lung.sd_hu > 1.1 * on_grid.std()


def test_turning_a_scan_round_swaps_the_sides(chest_maker, contract):
    volume = noisy(chest_maker((40, 60, 80), (4.0, 3.0, 3.0)))
    found, result = measured(volume, contract)
    mirrored = replace(volume, array=np.ascontiguousarray(volume.array[:, :, ::-1]))
    labels = result.labels.with_array(np.ascontiguousarray(result.labels.array[:, :, ::-1]))
    again, _ = measured(mirrored, contract, replace(result, labels=labels))
    assert again.lung == found.lung
    for name in ZONES:
        other = name.replace("right", "LEFT").replace("left", "right").lower()
        assert again.zones[other] == found.zones[name]


def test_lazy_slabs_and_cropping_change_nothing(chest_maker, contract):
    volume = noisy(chest_maker((50, 60, 80), (4.0, 3.0, 3.0)))
    found, result = measured(volume, contract)

    def fill(first, out):
        out[...] = volume.array[first : first + len(out)]

    lazy = replace(volume, array=Slabs(volume.shape, fill))
    used = np.argwhere(result.labels.array)
    start, stop = used.min(axis=0), used.max(axis=0) + 1
    for scan in (volume, lazy):
        native = crop(scan, result.image, start, stop)
        assert native.array.size < 0.7 * volume.array.size
        assert measure_density(native, result.labels, contract) == found


def test_slices_count_by_the_length_that_they_stand_for(chest_maker, contract):
    """A stretch scanned twice as finely must not count twice."""
    even = noisy(chest_maker((60, 50, 60), (3.0, 4.0, 4.0)))
    keep = [k for k in range(60) if k < 30 or k % 2 == 0]
    uneven = replace(
        even,
        array=even.array[keep],
        spacing_mm=(3.0 * keep[-1] / (len(keep) - 1), 4.0, 4.0),
        slice_positions_mm=tuple(3.0 * k for k in keep),
    )
    whole, result = measured(even, contract)
    found, _ = measured(uneven, contract, replace(result, image=to_grid(uneven, contract)))
    assert found.lung.volume_ml == pytest.approx(whole.lung.volume_ml, rel=0.02)
    assert found.lung.mass_g == pytest.approx(whole.lung.mass_g, rel=0.02)


def test_a_zone_without_lung_has_no_figures(chest_maker, contract):
    volume = chest_maker((40, 50, 60), (5.0, 4.0, 4.0))
    _, result = measured(volume, contract)
    nothing = result.labels.with_array(np.zeros_like(result.labels.array))
    found, _ = measured(volume, contract, replace(result, labels=nothing))
    assert found.lung.volume_ml == found.lung.mass_g == 0
    assert found.lung.mean_hu is None
    assert set(found.lung.percentiles_hu.values()) == {None}


@pytest.mark.parametrize(
    ("index", "high", "flagged"),
    [
        (3.0, 5.5, False),
        (20.0, 15.0, False),
        (14.0, 2.0, False),
        (2.0, 14.9, False),
        (20.0, 6.0, True),
        (4.0, 16.0, True),
        (15.0, 5.0, False),
        (0.0, 15.0, True),
    ],
)
def test_a_gross_contradiction_is_flagged(index, high, flagged):
    histogram = np.zeros(HIGHEST_HU - LOWEST_HU + 1)
    histogram[-400 - LOWEST_HU], histogram[-850 - LOWEST_HU] = 10 * high, 10 * (100 - high)
    lung = describe(histogram, 0.001)
    flags = find_disagreement(index, Densitometry(lung, {}))
    assert bool(flags) is flagged
    if flags:
        assert flags[0].values["high_attenuation_percent"] == pytest.approx(high)
