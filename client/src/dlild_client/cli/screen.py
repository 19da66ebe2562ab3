"""Terminal output: tables on standard output, progress on standard error if it is a terminal."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dlild_client.errors import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from dlild_client.batch.record import Status
    from dlild_client.batch.scans import BatchScan

TITLE = "DL-ILD, for research use only"


def print_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    console().print(table)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a heading for each column."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    console().print(table)


def console(*, stderr: bool = False) -> Any:
    """Console without markup and highlighting."""
    from rich.console import Console  # noqa: PLC0415

    return Console(markup=False, highlight=False, stderr=stderr)


@contextmanager
def scan_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of one scan, if standard error is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    err = console(stderr=True)
    with Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, whole: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=whole)
            bar.update(tasks[stage], completed=done, total=whole)

        yield report


class WaitingNotice(logging.Handler):
    """Prints a line, at most once a minute, while scans wait for their server, with the reason.

    A batch may wait for minutes, which must not look like a hang in a terminal or a log.

    Parameters
    ----------
    notify : callable
        Prints a line.
    """

    EVERY_S = 60.0

    def __init__(self, notify: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._notify = notify
        self._mutex = threading.Lock()
        self._reason = ""
        self._scans: set[int] = set()
        self._since = 0.0
        self._announced_at: float | None = None
        self._announced = False

    def emit(self, record: logging.LogRecord) -> None:
        """Store the reason of the client, without the remedy after the semicolon."""
        message = record.getMessage()
        self._reason = message.rpartition("; ")[0] or message

    def on_wait(self, scan: BatchScan) -> None:
        """Report that a scan is sent again, at most once per `EVERY_S`."""
        with self._mutex:
            now = time.monotonic()
            if not self._scans:
                self._since, self._announced = now, False
            self._scans.add(id(scan))
            if self._announced_at is not None and now - self._announced_at < self.EVERY_S:
                return
            waited = f" for {now - self._since:.0f} s" if self._announced else ""
            self._announced_at, self._announced = now, True
        self._notify(
            f"waiting for the server{waited}: {self._reason or 'a worker has lost it'}; "
            "the scan is sent again"
        )

    def on_answer(self, scan: BatchScan) -> None:
        """Report that the server answers again, once no scan waits any more."""
        with self._mutex:
            if id(scan) not in self._scans:
                return
            self._scans.discard(id(scan))
            if self._scans or not self._announced:
                return
            seconds = time.monotonic() - self._since
        self._notify(f"the server answers again, after {seconds:.0f} s")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Subscribe to the logger of the client."""
        from dlild_client.core import WAITING  # noqa: PLC0415

        logger = logging.getLogger(WAITING)
        before = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(before)


class BatchProgress:
    """Progress of a batch: a line of counts, and a line per scan in progress."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._counts: dict[str, int] = {"scored": 0, "rejected": 0, "failed": 0}
        self._whole = bar.add_task(self._line(), total=None)
        self._tasks: dict[int, TaskID] = {}
        self._waiting = WaitingNotice(self.notify)

    def on_progress(self, scan: BatchScan, stage: str, done: int, whole: int) -> None:
        """Show the stage of a scan; thread-safe."""
        if stage == "again":
            self._waiting.on_wait(scan)
        elif stage == "inference" and done:
            self._waiting.on_answer(scan)
        task = self._tasks.get(id(scan))
        if task is None:
            task = self._tasks[id(scan)] = self._bar.add_task("", total=whole)
        name = scan.id or scan.name
        short = name if len(name) <= 32 else f"…{name[-31:]}"
        self._bar.update(task, description=f"{short:<32} {stage:<10}", completed=done, total=whole)

    def notify(self, line: str) -> None:
        """Print a line above the progress."""
        # A closed standard error does not end a batch.
        with suppress(OSError):
            self._bar.console.print(line, soft_wrap=True)

    def finished(self, scan: BatchScan, status: Status) -> None:
        """Remove the line of a scan, and count it."""
        task = self._tasks.pop(id(scan), None)
        if task is not None:
            self._bar.remove_task(task)
        self._counts[status] += 1
        self._bar.update(self._whole, description=self._line(), advance=1)

    @contextmanager
    def listening(self) -> Iterator[BatchProgress]:
        """Subscribe to the reasons why scans wait."""
        with self._waiting.listening():
            yield self

    def _line(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self._counts.items())


@contextmanager
def batch_progress() -> Iterator[BatchProgress]:
    """Show the progress of a batch; without a terminal, only that it waits for its server."""
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    err = console(stderr=True)
    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        ) as bar,
        BatchProgress(bar).listening() as progress,
    ):
        yield progress
