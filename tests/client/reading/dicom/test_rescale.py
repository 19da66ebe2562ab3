from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dlild_client.errors import NotHUError
from dlild_client.reading.assemble import read_dicom
from dlild_client.reading.dicom.hu import rescale, used_bits
from dlild_client.reading.dicom.slices import PixelFormat
from dlild_client.reading.quality import clear_padding
from dlild_client.volume import Volume


def test_rescale_of_each_slice_counts(series_writer, scan, pixel_setter):
    def edit(ds, i):
        ds.RescaleIntercept = -10 * i
        ds.RescaleSlope = 2 if i % 2 else 1
        even = scan.array[i] // 2 * 2
        pixel_setter(ds, (even + 10 * i) // ds.RescaleSlope)

    volume = read_dicom(series_writer.write(scan, edit=edit))
    np.testing.assert_allclose(volume.array, scan.array // 2 * 2, atol=2)
    assert np.all(volume.array[::2] == scan.array[::2] // 2 * 2)


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, 0])
def test_padding_becomes_air_but_not_inside_the_body(series_writer, scan, pixel_setter, padding):
    def edit(ds, i):
        values = scan.array[i].copy()
        values[:, :3] = values[:, -2:] = padding
        values[:, 3] = values[:, -3] = 77
        values[10, 10] = padding
        ds.PixelPaddingValue = padding
        ds["PixelPaddingValue"].VR = "SS"
        pixel_setter(ds, values)

    volume = read_dicom(series_writer.write(scan, edit=edit))
    assert np.all(volume.array[:, :, :3] == -1024)
    assert np.all(volume.array[:, :, -2:] == -1024)
    assert np.all(volume.array[:, 10, 10] == max(padding, -1024))
    np.testing.assert_array_equal(volume.array[:, :9, 4:-3], scan.array[:, :9, 4:-3])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda ds, i: setattr(ds, "RescaleSlope", 0), "slope 0"),
        (lambda ds, i: setattr(ds, "RescaleSlope", -1), "slope -1"),
        (lambda ds, i: setattr(ds, "RescaleType", "OD"), "type OD"),
        (lambda ds, i: setattr(ds, "RescaleIntercept", 10**7), "intercept 1e"),
        (lambda ds, i: setattr(ds, "PhotometricInterpretation", "PALETTE COLOR"), "PALETTE"),
        (lambda ds, i: delattr(ds, "RescaleIntercept"), "no rescale intercept"),
        (lambda ds, i: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"), "either way"),
    ],
)
def test_values_that_are_no_hu_are_refused(series_writer, scan, edit, words):
    with pytest.raises(NotHUError, match=words):
        read_dicom(series_writer.write(scan, edit=edit))


@pytest.fixture(scope="module")
def body() -> Volume:
    """Air with a little noise round soft tissue: grey values that tell what they are."""
    rng = np.random.default_rng(5)
    array = rng.normal(-1000, 6, (12, 64, 64))
    array[:, 12:52, 12:52] = rng.normal(45, 12, (12, 40, 40))
    array[:, 20:40, 20:40] = rng.normal(-840, 30, (12, 20, 20))
    return Volume(np.rint(array).astype(np.int16), (10.0, 1.0, 1.0))


def unsigned(ds, values, bits=16):
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 0, bits, bits - 1
    ds.PixelData = np.asarray(values).astype("<u2").tobytes()


@pytest.mark.parametrize("missing", ["both", "intercept", "slope"])
@pytest.mark.parametrize("intercept", [0, -1024, -8192])
def test_a_missing_rescale_is_found_from_the_grey_values_of_air(
    series_writer, body, missing, intercept
):
    def edit(ds, i):
        if intercept:
            unsigned(ds, body.array[i].astype(int) - intercept)
        ds.RescaleIntercept = intercept
        if missing != "slope":
            del ds.RescaleIntercept
        if missing != "intercept":
            del ds.RescaleSlope

    volume = read_dicom(series_writer.write(body, edit=edit))
    np.testing.assert_array_equal(volume.array, np.maximum(body.array, -1024))
    flag = next(f for f in volume.flags if f == "rescale_assumed")
    assert flag.values["intercept"] == intercept


def test_a_missing_rescale_that_two_intercepts_would_explain_is_refused(series_writer, body):
    def edit(ds, i):
        # Air at 12: -1012 with an intercept of -1024, -988 with one of -1000.
        unsigned(ds, np.maximum(body.array[i].astype(int) + 1012, 0))
        del ds.RescaleSlope, ds.RescaleIntercept

    with pytest.raises(NotHUError, match="the grey values do not tell them"):
        read_dicom(series_writer.write(body, edit=edit))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "kind"), [(8, "1"), (16, "2"), (32, "4")])
