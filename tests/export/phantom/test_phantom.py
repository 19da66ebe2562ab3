"""Phantoms: exact truth, the asked severity, and the same phantom for the same spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlild_client.reading.read import read_volume
from dlild_export.phantom import (
    Acquisition,
    Pattern,
    Phantom,
    PhantomSpec,
    make_patient,
    make_phantom,
    random_spec,
    scan_patient,
)
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


def test_a_patient_is_scanned_again_with_the_same_lesions(ill: Phantom) -> None:
    patient = make_patient(ill.spec, spacing_mm=COARSE_MM)
    body = patient.hu.copy()

    again = scan_patient(patient, Acquisition(seed=99, noise_hu=10))

    assert np.array_equal(patient.hu, body)
    assert np.array_equal(again.labels, ill.labels)
    difference = again.hu.astype(float) - ill.hu
    assert 10 < difference[ill.labels >= 1].std() < 25  # two independent noises of 10 HU


def test_a_deeper_breath_makes_larger_and_darker_lungs(ill: Phantom) -> None:
    patient = make_patient(ill.spec, spacing_mm=COARSE_MM)

    deep = scan_patient(patient, Acquisition(seed=1, inspiration=1.2))
    shallow = scan_patient(patient, Acquisition(seed=1, inspiration=0.9))

    assert deep.lung_volume_ml == pytest.approx(ill.lung_volume_ml * 1.2, rel=0.02)
    assert deep.hu[deep.labels == 1].mean() < shallow.hu[shallow.labels == 1].mean() - 20
    assert deep.dl_ild_percent == pytest.approx(ill.dl_ild_percent, abs=1.0)


def test_a_shift_moves_scan_and_truth_together(ill: Phantom) -> None:
    patient = make_patient(ill.spec, spacing_mm=COARSE_MM)
    shift = (COARSE_MM, 2 * COARSE_MM, -COARSE_MM)

    moved = scan_patient(patient, Acquisition(seed=ill.spec.seed, shift_mm=shift, noise_hu=10))

    assert np.array_equal(moved.labels[1:, 2:, :-1], ill.labels[:-1, :-2, 1:])


def test_motion_blurs_the_bases_and_leaves_the_apices(ill: Phantom) -> None:
    patient = make_patient(ill.spec, spacing_mm=COARSE_MM)
    quiet = {"seed": 1, "noise_hu": 0.0, "thickness_mm": COARSE_MM}

    still = scan_patient(patient, Acquisition(**quiet)).hu
    moved = scan_patient(patient, Acquisition(**quiet, motion_mm=6.0)).hu

    z = np.flatnonzero((ill.labels >= 1).any(axis=(1, 2)))
    top = z[0] + round(0.7 * (z[-1] - z[0]))
    assert np.array_equal(moved[top:], still[top:])
    assert not np.array_equal(moved[z[0] : top], still[z[0] : top])


def test_mimics_are_no_lesions() -> None:
    spec = PhantomSpec(seed=8, atelectasis_plates=4, nodules=5, emphysema=0.2, dependent_hu=120)
    plain = make_phantom(PhantomSpec(seed=8), spacing_mm=COARSE_MM)

    phantom = make_phantom(spec, spacing_mm=COARSE_MM)

    assert phantom.dl_ild_percent == 0.0
    assert np.array_equal(phantom.labels, plain.labels)
    dense = (phantom.hu > -500) & (phantom.labels == 1)
    assert dense.sum() > ((plain.hu > -500) & (plain.labels == 1)).sum()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"severity": 1.2, "pattern": Pattern.UIP}, "severity is 1.2"),
        ({"severity": 0.2}, "name a pattern"),
        ({"thickness_mm": 0.0}, "thickness_mm is 0.0"),
        ({"noise_hu": -1.0}, "noise_hu is -1.0"),
        ({"lung_hu": 0.0}, "lung_hu is 0.0"),
        ({"emphysema": 1.0}, "emphysema is 1.0"),
        ({"nodules": -2}, "give 0 or more"),
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
