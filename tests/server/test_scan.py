import tracemalloc

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from server.cases import CLASSES, WINDOW, make_contract, make_ruled, messages, softmax, tile

import memory
from contract.blending import window_weights
from contract.refusals import IncompleteError, RefusedError
from contract.schema import LARGEST_CLASS
from scan import OpenScan

box_shapes = st.tuples(*[st.integers(w, 3 * w + 3) for w in WINDOW])
volumes = box_shapes.flatmap(
    lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1))
)


def open_box(box_shape, count, window=WINDOW, contract=None):
    return OpenScan(box_shape, window, count, 3.375, contract or make_contract())


def open_for(volume):
    return open_box(volume.shape, len(tile(volume.shape)))


def add_all(scan, windows):
    for window in windows:
        scan.add(window.probabilities, window.origin, window.index)


@examples(30)
@given(volumes)
def test_a_network_that_is_always_right_gives_the_volume_back(volume):
    scan = open_for(volume)
    add_all(scan, messages(volume))
    score = scan.finish()
    np.testing.assert_array_equal(score.labels, volume)
    np.testing.assert_allclose(
        score.class_volumes_ml, np.bincount(volume.ravel(), minlength=CLASSES) * 3.375e-3
    )


@examples(30)
@given(box_shapes, st.integers(0, 2**32 - 1))
def test_labels_are_those_of_sums_over_the_whole_box(box_shape, seed):
    random = np.random.default_rng(seed)
    origins = tile(box_shape)
    scan = open_box(box_shape, len(origins), contract=make_ruled(LARGEST_CLASS))
    sums = np.zeros((CLASSES, *box_shape), np.float32)
    for index, origin in enumerate(origins):
        probabilities = softmax(random, WINDOW)
        scan.add(probabilities, origin, index)
        place = tuple(slice(o, o + w) for o, w in zip(origin, WINDOW, strict=True))
        sums[(slice(None), *place)] += probabilities * window_weights(WINDOW)
    score = scan.finish()
    np.testing.assert_array_equal(score.labels, sums.argmax(axis=0))
    counted = np.bincount(score.labels.ravel(), minlength=CLASSES)
    np.testing.assert_allclose(score.class_volumes_ml, counted * 3.375e-3)


@examples(30)
@given(volumes, st.randoms(use_true_random=False))
def test_repeats_and_the_order_within_a_row_change_nothing(volume, random):
    windows = messages(volume)
    random.shuffle(windows)
    windows.sort(key=lambda window: window.origin[0])
    scan = open_for(volume)
    for place, window in enumerate(windows):
        add_all(scan, [window, random.choice(windows[: place + 1])])
    assert scan.windows_received == len(windows)
    np.testing.assert_array_equal(scan.finish().labels, volume)


@examples(30)
@given(st.data())
def test_windows_in_any_other_order_are_refused_never_scored_otherwise(data):
    volume = data.draw(volumes)
    windows = data.draw(st.permutations(messages(volume)))
    scan = open_for(volume)
    heights = [window.origin[0] for window in windows]
    if heights == sorted(heights):
        add_all(scan, windows)
        np.testing.assert_array_equal(scan.finish().labels, volume)
    else:
        with pytest.raises(RefusedError, match="windows must come in rising order of z"):
            add_all(scan, windows)


def test_a_window_below_another_is_refused_by_value():
    scan = open_box((12, *WINDOW[1:]), 3)
    (window,) = messages(np.ones(WINDOW, np.uint8))
    scan.add(window.probabilities, (4, 0, 0), 0)
    with pytest.raises(RefusedError, match=r"origin \(3, 0, 0\) of window 1 lies below z 4"):
        scan.add(window.probabilities, (3, 0, 0), 1)


def test_a_window_of_another_shape_is_refused():
    scan = open_box((12, 16, 20), 8)
    other = np.zeros((CLASSES, 6, 8, 9), np.float16)
    with pytest.raises(RefusedError, match=r"window has shape \(6, 8, 9\), the scan began with"):
        scan.add(other, (0, 0, 0), 0)


