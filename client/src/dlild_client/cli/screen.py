"""What people see: tables on standard output, progress on standard error, neither without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dlild_client.errors import readable

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
        table.add_row(*map(readable, row))
    console().print(table)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a heading for each column."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(readable, row))
    console().print(table)


def console(*, stderr: bool = False) -> Any:
    """Console that takes text as it is."""
    from rich.console import Console  # noqa: PLC0415

    return Console(markup=False, highlight=False, stderr=stderr)


@contextmanager
def scan_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the stages of one scan, or nothing where standard error is no terminal."""
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


class BatchProgress:
    """How far a batch is: a line of counts, and a line for each scan under way."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._counts: dict[str, int] = {"scored": 0, "rejected": 0, "failed": 0}
        self._whole = bar.add_task(self._line(), total=None)
        self._tasks: dict[int, TaskID] = {}

    def told(self, scan: BatchScan, stage: str, done: int, whole: int) -> None:
        """Show the stage of a scan; called from several threads."""
        task = self._tasks.get(id(scan))
        if task is None:
            task = self._tasks[id(scan)] = self._bar.add_task("", total=whole)
        name = scan.id or scan.name
        short = name if len(name) <= 32 else f"…{name[-31:]}"
        self._bar.update(task, description=f"{short:<32} {stage:<10}", completed=done, total=whole)

    def finished(self, scan: BatchScan, status: Status) -> None:
        """Take a scan's line away and count it."""
        task = self._tasks.pop(id(scan), None)
        if task is not None:
            self._bar.remove_task(task)
        self._counts[status] += 1
        self._bar.update(self._whole, description=self._line(), advance=1)

    def _line(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self._counts.items())


@contextmanager
def batch_progress() -> Iterator[BatchProgress]:
    """Show a batch, or nothing where standard error is no terminal."""
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    err = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        yield BatchProgress(bar)
