import numpy as np
import pytest

from dlild_client.contract import HuRange, WindowSpec
from dlild_client.contract.refusals import RefusedError
from dlild_client.contract.windows import check_window

HU = HuRange(-1024, 2047, -1024)
BOUNDS = WindowSpec(4, (4, 8, 8), (8, 16, 16), 1024, 0.25, 4)


@pytest.mark.parametrize("shape", [(4, 8, 8), (8, 8, 16), (4, 16, 16)])
def test_a_window_of_finite_hu_passes(shape):
    assert check_window(np.full((1, 1, *shape), -1024, np.float16), BOUNDS, HU) == shape


@pytest.mark.parametrize(
    ("window", "says"),
    [
        (np.zeros((1, 1, 8, 8, 8), np.float32), "window is float32"),
        (np.zeros((8, 8, 8), np.float16), r"window has shape \(8, 8, 8\)"),
        (np.zeros((2, 1, 8, 8, 8), np.float16), r"window has shape \(2, 1, 8, 8, 8\)"),
        (np.zeros((1, 1, 8, 8, 9), np.float16), r"must have multiples of 4 from \(4, 8, 8\)"),
        (np.zeros((1, 1, 8, 4, 8), np.float16), r"must have multiples of 4 from \(4, 8, 8\)"),
        (np.zeros((1, 1, 12, 8, 8), np.float16), r"to \(8, 16, 16\)"),
        (np.zeros((1, 1, 8, 16, 16), np.float16), "at most 1024 voxels"),
        (np.full((1, 1, 8, 8, 8), np.nan, np.float16), "window holds nan"),
        (np.full((1, 1, 8, 8, 8), np.inf, np.float16), "window holds inf"),
        (np.full((1, 1, 8, 8, 8), 2048, np.float16), "window holds 2048.0, must hold HU of"),
        (np.full((1, 1, 8, 8, 8), -1025, np.float16), "window holds -1025.0, must hold HU of"),
    ],
)
def test_anything_else_is_refused_by_value(window, says):
    with pytest.raises(RefusedError, match=f"^REFUSED: {says}|^REFUSED: .*{says}"):
        check_window(window, BOUNDS, HU)
