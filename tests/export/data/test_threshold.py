"""The threshold segmentation against phantoms whose lungs are known."""

from __future__ import annotations

import numpy as np
import pytest

from dlild_export.data.threshold import (
    NoLungsError,
    closed_by_ball,
    doubtful_tissue,
    label_no_lesion,
    threshold_lungs,
)
from dlild_export.phantom import Phantom, PhantomSpec, make_phantom

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(PhantomSpec(seed=21, noise_hu=5), spacing_mm=SPACING_MM)


def test_healthy_lungs_are_found_whole() -> None:
    phantom = make_phantom(PhantomSpec(seed=21, noise_hu=15), spacing_mm=SPACING_MM)

    found = threshold_lungs(phantom.hu, SPACING_MM)

    truth = phantom.labels >= 1
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.97
    assert found.sum() == pytest.approx(truth.sum(), rel=0.05)


def test_a_body_without_lungs_is_refused() -> None:
    with pytest.raises(NoLungsError, match="no lung"):
        threshold_lungs(np.full((40, 60, 60), 40, np.int16), SPACING_MM)


def test_a_mass_in_the_lung_is_doubtful_and_vessels_are_not(phantom: Phantom) -> None:
    lungs = phantom.labels >= 1
    z, y, x = (int(v) for v in np.argwhere(lungs)[lungs.sum() // 2])
    hu = phantom.hu.copy()
    grid = np.ogrid[tuple(slice(0, n) for n in hu.shape)]
    ball = sum((a - c) ** 2 for a, c in zip(grid, (z, y, x), strict=True)) <= (15 / SPACING_MM) ** 2
    before = doubtful_tissue(phantom.hu, lungs, SPACING_MM)
    hu[ball] = 40

    doubtful = doubtful_tissue(hu, lungs, SPACING_MM)

    assert doubtful[ball & lungs].mean() > 0.95
    assert (before & lungs).sum() < 0.1 * lungs.sum()


def test_without_lesions_a_mass_is_outside_and_vessels_are_lung(phantom: Phantom) -> None:
    lungs = threshold_lungs(phantom.hu, SPACING_MM)
    z, y, x = (int(v) for v in np.argwhere(lungs)[lungs.sum() // 2])
    grid = np.ogrid[tuple(slice(0, n) for n in lungs.shape)]
    ball = sum((a - c) ** 2 for a, c in zip(grid, (z, y, x), strict=True)) <= (15 / SPACING_MM) ** 2
    hu = phantom.hu.copy()
    hu[ball] = 40

    labels = label_no_lesion(hu, lungs, SPACING_MM)

    assert set(np.unique(labels)) == {0, 1}
    assert labels[ball].mean() < 0.05
    vessels = lungs & ~doubtful_tissue(hu, lungs, SPACING_MM) & (hu > -300)
    assert labels[vessels].mean() > 0.9
    assert labels[lungs & ~ball & (phantom.hu < -600)].all()


def test_nothing_is_closed_to_nothing() -> None:
    assert not closed_by_ball(np.zeros((5, 6), dtype=np.bool_), 2.0).any()
