import importlib.util

import numpy as np
import pytest

SHAPES = frozenset({(4, 5, 6), (8, 8, 8)})


@pytest.fixture(scope="module")
def windows(repository):
    path = repository / "ild_unet" / "1" / "windows.py"
    spec = importlib.util.spec_from_file_location("ild_unet_windows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_window_of_finite_hu_passes(windows):
    windows.check_window(np.full((1, 1, 8, 8, 8), -1024, np.float16), SHAPES)


@pytest.mark.parametrize(
    ("window", "says"),
    [
        (np.zeros((1, 1, 8, 8, 8), np.float32), "window is float32"),
        (np.zeros((8, 8, 8), np.float16), r"window has shape \(8, 8, 8\)"),
        (np.zeros((2, 1, 8, 8, 8), np.float16), r"window has shape \(2, 1, 8, 8, 8\)"),
        (np.zeros((1, 1, 8, 8, 9), np.float16), r"one of \(4, 5, 6\), \(8, 8, 8\)"),
        (np.full((1, 1, 8, 8, 8), np.nan, np.float16), "window holds nan"),
        (np.full((1, 1, 8, 8, 8), np.inf, np.float16), "window holds inf"),
    ],
)
def test_anything_else_is_refused_by_value(windows, window, says):
    with pytest.raises(windows.WindowError, match=f"^REFUSED: {says}|^REFUSED: .*{says}"):
        windows.check_window(window, SHAPES)
