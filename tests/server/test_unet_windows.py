import importlib.util
import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def windows(repository):
    path = repository / "ild_unet" / "windows.py"
    spec = importlib.util.spec_from_file_location("ild_unet_windows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bounds(windows):
    fields = {
        "multiple": 4,
        "minimum": [4, 8, 8],
        "maximum": [8, 16, 16],
        "maximum_voxels": 1024,
        "minimum_overlap": 0.25,
    }
    return windows.WindowBounds.from_fields(fields)


@pytest.mark.parametrize("shape", [(4, 8, 8), (8, 8, 16), (4, 16, 16)])
def test_a_window_of_finite_hu_passes(windows, bounds, shape):
    windows.check_window(np.full((1, 1, *shape), -1024, np.float16), bounds)


def test_the_contract_of_this_repository_takes_96_cubed(windows, repository):
    contract = json.loads((repository / "contract.json").read_text("utf-8"))
    taken = windows.WindowBounds.from_fields(contract["windows"])
    assert taken.take((96, 96, 96))
    assert not taken.take((100, 96, 96))
    assert not taken.take(taken.maximum)  # too many voxels together
    assert taken.largest_cube() == (160, 160, 160)


def test_the_largest_cube_is_always_taken(windows, bounds):
    assert bounds.largest_cube() == (8, 8, 8)
    flat = windows.WindowBounds(8, (8, 64, 64), (8, 128, 128), 8 * 64 * 64)
    assert flat.take(flat.largest_cube())


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
    ],
)
def test_anything_else_is_refused_by_value(windows, bounds, window, says):
    with pytest.raises(windows.WindowError, match=f"^REFUSED: {says}|^REFUSED: .*{says}"):
        windows.check_window(window, bounds)
