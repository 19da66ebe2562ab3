"""SIGTERM and Ctrl-C while a training runs: it finishes the step, writes a checkpoint, and ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The training was asked to stop, and has written a checkpoint to go on from.

    Parameters
    ----------
    step : int
        Steps done.
    signal_number : int
        What asked.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step}; the same command goes on from there")
        self.step, self.signal_number = step, signal_number


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list; a second one ends the process as it always does.

    In a thread other than the main one, where no handler can be set, the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    former = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def hand_back() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def catch(number: int, _: object) -> None:
        caught.append(number)
        hand_back()

    for number in former:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        hand_back()