def test_pixels_of_any_width_are_read(series_writer, body, bits, kind, signed):
    coarse = np.clip(body.array.astype(int) // 8 * 8, -1024, 1015)
    low = 0 if signed else -1024

    def edit(ds, i):
        stored = (coarse[i] - low) // 8
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
        ds.PixelRepresentation, ds.RescaleSlope, ds.RescaleIntercept = int(signed), 8, low
        ds.PixelData = stored.astype(f"<{'i' if signed else 'u'}{kind}").tobytes()

    volume = read_dicom(series_writer.write(body, edit=edit))
    np.testing.assert_array_equal(volume.array, coarse)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_read_as_it_is_stored(series_writer, body, inverted, signed):
    def edit(ds, i):
        ds.PhotometricInterpretation = "MONOCHROME1"
        values = body.array[i].astype(int)
        if signed:
            ds.PixelData = (-1 - values if inverted else values).astype("<i2").tobytes()
        else:
            ds.RescaleIntercept = -1024
            unsigned(ds, 4095 - (values + 1024) if inverted else values + 1024, bits=12)

    volume = read_dicom(series_writer.write(body, edit=edit))
    np.testing.assert_array_equal(volume.array, np.maximum(body.array, -1024))
    assert ("inverted_grey_values" in volume.flags) is inverted


@pytest.mark.parametrize("tag", [63536, -2000, 2096, None])
def test_negative_padding_in_unsigned_12_bit_pixels_is_air(series_writer, body, tag):
    def edit(ds, i):
        ds.RescaleIntercept = -1024
        values = body.array[i].astype(int) + 1024
        values[:, :5] = values[:, -5:] = 63536  # -2000 as the bits have it
        unsigned(ds, values, bits=12)
        if tag is not None:
            ds.add_new("PixelPaddingValue", "SS" if tag < 0 else "US", tag)

    volume = read_dicom(series_writer.write(body, edit=edit))
    assert np.all(volume.array[:, :, :5] == -1024)
    assert np.all(volume.array[:, :, -5:] == -1024)
    np.testing.assert_array_equal(volume.array[:, :, 5:-5], body.array[:, :, 5:-5])


def test_a_padding_tag_of_the_wrong_sign_and_a_range_are_understood(series_writer, body):
    def edit(ds, i):
        values = body.array[i].copy()
        values[:, :4], values[:, 4:6] = 3000, 3050
        values[30, 30] = 3020
        ds.PixelData = values.astype("<i2").tobytes()
        ds.add_new("PixelPaddingValue", "US", 3000)
        ds.add_new("PixelPaddingRangeLimit", "US", 3060)

    volume = read_dicom(series_writer.write(body, edit=edit))
    assert np.all(volume.array[:, :, :6] == -1024)
    assert np.all(volume.array[:, 30, 30] == 3020)


@pytest.mark.parametrize(("intercept", "top"), [(-1024, 31743), (1024, 32767)])
def test_the_lowest_stored_value_never_wraps_round_to_white(series_writer, body, intercept, top):
    def edit(ds, i):
        values = body.array[i].copy()
        values[0, 0], values[-1, -1] = -32768, 32767
        ds.PixelData = values.astype("<i2").tobytes()
        ds.RescaleIntercept = intercept

    volume = read_dicom(series_writer.write(body, edit=edit))
    assert np.all(volume.array[:, 0, 0] == -1024)
    assert np.all(volume.array[:, -1, -1] == top)


@pytest.mark.parametrize(("bits", "high_bit"), [(12, 11), (12, 15), (16, 15), (10, 9)])
@pytest.mark.parametrize("signed", [False, True])
def test_only_the_stored_bits_of_a_pixel_count(bits, high_bit, signed):
    values = np.arange(1 << bits, dtype=np.int64).reshape(-1, 32) - (
        (1 << bits) // 2 if signed else 0
    )
    spare = bits < 16
    raw = ((values & ((1 << bits) - 1)) << (high_bit + 1 - bits)).astype(np.uint16)
    if spare:  # an old overlay in a bit that is not counted
        raw[::2] |= np.uint16(1 << (0 if high_bit == 15 else 15))
    pixels = PixelFormat(
        *raw.shape, 1, 1, "MONOCHROME2", 16, bits, high_bit, signed, True, "1.2.840.10008.1.2", 0
    )
    stored = raw.view(np.int16) if signed else raw
    np.testing.assert_array_equal(used_bits(stored.copy(), pixels), values)


@given(
    stored=arrays(np.int16, (4, 4)) | arrays(np.uint16, (4, 4)),
    slope=st.sampled_from([1.0, 0.5, 2.0]),
    intercept=st.integers(-40000, 40000) | st.floats(-3000, 3000, width=32),
)
def test_hu_are_what_the_formula_says_for_any_numbers(stored, slope, intercept):
    out = np.zeros(stored.shape, dtype=np.int16)
    rescale(stored, slope, float(intercept), out)
    exact = np.rint(stored.astype(np.float64) * slope + intercept)
    np.testing.assert_array_equal(out, np.clip(exact, -1024, 32767))


@pytest.mark.parametrize("constant", [0, 3071, -500])
def test_a_constant_outside_the_field_of_view_is_air(body, constant):
    array = body.array.copy()
    y, x = np.mgrid[:64, :64] - 31.5
    outside = y**2 + x**2 > 31.5**2
    array[:, outside] = constant
    kept = array.copy()
    assert clear_padding(array) == constant
    assert np.all(array[:, outside] == -1024)
    np.testing.assert_array_equal(array[:, ~outside], kept[:, ~outside])


def test_corners_with_noise_or_air_are_left_alone(body):
    tissue = np.random.default_rng(1).normal(40, 10, (12, 64, 64)).astype(np.int16)
    for array in (body.array.copy(), tissue, np.full((12, 64, 64), -1000, np.int16)):
        kept = array.copy()
        assert clear_padding(array) is None
        np.testing.assert_array_equal(array, kept)


def test_coarse_and_lossy_grey_levels_and_a_shift_leave_flags(series_writer, body):
    def edit(ds, i):
        ds.RescaleSlope = 32
        ds.RescaleIntercept = 0
        ds.PixelData = np.rint((body.array[i] + 60) / 32).astype("<i2").tobytes()
        ds.LossyImageCompression = "01"

    flags = {str(f): f for f in read_dicom(series_writer.write(body, edit=edit)).flags}
    assert flags["coarse_grey_levels"].values == {"step_hu": 32}
    assert flags["lossy_compression"].values == {"slices": 12}
    assert flags["hu_shifted"].values["air_hu"] == pytest.approx(-940, abs=15)
