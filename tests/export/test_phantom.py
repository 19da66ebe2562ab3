"""Phantoms: exact truth, the asked severity, and the same phantom for the same spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlild_client.read import read_volume
from dlild_export.phantom import Pattern, Phantom, PhantomSpec, make_phantom, random_spec
from dlild_export.phantom.dicom import write_dicom_series

COARSE_MM = 4.0  # the same anatomy on fewer voxels


@pytest.fixture(scope="module")
def ill() -> Phantom:
    spec = PhantomSpec(seed=11, pattern=Pattern.MIXED, severity=0.3, noise_hu=10)
    return make_phantom(spec, spacing_mm=COARSE_MM)


def test_severity_is_met_to_a_voxel(ill: Phantom) -> None:
    one_voxel = 100 / (ill.labels >= 1).sum()
    assert ill.dl_ild_percent == pytest.approx(30, abs=one_voxel)


def test_the_same_spec_gives_the_same_phantom(ill: Phantom) -> None:
    again = make_phantom(ill.spec, spacing_mm=COARSE_MM)

    assert np.array_equal(again.hu, ill.hu)
    assert np.array_equal(again.labels, ill.labels)


def test_another_seed_gives_another_patient(ill: Phantom) -> None:
    spec = PhantomSpec(seed=12, pattern=Pattern.MIXED, severity=0.3)
    other = make_phantom(spec, spacing_mm=COARSE_MM)

    assert other.hu.shape != ill.hu.shape or not np.array_equal(other.hu, ill.hu)


def test_classes_look_as_they_do_on_ct(ill: Phantom) -> None:
    mean = [ill.hu[ill.labels == label].mean() for label in range(6)]

    lung, ground_glass, consolidation = mean[1], mean[2], mean[5]
    assert lung < ground_glass - 40
    assert ground_glass < consolidation - 100
    assert consolidation > -400  # open airways run through it, and voxels are coarse here
    assert set(np.unique(ill.labels)) == set(range(6))


def test_lungs_are_of_human_size(ill: Phantom) -> None:
    assert 2000 < ill.lung_volume_ml < 9000


def test_uip_is_basal_and_subpleural() -> None:
    spec = PhantomSpec(seed=5, pattern=Pattern.UIP, severity=0.15)
    phantom = make_phantom(spec, spacing_mm=COARSE_MM)

    z = np.nonzero(phantom.labels >= 1)[0]
    lesion_z = np.nonzero(phantom.labels >= 2)[0]
    assert lesion_z.mean() < z.mean()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"severity": 1.2, "pattern": Pattern.UIP}, "severity is 1.2"),
        ({"severity": 0.2}, "name a pattern"),
        ({"thickness_mm": 0.0}, "thickness_mm is 0.0"),
    ],
)
def test_what_no_phantom_can_be_made_of(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PhantomSpec(seed=1, **changes)  # type: ignore[arg-type]


def test_random_specs_differ_and_repeat() -> None:
    assert random_spec(3) == random_spec(3)
    assert random_spec(3) != random_spec(4)


def test_dicom_holds_the_phantom(ill: Phantom, tmp_path: Path) -> None:
    slices = write_dicom_series(ill, tmp_path, pixel_mm=COARSE_MM, slice_mm=COARSE_MM)

    volume = read_volume(tmp_path)

    assert volume.array.shape[0] == slices == ill.hu.shape[0]
    assert volume.spacing_mm == pytest.approx((COARSE_MM,) * 3)
    # The client may hand the slices over in either order; the direction says which.
    upright = volume.array if volume.direction[2][0] > 0 else volume.array[::-1]
    assert np.abs(upright.astype(int) - ill.hu).max() <= 1
