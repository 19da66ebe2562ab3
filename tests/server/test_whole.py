import numpy as np
import pytest
from server.cases import tensors
from server.test_whole_plan import CONTRACT

from contract.refusals import RefusedError
from whole import plan_volume, read_volume, window_tensors
from window_request import read_window

VOLUME = np.arange(9 * 12 * 15, dtype=np.int16).reshape(9, 12, 15) - 1024


def test_a_volume_is_read():
    np.testing.assert_array_equal(read_volume(VOLUME[None], CONTRACT.hu), VOLUME)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "volume is missing"),
        (VOLUME[None].astype(np.float32), "volume is float32, must be int16"),
        (VOLUME, r"volume has shape \(9, 12, 15\), must be \(1, z, y, x\)"),
        (VOLUME[None, :0], r"volume has shape \(1, 0, 12, 15\)"),
        (np.full((1, 9, 9, 9), -1025, np.int16), "volume holds -1025 HU"),
        (np.full((1, 9, 9, 9), 2048, np.int16), "2048 HU, must hold -1024 to 2047"),
    ],
)
def test_anything_else_is_refused_by_value(given, says):
    with pytest.raises(RefusedError, match=f"^REFUSED: .*{says}"):
        read_volume(given, CONTRACT.hu)


def test_windows_are_what_the_other_model_reads_and_give_the_volume_back():
    plan = plan_volume(VOLUME.shape, CONTRACT)
    back = np.zeros(VOLUME.shape, np.float64)
    for index, origin in enumerate(plan.origins):
        given = window_tensors(VOLUME, plan, index)
        message = read_window(tensors(**given), CONTRACT)
        assert (message.index, message.count) == (index, len(plan.origins))
        assert (message.origin, message.box_shape) == (origin, VOLUME.shape)
        region = tuple(slice(o, o + w) for o, w in zip(origin, plan.shape, strict=True))
        back[region] = given["window"][0, 0]
    np.testing.assert_array_equal(back, VOLUME)
