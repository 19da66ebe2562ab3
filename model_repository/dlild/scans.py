"""All scans that are open, and their windows that wait: the one place where scans are admitted.

A scan is admitted at its first window, before the network has computed anything of it, or refused
with `BUSY`. Its windows wait here, not in a queue of Triton's, and each is handed to the network
only while its scan is open: of a scan that was cancelled, given up, refused or silent for too long
nothing more is computed.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from arrays import HOST, Array, Arrays
from contract.refusals import (
    BusyError,
    CancelledError,
    GoneError,
    IncompleteError,
    RefusedError,
    ScanError,
)
from contract.schema import Contract, ServerLimits
from pace import Pace
from scan import OpenScan, missing_windows
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
# gone on from: over a slow line all pauses are long, and no client is at fault.
YIELD_SHARE = 0.25
YIELD_PAUSES = 4

# A window goes before those of scans that were admitted earlier when it has waited for this share
# of `answer_s`.
TURN_SHARE = 1 / 3

# A server of few open scans bears windows of so many, for clients that send all of theirs at once.
LEAST_WAITING_SCANS = 4

# Scans that are admitted while no window has been measured yet.
UNMEASURED_SCANS = 4
# A network that is faster than this gets its next window before it is done with the last: the
# time between the two would count. After all clients have gone it computes that window in vain.
AHEAD_S = 0.2
# Refused scans are asked to come back one after the other, as the network gets through with those
# before them: a little early, so that it never waits for them, and after this long at the latest.
EARLY = 0.75
LONGEST_WAIT_S = 60.0
SHORTEST_WAIT_S = 0.5


@dataclass(frozen=True)
class Answer:
    """What a window is answered.

    Attributes
    ----------
    windows_received : int
        Different windows of the scan seen so far.
    score : Score or None
        The score, for the last window only.
    engine : str or None
        Engine and precision, where the network names them.
    """

    windows_received: int
    score: Score | None
    engine: str | None = None


class Reply(Protocol):
    """The way back to the client for one window."""

    def send(self, answer: Answer | ScanError) -> None:
        """Send the one answer of the window; never raises."""

    def is_cancelled(self) -> bool:
        """Return whether the client has cancelled the request, or is gone."""


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
    network_seconds, blend_seconds, score_seconds : float
        Of these, spent in the network, on adding windows, and on measuring the box at the end.
    """

    scan: str
    outcome: str
    windows_received: int
    window_count: int
    box_shape: tuple[int, int, int]
    seconds: float
    network_seconds: float = 0.0
    blend_seconds: float = 0.0
    score_seconds: float = 0.0


@dataclass(eq=False)
class _Entry:
    """One open scan. `closed` is set once, when it is no longer open: why."""

    scan_id: str
    scan: OpenScan
    bytes_held: int
    started_s: float
    touched_s: float
    waiting: "deque[QueuedWindow]" = field(default_factory=deque)
    accepted: set[int] = field(default_factory=set)
    numbers: int = 0
    added: int = 0
    highest_z: int = 0
    closed: ScanError | None = None
    engine: str | None = None
    longest_pause_s: float = 0.0
    network_s: float = 0.0
    blend_s: float = 0.0
    score_s: float = 0.0

    @property
    def unanswered(self) -> int:
        """Windows that came and have no answer yet."""
        return self.numbers - self.added

    @property
    def windows_left(self) -> int:
        """Windows that the network has still to compute."""
        return self.scan.window_count - self.scan.windows_received

    @property
    def window_voxels(self) -> int:
        """Voxels of one of its windows."""
        return math.prod(self.scan.window_shape)


@dataclass(eq=False)
class QueuedWindow:
    """A window that was taken and has no answer yet.

    Attributes
    ----------
    message : WindowMessage
    reply : Reply
    is_repeated : bool
        Whether a window of that index came before: the network need not compute it.
    """

    message: WindowMessage
    reply: Reply
    is_repeated: bool
    _entry: _Entry
    _number: int
    _is_last: bool
    _came_s: float
    _started_s: float = 0.0

    @property
    def voxels(self) -> int:
        """Voxels of the window."""
        return math.prod(self.message.window_shape)


