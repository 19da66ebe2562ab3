"""A small contract, and a network that knows the answer."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from contract import Contract, ServerLimits, parse_contract
from contract.refusals import ScanError
from scans import Answer, OpenScans, QueuedWindow
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


class Message(WindowMessage):
    """A window whose values are the labels of its voxels."""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """What a network that is always right makes of it."""
        return one_hot(self.window[0, 0])


def messages(labels: np.ndarray, voxel_volume_mm3: float = 3.375) -> list[Message]:
    """All windows of a scan whose truth is ``labels``, in rising order of z."""
    origins = tile(labels.shape)
    return [
        Message(
            cut(labels, origin).astype(np.float16)[None, None],
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


class Answers:
    """The way back to one client for one window: what was sent, which must be once."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.cancelled = False

    def send(self, answer: Any) -> None:
        assert not self.sent, "a window is answered once"
        self.sent.append(answer)

    def is_cancelled(self) -> bool:
        return self.cancelled

    @property
    def error(self) -> str:
        (answer,) = self.sent
        assert isinstance(answer, ScanError), answer
        return str(answer)


class House:
    """Open scans with their reports, their clock, and a network that is always right."""

    def __init__(self, clock: Callable[[], float] | None = None, **limits: Any) -> None:
        self.reports: list[Any] = []
        self.clock: Any = clock or Clock()
        self.scans = OpenScans(
            make_contract(), make_limits(**limits), self.reports.append, self.clock
        )

    def receive(
        self, scan_id: str, window: WindowMessage, *, start: bool = False, end: bool = False
    ) -> Answers:
        """Take a window, and compute nothing."""
        answers = Answers()
        self.scans.receive(scan_id, always(window), answers, start=start, end=end)
        return answers

    def compute(self, seconds: float = 0.0) -> QueuedWindow:
        """Have the next window computed, in so many seconds."""
        window = self.scans.take()
        assert window is not None
        if seconds:
            self.clock.now_s += seconds
        labels = window.message.window[0, 0]
        self.scans.add(window, None if window.is_repeated else one_hot(labels), "right always")
        return window

    def send(
        self, scan_id: str, window: WindowMessage, *, start: bool = False, end: bool = False
    ) -> Answer:
        """Send a window to a server that does nothing else, and return its answer."""
        answers = self.receive(scan_id, window, start=start, end=end)
        if not answers.sent:
            self.compute()
        (answer,) = answers.sent
        if isinstance(answer, ScanError):
            raise answer
        return answer

    def send_all(self, scan_id: str, windows: list[WindowMessage]) -> list[Answer]:
        last = len(windows) - 1
        return [
            self.send(scan_id, window, start=place == 0, end=place == last)
            for place, window in enumerate(windows)
        ]

    @property
    def outcomes(self) -> list[str]:
        return [report.outcome for report in self.reports]

    def assert_empty(self) -> None:
        assert len(self.scans) == 0
        assert self.scans.bytes_held == 0
        assert self.scans.windows_waiting == 0
