"""What Prometheus sees of the open scans: counts and seconds, and nothing of any patient.

A metric of Triton 24.10 is not safe to use from several threads: `increment` gives up the
interpreter's lock and then, without any other, replaces the block of shared memory that the server
is about to read (`Metric::SendIncrementRequest` in `src/metric.cc` of its Python backend, branch
r24.10). Two threads that change one metric at once end the whole server with a segmentation fault.
So events are only noted, by any thread, and all metrics are changed by `publish`, under one lock.
A lock round each change alone would not do: scans end under the lock of `OpenScans`, and `publish`
takes that lock to read what is held.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from memory import MemoryUse
from scans import OUTCOMES, OpenScans, ScanReport

STAGES = ("network", "blend", "score", "whole")
# Upper edges (s) of the histogram of whole scans: small ones on a GPU to large ones on a CPU.
EDGES = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300)


class Health:
    """Metrics of the open scans. Safe to use from several threads.

    Parameters
    ----------
    counter, gauge : callable
        Make a family of metrics from a name and a description; the family's ``Metric(labels=…)``
        makes a metric with ``increment`` and ``set``, as Triton's own does.

    Notes
    -----
    Each change is a message to Triton's process, so only what did change is sent. Every series
    exists from the start, with 0: a rate over a series that appears later misses its first event.
    """

    def __init__(
        self, counter: Callable[[str, str], Any], gauge: Callable[[str, str], Any]
    ) -> None:
        self._families: list[Any] = []
        self._publishing = threading.Lock()
        self._noting = threading.Lock()
        self._windows_taken = 0
        self._ended: list[ScanReport] = []
        self._reported: dict[str, float] = {}
        self._open = self._only(gauge("dlild_open_scans", "Scans that are open"))
        self._bytes = self._only(gauge("dlild_bytes_held", "Bytes that open scans may take"))
        self._waiting = self._only(
            gauge("dlild_waiting_windows", "Windows that wait for the network")
        )
        self._answer_s = self._only(
            gauge(
                "dlild_answer_seconds",
                "Seconds between two answers to an open scan, by the pace of the network",
            )
        )
        self._waited = self._only(
            counter("dlild_wait_seconds_total", "Seconds that windows have waited for the network")
        )
        self._windows = self._only(counter("dlild_windows_total", "Windows that were taken"))
        scans = counter("dlild_scans_total", "Scans that ended, by outcome")
        self._scans = self._labelled(scans, "outcome", OUTCOMES)
        seconds = counter(
            "dlild_scan_seconds_total", "Seconds of the scans that ended, by stage: whole is wall"
        )
        self._seconds = self._labelled(seconds, "stage", STAGES)
        # A histogram made of counters: the Python backend of Triton 24.10 has none of its own.
        buckets = counter(
            "dlild_scan_duration_seconds_bucket", "Scans that were scored within le seconds"
        )
        self._buckets = self._labelled(buckets, "le", (*map(str, EDGES), "+Inf"))
        families = [
            gauge("dlild_memory_budget_bytes", "Bytes of the container, by what and whether used"),
            gauge("dlild_room_bytes", "dlild_memory_budget_bytes by its old name: goes in 0.2"),
        ]
        self._memory = {
            (what, state): [
                family.Metric(labels={"what": what, "state": state}) for family in families
            ]
            for what in ("shared_memory", "memory")
            for state in ("used", "total")
        }
        self._families += families

    def taken(self) -> None:
        """Note a window that was taken."""
        with self._noting:
            self._windows_taken += 1

    def ended(self, report: ScanReport) -> None:
        """Note a scan that ended.

        Parameters
        ----------
        report : ScanReport
            How it ended.
        """
        with self._noting:
            self._ended.append(report)

    def publish(self, scans: OpenScans, memory: MemoryUse | None = None) -> None:
        """Change the metrics: count what was noted since, set what is held where that changed.

        Parameters
        ----------
        scans : OpenScans
            What is held now.
        memory : MemoryUse, optional
            How much memory of the container is in use now.
        """
        with self._publishing:
            with self._noting:
                taken, self._windows_taken = self._windows_taken, 0
                ended, self._ended = self._ended, []
            if taken:
                self._windows.increment(taken)
            for report in ended:
                self._count(report)
            self._set_held(scans)
            if memory is not None:
                self._set_memory(memory)

    def _count(self, report: ScanReport) -> None:
        self._scans[report.outcome].increment(1)
        for stage, seconds in zip(
            STAGES,
            (
                report.network_seconds,
                report.blend_seconds,
                report.score_seconds,
                report.seconds,
            ),
            strict=True,
        ):
            if seconds > 0:
                self._seconds[stage].increment(seconds)
        if report.outcome == "done":
            for edge, bucket in self._buckets.items():
                if report.seconds <= float(edge):
                    bucket.increment(1)

    def _set_held(self, scans: OpenScans) -> None:
        waited = scans.waited_s - self._reported.get("waited", 0.0)
        if waited > 0:
            self._waited.increment(waited)
            self._reported["waited"] = self._reported.get("waited", 0.0) + waited
        for name, metric, value in (
            ("open", self._open, len(scans)),
            ("bytes", self._bytes, scans.bytes_held),
            ("waiting", self._waiting, scans.windows_waiting),
            ("answer_s", self._answer_s, round(scans.answer_s, 3)),
        ):
            if self._reported.get(name) != value:
                metric.set(value)
                self._reported[name] = value

    def _set_memory(self, memory: MemoryUse) -> None:
        values = {
            ("shared_memory", "used"): memory.shared_used,
            ("shared_memory", "total"): memory.shared_total,
            ("memory", "used"): memory.memory_used,
            ("memory", "total"): memory.memory_total,
        }
        for key, value in values.items():
            for metric in self._memory[key]:
                metric.set(value)

    def _only(self, family: Any) -> Any:
        self._families.append(family)
        return family.Metric(labels={})

    def _labelled(self, family: Any, label: str, values: tuple[str, ...]) -> Mapping[str, Any]:
        self._families.append(family)
        return {value: family.Metric(labels={label: value}) for value in values}
