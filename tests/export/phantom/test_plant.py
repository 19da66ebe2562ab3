"""Lesions planted in a scan: their share is exact, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from dlild_client.volume import SeriesInfo, Volume
from dlild_export.phantom import Pattern, Phantom, PhantomSpec, make_phantom, plant_lesions

SPACING_MM = 4.0


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return make_phantom(PhantomSpec(seed=31, noise_hu=15), spacing_mm=SPACING_MM)


def volume_of(phantom: Phantom, thickness_mm: float | None = None) -> Volume:
    series = SeriesInfo(slice_thickness_mm=thickness_mm)
    return Volume(phantom.hu, (SPACING_MM,) * 3, series=series)


@examples(8)
@given(
    pattern=st.sampled_from([p for p in Pattern if p is not Pattern.NONE]),
    severity=st.floats(0.01, 0.8),
    seed=st.integers(0, 1000),
)
def test_the_share_is_met_to_a_voxel(
    healthy: Phantom, pattern: Pattern, severity: float, seed: int
) -> None:
    lungs = healthy.labels >= 1

    hu, labels = plant_lesions(
        volume_of(healthy), lungs, pattern=pattern, severity=severity, seed=seed
    )

    assert hu.dtype == np.int16
    assert np.array_equal(labels >= 1, lungs)
    assert (labels >= 2).sum() == pytest.approx(severity * lungs.sum(), abs=1)


def test_nothing_changes_away_from_the_lesions(healthy: Phantom) -> None:
    lungs = healthy.labels >= 1
    before = healthy.hu.copy()

    hu, labels = plant_lesions(
        volume_of(healthy), lungs, pattern=Pattern.ORGANISING, severity=0.2, seed=1
    )

    far = ~ndimage.binary_dilation(labels >= 2, iterations=6)
    assert np.array_equal(hu[far], healthy.hu[far])
    assert np.array_equal(healthy.hu, before)
    assert hu[labels == 5].mean() > -350
    assert hu[labels == 5].mean() > healthy.hu[labels == 5].mean() + 300


def test_thick_slices_blur_what_is_planted(healthy: Phantom) -> None:
    lungs = healthy.labels >= 1

    def edges(thickness_mm: float) -> float:
        hu, labels = plant_lesions(
            volume_of(healthy, thickness_mm),
            lungs,
            pattern=Pattern.ORGANISING,
            severity=0.2,
            seed=1,
        )
        change = hu.astype(float) - healthy.hu
        return float(np.abs(np.diff(change, axis=0))[(labels[1:] >= 2)].mean())

    assert edges(16.0) < 0.8 * edges(1.0)


def test_no_lungs_is_an_error(healthy: Phantom) -> None:
    empty = np.zeros(healthy.hu.shape, bool)

    with pytest.raises(ValueError, match="nowhere to plant"):
        plant_lesions(volume_of(healthy), empty, pattern=Pattern.UIP, severity=0.1, seed=0)
    with pytest.raises(ValueError, match="give one grid"):
        plant_lesions(volume_of(healthy), empty[1:], pattern=Pattern.UIP, severity=0.1, seed=0)