def test_a_repeat_with_other_content_is_ignored():
    volume = np.ones(WINDOW, np.uint8)
    scan = open_for(volume)
    add_all(scan, messages(volume))
    add_all(scan, messages(volume * 3))
    assert (scan.finish().labels == 1).all()


@examples(30)
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


@pytest.mark.parametrize("gap", [1, 5, 40])
def test_voxels_in_no_window_are_refused(gap):
    """Also where the gap is longer than the slices that are held."""
    depth = WINDOW[0]
    scan = open_box((2 * depth + gap, *WINDOW[1:]), 2)
    (window,) = messages(np.ones(WINDOW, np.uint8))
    scan.add(window.probabilities, (0, 0, 0), 0)
    scan.add(window.probabilities, (depth + gap, 0, 0), 1)
    with pytest.raises(RefusedError, match=f"REFUSED: {80 * gap} voxels of the box"):
        scan.finish()


@pytest.mark.parametrize("box", [WINDOW, (9, 12, 15)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 60000, 1.5, -0.25])
def test_what_is_no_probability_is_refused(box, value):
    window = messages(np.ones(box, np.uint8))[0]
    window.probabilities[2, 1, 1, 1] = value
    scan = open_for(np.ones(box, np.uint8))
    with pytest.raises(RefusedError, match="REFUSED: the network's probabilities of window 0"):
        add_all(scan, [window])


@pytest.mark.parametrize("box", [WINDOW, (9, 12, 15)])
def test_sums_far_from_one_are_refused(box):
    window = messages(np.ones(box, np.uint8))[0]
    window.probabilities[...] *= np.float16(0.5)
    with pytest.raises(RefusedError, match=r"window 0 add up to 0\.5 a voxel, not 1"):
        add_all(open_for(np.ones(box, np.uint8)), [window])


def test_overlaps_blend_by_weight():
    depth = WINDOW[0]
    scan = open_box((depth + 1, *WINDOW[1:]), 2)
    for index, label in enumerate((1, 2)):
        (window,) = messages(np.full(WINDOW, label, np.uint8))
        scan.add(window.probabilities, (index, 0, 0), index)
    labels = scan.finish().labels
    # Each half of the box goes to the window whose middle is nearer.
    assert (labels[: depth // 2] == 1).all()
    assert (labels[depth // 2 + 1 :] == 2).all()


def window_heights(box_shape, window):
    """First slices of windows as wide as the box."""
    step = window[0] * 3 // 4
    return [*range(0, box_shape[0] - window[0], step), box_shape[0] - window[0]]


def peak_bytes(box_shape, window):
    """Most bytes that a scan held, by Python's own count, beside the windows themselves.

    Pages that are no Python memory must be made in it (`_traced`).
    """
    probabilities = np.zeros((CLASSES, *window), np.float16)
    probabilities[2:] = 0.25  # lesions of any class everywhere: what labelling costs most
    heights = window_heights(box_shape, window)
    window_weights(window)  # shared by all scans
    tracemalloc.start()
    try:
        scan = open_box(box_shape, len(heights), window)
        for index, z in enumerate(heights):
            scan.add(probabilities, (z, 0, 0), index)
        scan.finish()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def _traced(monkeypatch):
    monkeypatch.setattr(memory, "_take_pages", bytearray)
    monkeypatch.setattr(memory, "_keep_pages", lambda pages: None)


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("slices", [24, 48, 96, 192])
def test_bytes_needed_are_the_peak(slices):
    window = (24, 48, 40)
    box = (slices, 48, 40)
    count = len(window_heights(box, window))
    needed = OpenScan.bytes_needed(box, window, count, CLASSES)
    # Python's own objects come on top, a few KB.
    assert needed * 0.97 < peak_bytes(box, window) < needed + 32_768


def test_more_slices_cost_their_labels_and_counts_only():
    window = (24, 48, 40)
    short, long = (OpenScan.bytes_needed((n, 48, 40), window, 9, CLASSES) for n in (48, 192))
    assert long - short == (192 - 48) * (48 * 40 + 2 * 40 * 4)
