"""Progress on stderr: one line a task, rewritten in place on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Writes what is being done; silent where asked.

    Parameters
    ----------
    quiet : bool
        Write nothing.
    stream : text stream, optional
        By default stderr.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = stream or sys.stderr

    def step(self, title: str) -> None:
        """Name the step that begins."""
        if not self.quiet:
            print(title, file=self.stream, flush=True)

    def bar(self, label: str) -> Callable[[int, int], None]:
        """Make a function of (done, total) that shows how far a task is."""
        shown = [-1]

        def show(done: int, total: int) -> None:
            tenth = 10 * done // max(total, 1)
            if self.quiet or tenth == shown[0]:
                return
            shown[0] = tenth
            if self.stream.isatty():
                end = "\n" if done >= total else ""
                print(f"\r  {label}: {done}/{total}", end=end, file=self.stream, flush=True)
            elif tenth in (5, 10):
                print(f"  {label}: {done}/{total}", file=self.stream, flush=True)

        return show
