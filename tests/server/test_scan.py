import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from server.cases import CLASSES, WINDOW, make_contract, messages, tile

from refusals import IncompleteError, RefusedError
from scan import OpenScan

box_shapes = st.tuples(*[st.integers(w, 2 * w + 3) for w in WINDOW])
volumes = box_shapes.flatmap(
    lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1))
)


def open_for(volume):
    return OpenScan(volume.shape, len(tile(volume.shape)), 3.375, make_contract())


def add_all(scan, windows):
    for window in windows:
        scan.add(window.probabilities, window.origin, window.index)


@settings(max_examples=30, deadline=None)
@given(volumes)
def test_a_network_that_is_always_right_gives_the_volume_back(volume):
    scan = open_for(volume)
    add_all(scan, messages(volume))
    score = scan.finish()
    np.testing.assert_array_equal(score.labels, volume)
    np.testing.assert_allclose(
        score.class_volumes_ml, np.bincount(volume.ravel(), minlength=CLASSES) * 3.375e-3
    )


@settings(max_examples=30, deadline=None)
@given(volumes, st.randoms(use_true_random=False))
def test_order_and_repeats_of_windows_change_nothing(volume, random):
    windows = messages(volume)
    shuffled = [*windows, *random.choices(windows, k=3)]
    random.shuffle(shuffled)
    scan = open_for(volume)
    add_all(scan, shuffled)
    assert scan.windows_received == len(windows)
    np.testing.assert_array_equal(scan.finish().labels, volume)


def test_a_repeat_with_other_content_is_ignored():
    volume = np.ones(WINDOW, np.uint8)
    scan = open_for(volume)
    add_all(scan, messages(volume))
    add_all(scan, messages(volume * 3))
    assert (scan.finish().labels == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_dropped_window_never_scores(data):
    volume = np.ones((12, 16, 20), np.uint8)
    windows = messages(volume)
    lost = data.draw(st.sets(st.sampled_from(range(len(windows))), min_size=1))
    scan = open_for(volume)
    add_all(scan, [window for window in windows if window.index not in lost])
    with pytest.raises(IncompleteError) as error:
        scan.finish()
    named = ", ".join(map(str, sorted(lost)[:10]))
    assert str(error.value).startswith(
        f"INCOMPLETE: {len(lost)} of {len(windows)} windows are missing: {named}"
    )


def test_voxels_in_no_window_are_refused():
    scan = OpenScan((WINDOW[0] + 1, *WINDOW[1:]), 1, 3.375, make_contract())
    add_all(scan, messages(np.ones(WINDOW, np.uint8)))
    with pytest.raises(RefusedError, match="REFUSED: 80 voxels of the box"):
        scan.finish()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 60000])
def test_what_is_no_probability_is_refused(value):
    (window,) = messages(np.ones(WINDOW, np.uint8))
    window.probabilities[2, 1, 1, 1] = value
    scan = open_for(np.ones(WINDOW, np.uint8))
    with pytest.raises(RefusedError, match="REFUSED: the network's probabilities of window 0"):
        add_all(scan, [window])


def test_overlaps_blend_by_weight():
    depth = WINDOW[0]
    scan = OpenScan((depth + 1, *WINDOW[1:]), 2, 3.375, make_contract())
    for index, label in enumerate((1, 2)):
        (window,) = messages(np.full(WINDOW, label, np.uint8))
        scan.add(window.probabilities, (index, 0, 0), index)
    labels = scan.finish().labels
    # Each half of the box goes to the window whose middle is nearer.
    assert (labels[: depth // 2] == 1).all()
    assert (labels[depth // 2 + 1 :] == 2).all()


def test_bytes_needed_are_the_bytes_held():
    scan = OpenScan((7, 8, 10), 1, 3.375, make_contract())
    held = scan._sums.nbytes + scan._covered.nbytes
    assert OpenScan.bytes_needed((7, 8, 10), CLASSES) == held
