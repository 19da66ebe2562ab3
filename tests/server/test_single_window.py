import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from server.cases import CLASSES, WINDOW, make_contract, make_ruled, messages, softmax

from arrays import HOST, Arrays, plain_widen
from contract.schema import LARGEST_CLASS, LESIONS_TOGETHER
from scan import OpenScan
from single_window import SingleWindow
from slabs import Slabs

PLAIN = Arrays(np, HOST.held, 1 << 16, plain_widen, HOST.to_host, HOST.to_here)
shapes = st.tuples(st.integers(1, 13), st.integers(1, 20), st.integers(1, 20))


def tied(random, shape):
    """Probabilities of two classes that are often equal."""
    pairs = np.zeros((CLASSES, *shape), np.float16)
    share = random.choice(np.float16([0.25, 0.5, 0.75]), shape)
    first = random.integers(0, CLASSES, shape)
    for classes, values in ((first, share), ((first + 2) % CLASSES, 1 - share)):
        np.put_along_axis(pairs, classes[None], values[None], axis=0)
    return pairs


def labels_of(way, probabilities):
    way.add(probabilities, (0, 0, 0), 0)
    slices = [way.fix(z) for z in range(probabilities.shape[1])]
    assert not any(uncovered for _, uncovered, _ in slices)
    return np.stack([labels for labels, _, _ in slices]), sum(sure for _, _, sure in slices)


@examples(60)
@given(
    shapes,
    st.sampled_from([softmax, tied]),
    st.sampled_from([LARGEST_CLASS, LESIONS_TOGETHER]),
    st.integers(0, 2**32 - 1),
)
def test_labels_are_those_of_blending_to_the_last_voxel(shape, make, rule, seed):
    probabilities = make(np.random.default_rng(seed), shape)
    contract = make_ruled(rule)
    blended, blended_certainty = labels_of(Slabs(contract, shape, shape), probabilities)
    for arrays in (HOST, PLAIN):
        labels, certainty = labels_of(SingleWindow(contract, shape, arrays), probabilities)
        np.testing.assert_array_equal(labels, blended)
        np.testing.assert_allclose(certainty, blended_certainty, rtol=1e-5)
    if rule == LARGEST_CLASS:
        np.testing.assert_array_equal(blended, probabilities.argmax(axis=0))


@given(st.floats(0.9, 1.1))
def test_a_sum_is_refused_where_blending_refuses_it(factor):
    (window,) = messages(np.ones(WINDOW, np.uint8))
    window.probabilities[...] *= np.float16(factor)
    told = []
    for way in (
        SingleWindow(make_contract(), WINDOW),
        Slabs(make_contract(), WINDOW, WINDOW),
    ):
        try:
            way.add(window.probabilities, (0, 0, 0), 0)
            told.append("")
        except Exception as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_without_its_window_no_voxel_is_covered():
    _, uncovered, _ = SingleWindow(make_contract(), WINDOW).fix(0)
    assert uncovered == WINDOW[1] * WINDOW[2]


@pytest.mark.parametrize("count", [1, 2])
def test_only_a_window_that_is_the_whole_scan_goes_without_sums(count):
    lone = OpenScan.bytes_needed(WINDOW, WINDOW, 1, CLASSES)
    assert (OpenScan.bytes_needed(WINDOW, WINDOW, count, CLASSES) > lone) is (count > 1)
    scan = OpenScan(WINDOW, WINDOW, count, 3.375, make_contract())
    for index, label in enumerate((1, 2)[:count]):
        (window,) = messages(np.full(WINDOW, label, np.uint8))
        scan.add(window.probabilities * np.float16(1), (0, 0, 0), index)
    # Two windows in one place weigh the same, and the first of equals wins.
    assert (scan.finish().labels == 1).all()
