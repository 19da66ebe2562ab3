from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlild_client.preparation.prepare import prepare
from dlild_client.result import _doubts


@pytest.fixture(scope="module")
def scan(chest, small_contract):
    """A scan whose lung box ends within the patient, so that lung may go on beyond it."""
    prepared = prepare(chest, small_contract)
    start, stop = prepared.box.start, prepared.box.stop
    cut = replace(prepared.box, start=(start[0] + 30, *start[1:]), stop=stop)
    return replace(prepared, box=cut)


def labels_on_bottom(scan, where):
    """Lung on the lowest face of the box: where the patient is, or in the air round it."""
    box, factors = scan.box, scan.seen.factors
    z, y, x = np.ogrid[tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))]
    last = [n - 1 for n in scan.seen.body.shape]
    index = [np.minimum(i // f, n) for i, f, n in zip((z, y, x), factors, last, strict=True)]
    patient = (scan.seen.body | scan.seen.inner)[tuple(np.broadcast_arrays(*index))]
    labels = np.zeros(box.shape, dtype=np.uint8)
    labels[0] = (patient if where == "patient" else ~patient)[0]
    return labels


def test_lung_on_a_face_of_the_box_is_flagged_with_its_area(scan, small_contract):
    labels = labels_on_bottom(scan, "patient")
    assert labels.any()
    flags = _doubts(labels, scan, small_contract, spilled=False)
    assert flags == ("lungs_at_box_edge",)
    assert flags[0].values["area_cm2"] == pytest.approx(labels[0].sum() * 2.25 / 100)


def test_air_round_the_patient_that_passes_for_lung_was_not_cut_off(scan, small_contract):
    labels = labels_on_bottom(scan, "air")
    assert labels.any()
    assert _doubts(labels, scan, small_contract, spilled=False) == ()
    # Where nobody knows the patient from the air, the doubt stands.
    blind = replace(scan, seen=None)
    assert _doubts(labels, blind, small_contract, spilled=False) == ("lungs_at_box_edge",)


def test_labels_beyond_the_scan_are_flagged(scan, small_contract):
    labels = np.zeros(scan.box.shape, dtype=np.uint8)
    assert _doubts(labels, scan, small_contract, spilled=True) == ("labels_beyond_scan",)
