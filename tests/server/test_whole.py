import numpy as np
import pytest
from server.cases import make_contract, one_hot, tensors
from server.test_volume_plan import RULES

from contract import WindowBounds
from plan import VolumeError, plan_windows
from whole import read_volume, shape_of, window_tensors
from wire import read_window

VOLUME = np.arange(9 * 12 * 15, dtype=np.int16).reshape(9, 12, 15) - 1024


def test_a_volume_is_read():
    np.testing.assert_array_equal(read_volume({"volume": VOLUME[None]}, RULES), VOLUME)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "volume is missing"),
        ({"volume": VOLUME[None].astype(np.float32)}, "volume is float32, must be int16"),
        ({"volume": VOLUME}, r"volume has shape \(9, 12, 15\), must be \(1, z, y, x\)"),
        ({"volume": VOLUME[None, :0]}, r"volume has shape \(1, 0, 12, 15\)"),
        ({"volume": np.full((1, 9, 9, 9), -1025, np.int16)}, "volume holds -1025 HU"),
        ({"volume": np.full((1, 9, 9, 9), 2048, np.int16)}, "2048 HU, must hold -1024 to 2047"),
    ],
)
def test_anything_else_is_refused_by_value(given, says):
    with pytest.raises(VolumeError, match=f"^REFUSED: .*{says}"):
        read_volume(given, RULES)


def test_windows_are_what_the_accumulator_reads_and_give_the_volume_back():
    plan = plan_windows(shape_of(VOLUME), RULES)
    contract = make_contract(
        windows_taken=WindowBounds(
            RULES.multiple, RULES.minimum, RULES.maximum, RULES.maximum_voxels
        )
    )
    back = np.zeros(VOLUME.shape, np.float64)
    for index, origin in enumerate(plan.origins):
        given = window_tensors(VOLUME, plan, index)
        probabilities = one_hot(np.ones(plan.shape, np.uint8))[None]
        message = read_window(tensors(**given, probabilities=probabilities), contract)
        assert (message.index, message.count) == (index, len(plan.origins))
        assert (message.origin, message.box_shape) == (origin, VOLUME.shape)
        place = tuple(slice(o, o + w) for o, w in zip(origin, plan.shape, strict=True))
        back[place] = given["window"][0, 0]
    np.testing.assert_array_equal(back, VOLUME)
