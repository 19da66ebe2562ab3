"""A small contract, and a network that knows the answer."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from contract import Contract, ServerLimits, parse_contract
from window_request import WindowMessage

WINDOW = (6, 8, 10)
CLASSES = 6
REPOSITORY = Path(__file__).parents[2] / "model_repository"


def make_contract(**changes: Any) -> Contract:
    """The repository's contract with small windows, changed as named."""
    whole = parse_contract((REPOSITORY / "contract.json").read_text("utf-8"))
    small = replace(
        whole,
        windows=replace(
            whole.windows, multiple=2, minimum=WINDOW, maximum=(12, 12, 14), maximum_voxels=1000
        ),
        limits=replace(whole.limits, box_voxels=100_000, windows=64),
    )
    return replace(small, **changes)


def make_ruled(rule: str) -> Contract:
    """The small contract, with another rule by which voxels are labelled."""
    contract = make_contract()
    return replace(contract, score=replace(contract.score, labels=rule))


def make_limits(**changes: Any) -> ServerLimits:
    """Limits of a small server, changed as named."""
    return ServerLimits(
        **({"open_scans": 3, "open_bytes": 10_000_000, "scan_idle_s": 40.0} | changes)
    )


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Probabilities (classes, z, y, x) of a network that is always right."""
    return (np.arange(CLASSES)[:, None, None, None] == labels).astype(np.float16)


def tile(box_shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Origins of windows that cover a box with overlap."""
    axes = []
    for length, window in zip(box_shape, WINDOW, strict=True):
        starts = {*range(0, length - window, window * 3 // 4), length - window}
        axes.append(sorted(starts))
    return list(product(*axes))


def cut(volume: np.ndarray, origin: tuple[int, int, int]) -> np.ndarray:
    return volume[tuple(slice(o, o + w) for o, w in zip(origin, WINDOW, strict=True))]


def messages(labels: np.ndarray, voxel_volume_mm3: float = 3.375) -> list[WindowMessage]:
    """All windows of a scan whose truth is ``labels``, in rising order of z."""
    origins = tile(labels.shape)
    return [
        WindowMessage(
            one_hot(cut(labels, origin)),
            origin,
            labels.shape,
            index,
            len(origins),
            voxel_volume_mm3,
        )
        for index, origin in enumerate(origins)
    ]


def tensors(**changes: Any) -> dict[str, np.ndarray]:
    """The tensors of a valid request, changed as named; ``None`` leaves one out."""
    values = {
        "window": np.zeros((1, 1, *WINDOW), np.float16),
        "probabilities": one_hot(np.ones(WINDOW, np.uint8))[None],
        "origin": np.array([[0, 0, 0]], np.int32),
        "box_shape": np.array([[12, 16, 20]], np.int32),
        "window_index": np.array([[0]], np.int32),
        "window_count": np.array([[8]], np.int32),
        "voxel_volume_mm3": np.array([[3.375]], np.float32),
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


class Clock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def always(message: WindowMessage) -> Callable[[], WindowMessage]:
    return lambda: message


def softmax(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities of every size that FP16 has, down to those that only just are not zero."""
    powers = np.exp(random.normal(0, 6, (CLASSES, *shape)))
    return (powers / powers.sum(axis=0)).astype(np.float16)