class OpenScans:
    """The open scans of a server. Safe to use from several threads.

    One thread calls `receive` for every request. Any number of others each `take` a window, have it
    computed, and give its probabilities to `add`, or what went wrong to `fail`.

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
    arrays : Arrays, optional
        Where windows are blended.
    """

    def __init__(
        self,
        contract: Contract,
        limits: ServerLimits,
        report: Callable[[ScanReport], None],
        clock: Callable[[], float] = time.monotonic,
        arrays: Arrays = HOST,
    ) -> None:
        self._contract = contract
        self._limits = limits
        self._report = report
        self._clock = clock
        self._arrays = arrays
        self._pace = Pace()
        # In the order in which they were admitted.
        self._entries: dict[str, _Entry] = {}
        self._computed: list[QueuedWindow] = []
        self._expected_s = 0.0
        self._waited_s = 0.0
        self._stopped = False
        self._lock = threading.Condition(threading.Lock())
        self._unsent: list[tuple[Reply, Answer | ScanError]] = []

    def __len__(self) -> int:
        """Return the number of open scans."""
        with self._lock:
            return len(self._entries)

    @property
    def bytes_held(self) -> int:
        """Bytes that the open scans may take together, each at its peak."""
        with self._lock:
            return self._bytes_held()

    @property
    def windows_waiting(self) -> int:
        """Windows that have come and that the network has not begun."""
        with self._lock:
            return self._waiting()

    @property
    def waited_s(self) -> float:
        """Seconds that windows have waited for the network so far, all together."""
        with self._lock:
            return self._waited_s

    @property
    def answer_s(self) -> float:
        """Seconds between two answers to an open scan, by the pace of the network as it is."""
        with self._lock:
            return self._round_s()

    def receive(
        self,
        scan_id: str,
        read: Callable[[], WindowMessage],
        reply: Reply,
        *,
        start: bool,
        end: bool,
    ) -> None:
        """Take a window, or refuse it.

        Parameters
        ----------
        scan_id : str
            Id of the scan.
        read : callable
            Reads and checks the request; called inside, so that what it refuses ends the scan too.
        reply : Reply
            Gets the answer: here where the window is refused, after `add` otherwise.
        start, end : bool
            Whether the window is flagged as the scan's first or last.
        """
        given_up = False
        try:
            with self._locked():
                self._sweep()
                # A second start under one id is another scan: its windows must never mix. One that
                # is the end as well is how a client gives a scan up, and no scan of its own.
                gone = GoneError("the scan was given up or begun anew under the same id")
                outcome = CancelledError.code if end else "RESTARTED"
                given_up = start and self._close(scan_id, outcome, gone) and end
                if not start and scan_id not in self._entries:
                    raise GoneError("no such scan is open here; send it again from its start")
            message = read()
            with self._locked():
                self._accept(scan_id, message, reply, start=start, end=end)
        except ScanError as error:
            with self._locked():
                self._close(scan_id, error.code, error, refused_first=start and not given_up)
            reply.send(error)
        except BaseException:
            with self._locked():
                failed = GoneError("the server failed; send the scan again")
                self._close(scan_id, "FAILED", failed, refused_first=start)
            raise

    def take(self) -> QueuedWindow | None:
        """Wait for the next window to compute.

        Returns
        -------
        QueuedWindow or None
            None after `stop`.
        """
        while True:
            with self._locked():
                self._lock.wait_for(lambda: self._stopped or self._next() is not None)
                if self._stopped:
                    return None
                entry = self._next()
                assert entry is not None
                window = entry.waiting.popleft()
                if not window.is_repeated:
                    window._started_s = self._clock()
                    self._waited_s += window._started_s - window._came_s
                    self._computed.append(window)
            # Outside the lock: the question goes to Triton's process and back.
            if not window.reply.is_cancelled():
                return window
            self.fail(window, CancelledError("the client went away"), is_measured=False)

    def add(
        self, window: QueuedWindow, probabilities: Array | None, engine: str | None = None
    ) -> None:
        """Add what the network made of a window to its scan, and answer it.

        Waits until the windows of the scan that came before are added.

        Parameters
        ----------
        window : QueuedWindow
            As `take` returned it.
        probabilities : ndarray of float16, shape (classes, z, y, x), or None
            None for a window that is repeated.
        engine : str, optional
            Engine and precision that computed it.
        """
        entry = window._entry
        with self._locked():
            self._done(window, is_measured=True)
            self._lock.wait_for(lambda: entry.closed or entry.added == window._number)
            if entry.closed:
                self._unsent.append((window.reply, entry.closed))
                return
            entry.engine = engine or entry.engine
        # Outside the lock, so that the network goes on meanwhile: no other thread adds to this scan
        # before `added` is counted up.
        try:
            answer = self._blended(window, probabilities)
        except ScanError as error:
            self.fail(window, error, is_measured=False)
            return
        with self._locked():
            if entry.closed:
                self._unsent.append((window.reply, entry.closed))
                return
            entry.added += 1
            entry.touched_s = self._clock()
            if window._is_last:
                self._close(entry.scan_id, "done", GoneError("the scan was scored already"))
            self._unsent.append((window.reply, answer))
            self._lock.notify_all()

    def fail(
        self,
        window: QueuedWindow,
        error: ScanError,
        *,
        outcome: str | None = None,
        is_measured: bool = True,
    ) -> None:
        """End the scan of a window that could not be computed.

        Parameters
        ----------
        window : QueuedWindow
            As `take` returned it.
        error : ScanError
            Why; what the client hears of this window and those behind it.
        outcome : str, optional
            One of ``OUTCOMES``; by default the code of the error.
        is_measured : bool, optional
            Whether the time that it took says something of the network.
        """
        entry = window._entry
        with self._locked():
            self._done(window, is_measured=is_measured)
            if self._entries.get(entry.scan_id) is entry:
                self._close(entry.scan_id, outcome or error.code, error)
            self._unsent.append((window.reply, entry.closed or error))

    def drop(self, scan_id: str, error: ScanError) -> None:
        """Let a scan go; nothing happens where it is not held.

        Parameters
        ----------
        scan_id : str
            Id of the scan.
        error : ScanError
            Why, for the report and for its windows that wait.
        """
        with self._locked():
            self._close(scan_id, error.code, error)

    def sweep(self) -> None:
        """Drop the scans that have been silent for too long, and those whose clients went away."""
        with self._lock:
            heads = [entry.waiting[0] for entry in self._entries.values() if entry.waiting]
        gone = [window for window in heads if window.reply.is_cancelled()]
        with self._locked():
            self._sweep()
            for window in gone:
                self._drop_cancelled(window._entry)

    def stop(self) -> None:
        """Refuse all that waits, and let `take` return."""
        with self._locked():
            self._stopped = True
            self._lock.notify_all()
            gone = GoneError("the server is stopping; send the scan again from its start")
            for scan_id in list(self._entries):
                self._close(scan_id, gone.code, gone)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock; what became to be sent meanwhile is sent after its release."""
        try:
            with self._lock:
                try:
                    yield
                finally:
                    unsent, self._unsent = self._unsent, []
        finally:
            for reply, answer in unsent:
                reply.send(answer)

    def _accept(
        self, scan_id: str, message: WindowMessage, reply: Reply, *, start: bool, end: bool
    ) -> None:
        if start and end and message.count > 1:
            raise IncompleteError(f"1 of {message.count} windows came, and it was the last")
        if start:
            self._open(scan_id, message)
        entry = self._entries.get(scan_id)
        if entry is None:  # dropped since, by another thread
            raise GoneError("no such scan is open here; send it again from its start")
        _check_same_scan(entry.scan, message)
        is_repeated = message.index in entry.accepted
        if not is_repeated and message.origin[0] < entry.highest_z:
            raise RefusedError(
                f"origin {message.origin} of window {message.index} lies below z "
                f"{entry.highest_z}, where a window before it began; windows must come in rising "
                "order of z"
            )
        entry.accepted.add(message.index)
        if end and (missing := missing_windows(message.count, entry.accepted)):
            raise IncompleteError(missing)
        now = self._clock()
        if not entry.unanswered:
            entry.longest_pause_s = max(entry.longest_pause_s, now - entry.touched_s)
        entry.highest_z = max(entry.highest_z, message.origin[0])
        entry.waiting.append(
            QueuedWindow(message, reply, is_repeated, entry, entry.numbers, end, now)
        )
        entry.numbers += 1
        self._bound_waiting()
        self._lock.notify_all()

    def _open(self, scan_id: str, message: WindowMessage) -> None:
        contract, limits = self._contract, self._limits
        scan_bytes = OpenScan.bytes_needed(
            message.box_shape,
            message.window_shape,
            message.count,
            len(contract.classes),
            self._arrays,
        )
        waiting = min(message.count, contract.windows.in_flight)
        needed = scan_bytes + waiting * message.window.nbytes
        if needed > limits.open_bytes:
            raise RefusedError(
                f"box_shape {message.box_shape} takes {needed} bytes, "
                f"the limit for all scans is {limits.open_bytes}"
            )
        voxels = math.prod(message.window_shape)
        while busy := self._excess(needed, voxels):
            if not self._drop_vanished() and not self._drop_longest_silent():
                wait_s = self._wait_s(voxels * message.count)
                raise BusyError(f"{busy}; send it again in {wait_s:.1f} s")
        scan = OpenScan(
            message.box_shape,
            message.window_shape,
            message.count,
            message.voxel_volume_mm3,
            contract,
            self._arrays,
        )
        now = self._clock()
        self._entries[scan_id] = _Entry(scan_id, scan, needed, started_s=now, touched_s=now)

    def _excess(self, needed: int, voxels: int) -> str:
        """Say which limit another scan exceeds; nothing where it can be taken.

        A server that holds no scan takes any, however slow its network is.
        """
        limits, held = self._limits, self._bytes_held()
        if len(self._entries) >= limits.open_scans:
            return f"{len(self._entries)} scans are open, the limit"
        if held + needed > limits.open_bytes:
            return (
                f"open scans hold {held} bytes and this one takes {needed}, "
                f"the limit is {limits.open_bytes}"
            )
        return self._late(voxels) if self._entries else ""

    def _late(self, voxels: int) -> str:
        """Say that the network is too slow for another scan beside those that are open."""
        limits, scans = self._limits, len(self._entries)
        self._watch()
        if not self._pace.is_known:
            many = scans >= UNMEASURED_SCANS * limits.network_instances
            return f"{scans} scans are open, the limit before the first is done" if many else ""
        answer_s = self._round_s() + self._pace.seconds(voxels) / limits.network_instances
        if answer_s <= limits.answer_s:
            return ""
        return (
            f"{scans} scans are open, and with this one each would wait {answer_s:.0f} s for an "
            f"answer, the limit is {limits.answer_s:g} s"
        )

    def _wait_s(self, voxels: int) -> float:
        """Return when to send a scan of so many voxels again that is refused now.

        The first refused scan is asked to come back when the first open one is done, each further
        one when the scan refused before it is done as well.
        """
        now = self._clock()
        left = min(entry.windows_left for entry in self._entries.values())
        first_s = sum(
            min(left, entry.windows_left) * self._window_s(entry.window_voxels)
            for entry in self._entries.values()
        )
        instances = self._limits.network_instances
        free_s = max(self._expected_s, now + EARLY * first_s / instances)
        wait_s = min(max(free_s - now, SHORTEST_WAIT_S), LONGEST_WAIT_S)
        self._expected_s = now + wait_s + EARLY * self._window_s(voxels) / instances
        return wait_s

    def _window_s(self, voxels: int) -> float:
        return self._pace.seconds(voxels) if self._pace.is_known else 1.0

    def _round_s(self) -> float:
        """Return the seconds in which one window of every open scan is computed."""
        seconds = (
            self._pace.seconds(entry.window_voxels)
            for entry in self._entries.values()
            if entry.windows_left
        )
        return sum(seconds) / self._limits.network_instances

    def _watch(self) -> None:
        """Let a window that takes longer than any before it count before it is done."""
        now = self._clock()
        for window in self._computed:
            elapsed_s = now - window._started_s
            if elapsed_s > self._window_s(window.voxels):
                self._pace.at_least(window.voxels, elapsed_s)

    def _next(self) -> _Entry | None:
        """Return the scan whose window is next; None while none may be handed over."""
        waiting = [entry for entry in self._entries.values() if entry.waiting]
        repeated = [entry for entry in waiting if entry.waiting[0].is_repeated]
        if repeated:
            return repeated[0]
        if not waiting:
            return None
        # The scan that was admitted first is finished first, so that its slot is free soon. A
        # window that has waited for long goes before it: every scan gets its answers in time.
        now = self._clock()
        longest = min(waiting, key=lambda entry: entry.waiting[0]._came_s)
        waited_s = now - longest.waiting[0]._came_s
        chosen = longest if waited_s > TURN_SHARE * self._limits.answer_s else waiting[0]
        at_once = self._limits.network_instances
        if self._pace.is_known:
            at_once += self._pace.seconds(chosen.window_voxels) < AHEAD_S
        return chosen if len(self._computed) < at_once else None

    def _blended(self, window: QueuedWindow, probabilities: Array | None) -> Answer:
        entry, message = window._entry, window.message
        started = self._clock()
        if probabilities is not None:
            entry.scan.add(probabilities, message.origin, message.index)
        blended = self._clock()
        entry.blend_s += blended - started
        received = entry.scan.windows_received
        if not window._is_last:
            return Answer(received, None, entry.engine)
        score = entry.scan.finish()
        entry.score_s = self._clock() - blended
        return Answer(received, score, entry.engine)

    def _done(self, window: QueuedWindow, *, is_measured: bool) -> None:
        """Take note that the network is done with a window."""
        if window not in self._computed:
            return
        self._computed.remove(window)
        seconds = self._clock() - window._started_s
        if is_measured:
            self._pace.add(window.voxels, seconds)
            window._entry.network_s += seconds
        self._lock.notify_all()

    def _bound_waiting(self) -> None:
        """Refuse the scan with the most unanswered windows where all together are too many.

        Clients that keep to `windows.in_flight` never are.
        """
        in_flight = self._contract.windows.in_flight
        if self._waiting() <= max(self._limits.open_scans, LEAST_WAITING_SCANS) * in_flight:
            return
        entry = max(self._entries.values(), key=lambda entry: entry.unanswered)
        error = RefusedError(
            f"{entry.unanswered} windows are unanswered, at most {in_flight} may be"
        )
        self._close(entry.scan_id, error.code, error)

    def _waiting(self) -> int:
        return sum(len(entry.waiting) for entry in self._entries.values())

    def _drop_vanished(self) -> bool:
        """Drop the scans whose clients went away; return whether there were any."""
        waiting = [entry for entry in self._entries.values() if entry.waiting]
        vanished = [entry for entry in waiting if entry.waiting[0].reply.is_cancelled()]
        for entry in vanished:
            self._drop_cancelled(entry)
        return bool(vanished)

    def _drop_cancelled(self, entry: _Entry) -> None:
        if self._entries.get(entry.scan_id) is entry:
            error = CancelledError("the client went away")
            self._close(entry.scan_id, error.code, error)

    def _drop_longest_silent(self) -> bool:
        """Drop the scan that has been silent the longest, if that is long enough.

        Where no window of a scan waits, only its silence shows that its client has vanished.
        """
        silent = [entry for entry in self._entries.values() if not entry.unanswered]
        if not silent:
            return False
        longest = min(silent, key=lambda entry: entry.touched_s)
        pause = max(entry.longest_pause_s for entry in self._entries.values())
        patience = max(YIELD_SHARE * self._limits.scan_idle_s, YIELD_PAUSES * pause)
        if self._clock() - longest.touched_s <= patience:
            return False
        gone = GoneError("the scan was silent while others waited; send it again from its start")
        self._close(longest.scan_id, "YIELDED", gone)
        return True

    def _bytes_held(self) -> int:
        return sum(entry.bytes_held for entry in self._entries.values())

    def _sweep(self) -> None:
        oldest = self._clock() - self._limits.scan_idle_s
        silent = [
            entry.scan_id
            for entry in self._entries.values()
            if not entry.unanswered and entry.touched_s < oldest
        ]
        for scan_id in silent:
            gone = GoneError("the scan was silent for too long; send it again from its start")
            self._close(scan_id, "IDLE", gone)

    def _close(
        self, scan_id: str, outcome: str, error: ScanError, *, refused_first: bool = False
    ) -> bool:
        """Let a scan go, refuse its windows that wait, report it; return whether it was held."""
        entry = self._entries.pop(scan_id, None)
        if entry is not None:
            entry.closed = error
            self._unsent += [(window.reply, error) for window in entry.waiting]
            entry.waiting.clear()
            scan = entry.scan
            self._report(
                ScanReport(
                    scan_id,
                    outcome,
                    scan.windows_received,
                    scan.window_count,
                    scan.box_shape,
                    self._clock() - entry.started_s,
                    entry.network_s,
                    entry.blend_s,
                    entry.score_s,
                )
            )
            self._lock.notify_all()
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
    if message.window_shape != scan.window_shape:
        raise RefusedError(
            f"window has shape {message.window_shape}, the scan began with {scan.window_shape}"
        )
