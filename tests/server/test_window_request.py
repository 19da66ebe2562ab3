import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from server.cases import WINDOW, make_contract, tensors

from contract.refusals import RefusedError
from contract.windows import holds_only
from window_request import read_scan_id, read_window

CONTRACT = make_contract()


def int32(*values):
    return np.array([values], np.int32)


def window_with(value):
    window = np.zeros((1, 1, *WINDOW), np.float16)
    window[0, 0, 1, 2, 3] = value
    return window


def test_a_valid_request_is_read():
    message = read_window(tensors(origin=int32(6, 8, 10)), CONTRACT)
    assert message.origin == (6, 8, 10)
    assert message.box_shape == (12, 16, 20)
    assert (message.index, message.count) == (0, 8)
    assert message.voxel_volume_mm3 == 3.375
    assert message.window_shape == WINDOW


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": None}, "window is missing"),
        ({"window": np.zeros((1, 1, *WINDOW), np.float32)}, "window is float32, must be float16"),
        ({"window": np.zeros(WINDOW, np.float16)}, "window has shape (6, 8, 10), must be (1, 1"),
        (
            {"window": np.zeros((1, 1, 6, 8, 9), np.float16)},
            "window has shape (6, 8, 9), must have multiples of 2 from (6, 8, 10) to (12, 12, 14)",
        ),
        (
            {"window": np.zeros((1, 1, 6, 8, 16), np.float16)},
            "window has shape (6, 8, 16), must have multiples of 2",
        ),
        (
            {"window": np.zeros((1, 1, 8, 10, 13), np.float16)},
            "window has shape (8, 10, 13), must have multiples of 2",
        ),
        (
            {"window": np.zeros((1, 1, 10, 12, 10), np.float16)},
            "window has shape (10, 12, 10), must have multiples of 2 from (6, 8, 10) to (12, 12",
        ),
        ({"window": window_with(np.nan)}, "window holds nan"),
        ({"window": window_with(-np.inf)}, "window holds -inf"),
        ({"window": window_with(2048)}, "window holds 2048.0, must hold HU of -1024 to 2047"),
        ({"window": window_with(-1025)}, "window holds -1025.0, must hold HU of -1024 to 2047"),
        ({"window_count": int32(0)}, "window_count is 0, must be 1 to 64"),
        ({"window_count": int32(65)}, "window_count is 65, must be 1 to 64"),
        ({"window_index": int32(8)}, "window_index is 8, must be 0 to 7"),
        ({"window_index": int32(-1)}, "window_index is -1, must be 0 to 7"),
        ({"window_index": np.zeros((1, 1), np.int64)}, "window_index is int64, must be int32"),
        ({"voxel_volume_mm3": np.array([[0]], np.float32)}, "voxel_volume_mm3 is 0.0"),
        ({"voxel_volume_mm3": np.array([[np.nan]], np.float32)}, "voxel_volume_mm3 is nan"),
        ({"box_shape": int32(5, 16, 20)}, "box_shape (5, 16, 20) is smaller than the window"),
        (
            {"box_shape": int32(2000, 2000, 2000)},
            "box_shape (2000, 2000, 2000) holds 8000000000 voxels, the limit is 100000",
        ),
        ({"box_shape": int32(12, 16)}, "box_shape has shape (1, 2), must be (1, 3)"),
        ({"origin": int32(-1, 0, 0)}, "origin (-1, 0, 0) puts a window of (6, 8, 10) outside"),
        ({"origin": int32(0, 0, 11)}, "origin (0, 0, 11) puts a window of (6, 8, 10) outside"),
        ({"origin": np.zeros((1, 3), np.float32)}, "origin is float32, must be int32"),
    ],
)
def test_what_breaks_the_wire_is_refused_by_name_and_value(changes, says):
    with pytest.raises(RefusedError) as error:
        read_window(tensors(**changes), CONTRACT)
    assert str(error.value).startswith(f"REFUSED: {says}")


@given(
    arrays.arrays(np.float16, st.integers(1, 30), elements=st.floats(width=16)),
    st.integers(-2048, 0),
    st.integers(0, 2048),
)
def test_bits_give_what_numpy_gives(values, minimum, maximum):
    assert holds_only(values, minimum, maximum) == bool(
        ((values >= minimum) & (values <= maximum)).all()
    )


def test_ids_are_uuids_or_numbers():
    text = "5f0f2c9e-0a49-4f0e-9f3b-4c8f2f0a9d11"
    assert read_scan_id(text) == text
    assert read_scan_id(17) == "17"


@pytest.mark.parametrize("given_id", [None, 0, "", "DOE^JANE", "12345"])
def test_other_ids_are_refused_and_not_repeated(given_id):
    with pytest.raises(RefusedError, match=r"REFUSED: the (request|sequence)") as error:
        read_scan_id(given_id)
    assert "DOE" not in str(error.value)
