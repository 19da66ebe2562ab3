from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlild_client.preparation.prepare import prepare
from dlild_client.results.result import _doubts, _strange_volumes
from dlild_client.transport.wire import FinalAnswer


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


@pytest.mark.parametrize(
    ("right_ml", "left_ml", "named"),
    [
        (2500, 2200, None),
        (1000, 1900, None),  # a real scan
        (948, 35, {"right_ml": 948, "left_ml": 35}),
        (300, 1900, {"right_ml": 300, "left_ml": 1900}),
        (4800, 4600, {"lung_ml": 9400}),
    ],
)
def test_volumes_that_no_lungs_have_make_a_chest_doubtful(
    scan, small_contract, right_ml, left_ml, named
):
    zones = np.zeros((6, 2))
    zones[:3, 0], zones[3:, 0] = right_ml / 3, left_ml / 3
    labels = np.zeros(scan.box.shape, dtype=np.uint8)
    final = FinalAnswer(0.0, np.zeros(6), zones, None, labels)
    flags = _strange_volumes(final, replace(scan, seen=None), small_contract)
    assert [f.values for f in flags] == ([] if named is None else [pytest.approx(named)])


def test_the_sides_are_parted_at_the_spine_and_not_within_the_only_lung(scan, small_contract):
    """The zones of a single lung are halves of it."""
    seen = scan.seen
    coarse = seen.coarse.copy()
    coarse[:, 60:70, 55:65] = 500
    scan = replace(scan, seen=replace(seen, coarse=coarse))
    middle = 60 * seen.factors[2] - scan.box.start[2]
    labels = np.zeros(scan.box.shape, dtype=np.uint8)
    labels[10:50, 10:50, 2 : middle - 6] = 1
    volume = np.count_nonzero(labels) * small_contract.grid.voxel_volume_mm3 / 1000
    final = FinalAnswer(0.0, np.zeros(6), np.full((6, 2), volume / 6), None, labels)
    (flag,) = _strange_volumes(final, scan, small_contract)
    assert flag == "chest_doubtful"
    assert flag.values == {"right_ml": pytest.approx(volume, rel=1e-3), "left_ml": 0.0}
