"""All scans that are open: bounded in number, bytes and silence."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from arrays import arrays_of
from contract.refusals import (
    BusyError,
    CancelledError,
    GoneError,
    IncompleteError,
    RefusedError,
    ScanError,
)
from contract.schema import Contract, ServerLimits
from scan import OpenScan
from score import Score
from window_request import WindowMessage

# How a scan can end: with a score, with a refusal, because its client went away or began it anew,
# by silence, because it was silent while others needed its slot, or by a fault of ours.
OUTCOMES = (
    "done",
    *(kind.code for kind in (BusyError, GoneError, RefusedError, IncompleteError, CancelledError)),
    "RESTARTED",
    "IDLE",
    "YIELDED",
    "FAILED",
)

# When does a silent scan give way to a new one that finds no slot? After a quarter of the time
# that it may be silent otherwise, and four times the longest pause that any open scan has made and
# gone on from: on a slow or crowded server all pauses are long, and no client is at fault.
YIELD_SHARE = 0.25
YIELD_PAUSES = 4


@dataclass(frozen=True)
class Answer:
    """What a window is answered.

    Attributes
    ----------
    windows_received : int
        Different windows of the scan seen so far.
    score : Score or None
        The score, for the last window only.
    """

    windows_received: int
    score: Score | None


@dataclass(frozen=True)
class ScanReport:
    """How a scan ended: what the log may know of it.

    Attributes
    ----------
    scan : str
        Its id.
    outcome : str
        One of ``OUTCOMES``.
    windows_received, window_count : int
        Windows seen, and windows announced; 0 where the first was refused.
    box_shape : tuple of int
        Shape of the box (z, y, x); zeros where the first window was refused.
    seconds : float
        From the first window to the end.
    blend_seconds, score_seconds : float
        Of these, spent on adding windows, and on measuring the box at the end.
    """

    scan: str
    outcome: str
    windows_received: int
    window_count: int
    box_shape: tuple[int, int, int]
    seconds: float
    blend_seconds: float = 0.0
    score_seconds: float = 0.0


@dataclass
class _Entry:
    scan: OpenScan
    bytes_held: int
    started_s: float
    touched_s: float
    longest_pause_s: float = 0.0
    blend_s: float = 0.0
    score_s: float = 0.0


class OpenScans:
    """The open scans of a server. Safe to use from several threads.

    Parameters
    ----------
    contract : Contract
        Classes and limits of a scan.
    limits : ServerLimits
        Of the server.
    report : callable
        Called once for each scan that ends, with a ``ScanReport``.
    clock : callable, optional
        Seconds that never run backwards.
    """

    def __init__(
        self,
        contract: Contract,
        limits: ServerLimits,
        report: Callable[[ScanReport], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contract = contract
        self._limits = limits
        self._report = report
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of open scans."""
        with self._lock:
            return len(self._entries)

    @property
    def bytes_held(self) -> int:
        """Bytes that the open scans may take together, each at its peak."""
        with self._lock:
            return self._bytes_held()

    def receive(
        self, scan_id: str, read: Callable[[], WindowMessage], *, start: bool, end: bool
    ) -> Answer:
        """Take a window; on the last one answer the score.

        Parameters
        ----------
        scan_id : str
            Id of the scan.
        read : callable
            Reads and checks the request; called inside, so that what it refuses ends the scan too.
        start, end : bool
            Whether the window is flagged as the scan's first or last.

        Returns
        -------
        Answer

        Raises
        ------
        ScanError
            The scan is over then, and nothing of it is held.
        """
        with self._lock:
            self._sweep()
            # A second start under one id is another scan: its windows must never mix. One that is
            # the end as well is how a client gives a scan up, and no scan of its own.
            outcome = CancelledError.code if end else "RESTARTED"
            given_up = start and self._close(scan_id, outcome) and end
            try:
                if not start and scan_id not in self._entries:
                    raise GoneError("no such scan is open here; send it again from its start")
                return self._add(scan_id, read(), start=start, end=end)
            except ScanError as error:
                self._close(scan_id, error.code, refused_first=start and not given_up)
                raise
            except BaseException:
                self._close(scan_id, "FAILED", refused_first=start)
                raise

    def drop(self, scan_id: str, outcome: str) -> None:
        """Let a scan go; nothing happens where it is not held.

        Parameters
        ----------
        scan_id : str
            Id of the scan.
        outcome : str
            Why, for the report.
        """
        with self._lock:
            self._close(scan_id, outcome)

    def sweep(self) -> None:
        """Drop the scans that have been silent for too long."""
        with self._lock:
            self._sweep()

    def _add(self, scan_id: str, message: WindowMessage, *, start: bool, end: bool) -> Answer:
        if start and end and message.count > 1:
            raise IncompleteError(f"1 of {message.count} windows came, and it was the last")
        if start:
            self._open(scan_id, message)
        entry = self._entries[scan_id]
        _check_same_scan(entry.scan, message)
        started = self._clock()
        entry.longest_pause_s = max(entry.longest_pause_s, started - entry.touched_s)
        entry.scan.add(message.probabilities, message.origin, message.index)
        entry.touched_s = self._clock()
        entry.blend_s += entry.touched_s - started
        received = entry.scan.windows_received
        if not end:
            return Answer(received, None)
        score = entry.scan.finish()
        entry.score_s = self._clock() - entry.touched_s
        self._close(scan_id, "done")
        return Answer(received, score)

    def _open(self, scan_id: str, message: WindowMessage) -> None:
        contract, limits = self._contract, self._limits
        window_shape = message.window_shape
        arrays = arrays_of(message.probabilities)
        needed = OpenScan.bytes_needed(
            message.box_shape, window_shape, message.count, len(contract.classes), arrays
        )
        if needed > limits.open_bytes:
            raise RefusedError(
                f"box_shape {message.box_shape} takes {needed} bytes, "
                f"the limit for all scans is {limits.open_bytes}"
            )
        while busy := self._excess(needed):
            if not self._drop_longest_silent():
                raise BusyError(f"{busy}; send it again later")
        scan = OpenScan(
            message.box_shape,
            window_shape,
            message.count,
            message.voxel_volume_mm3,
            contract,
            arrays,
        )
        now = self._clock()
        self._entries[scan_id] = _Entry(scan, needed, started_s=now, touched_s=now)

    def _excess(self, needed: int) -> str:
        """Say which limit a scan of so many bytes exceeds; nothing where it can be taken."""
        limits, held = self._limits, self._bytes_held()
        if len(self._entries) >= limits.open_scans:
            return f"{len(self._entries)} scans are open, the limit"
        if held + needed > limits.open_bytes:
            return (
                f"open scans hold {held} bytes and this one takes {needed}, "
                f"the limit is {limits.open_bytes}"
            )
        return ""

    def _drop_longest_silent(self) -> bool:
        """Drop the scan that has been silent the longest, if that is long enough.

        Triton does not report that a client has vanished: only its silence shows it.
        """
        silent, entry = min(self._entries.items(), key=lambda item: item[1].touched_s)
        pause = max(entry.longest_pause_s for entry in self._entries.values())
        patience = max(YIELD_SHARE * self._limits.scan_idle_s, YIELD_PAUSES * pause)
        if self._clock() - entry.touched_s <= patience:
            return False
        self._close(silent, "YIELDED")
        return True

    def _bytes_held(self) -> int:
        return sum(entry.bytes_held for entry in self._entries.values())

    def _sweep(self) -> None:
        oldest = self._clock() - self._limits.scan_idle_s
        silent = [name for name, entry in self._entries.items() if entry.touched_s < oldest]
        for scan_id in silent:
            self._close(scan_id, "IDLE")

    def _close(self, scan_id: str, outcome: str, *, refused_first: bool = False) -> bool:
        """Let a scan go and report it; return whether it was held."""
        entry = self._entries.pop(scan_id, None)
        if entry is not None:
            scan = entry.scan
            self._report(
                ScanReport(
                    scan_id,
                    outcome,
                    scan.windows_received,
                    scan.window_count,
                    scan.box_shape,
                    self._clock() - entry.started_s,
                    entry.blend_s,
                    entry.score_s,
                )
            )
        elif refused_first:
            self._report(ScanReport(scan_id, outcome, 0, 0, (0, 0, 0), 0.0))
        return entry is not None


def _check_same_scan(scan: OpenScan, message: WindowMessage) -> None:
    for name, now, first in (
        ("window_count", message.count, scan.window_count),
        ("box_shape", message.box_shape, scan.box_shape),
        ("voxel_volume_mm3", message.voxel_volume_mm3, scan.voxel_volume_mm3),
    ):
        if now != first:
            raise RefusedError(f"{name} is {now}, the scan began with {first}")
