import numpy as np
import pytest
from server.cases import CLASSES, WINDOW, make_contract, tile

from arrays import HOST, Arrays, arrays_of, device, plain_widen
from scan import OpenScan

BOX = (15, 20, 25)
# What cupy does differently, done by numpy: plain conversion, all slices of a window at a time.
PLAIN = Arrays(np, HOST.held, 1 << 16, plain_widen, HOST.to_host, HOST.to_here)


def windows_of(seed):
    """Random softmaxes of every size that FP16 has."""
    random = np.random.default_rng(seed)
    for origin in tile(BOX):
        powers = np.exp(random.normal(0, 6, (CLASSES, *WINDOW)))
        yield (powers / powers.sum(axis=0)).astype(np.float16), origin


def score(arrays, bring=lambda array: array):
    scan = OpenScan(BOX, WINDOW, len(tile(BOX)), 3.375, make_contract(), arrays)
    for index, (probabilities, origin) in enumerate(windows_of(7)):
        scan.add(bring(probabilities), origin, index)
    return scan.finish()


def test_the_general_way_gives_what_the_cpus_gives():
    general, ours = score(PLAIN), score(HOST)
    np.testing.assert_array_equal(general.labels, ours.labels)
    assert general.dl_ild_percent == ours.dl_ild_percent
    np.testing.assert_array_equal(general.zone_volumes_ml, ours.zone_volumes_ml)


def test_every_value_of_fp16_is_widened_alike():
    bits = np.arange(1 << 16, dtype=np.uint16)
    found, expected = np.empty((2, bits.size), np.float32)
    HOST.widen(bits, found)
    plain_widen(bits, expected)
    np.testing.assert_array_equal(found, expected)


def test_the_bound_counts_the_larger_temporaries_of_the_general_way():
    sizes = (128, 8, 10), (64, 8, 10), 3, CLASSES
    assert OpenScan.bytes_needed(*sizes, PLAIN) > OpenScan.bytes_needed(*sizes)


def test_numpy_arrays_are_worked_on_by_numpy():
    assert arrays_of(np.zeros(3)) is HOST


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives():
    cupy = pytest.importorskip("cupy", reason="the GPU path needs cupy")
    arrays = device()
    assert arrays_of(cupy.zeros(3)) is arrays
    ours, gpu = score(HOST), score(arrays, cupy.asarray)
    assert isinstance(gpu.labels, np.ndarray)
    # Sums of float32 in another order: where two classes are as good as equal, either may win.
    assert np.mean(gpu.labels != ours.labels) < 1e-4
    assert gpu.dl_ild_percent == pytest.approx(ours.dl_ild_percent, abs=0.01)
    # A window that came to the CPU after all joins those on the GPU.
    mixed = score(arrays)
    np.testing.assert_array_equal(mixed.labels, gpu.labels)


@pytest.mark.gpu
def test_what_is_no_probability_is_refused_on_the_gpu_too():
    cupy = pytest.importorskip("cupy", reason="the GPU path needs cupy")
    probabilities, origin = next(windows_of(7))
    scan = OpenScan(BOX, WINDOW, len(tile(BOX)), 3.375, make_contract(), device())
    probabilities[2, 3, 4, 5] = np.nan
    with pytest.raises(Exception, match="REFUSED"):
        scan.add(cupy.asarray(probabilities), origin, 0)
