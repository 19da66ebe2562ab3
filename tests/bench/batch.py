"""`make bench-batch`: does `dlild batch` keep a server busy, here and elsewhere?

A server's own pace is that of windows which are ready when it asks for them. A batch reads and
prepares its scans meanwhile. On one machine it does so with the processors that the network needs;
so the same batch meets a second server, whose device takes as long as the real one took, and no
processor. Writes OUT/bench.json and a table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from bench.report import publish, store, table, verdict
from bench.support.memory import processor_seconds
from bench.support.raw import requests_of_box, score_windows
from bench.support.scan import REPOSITORY, MeasuredScan, measured_scan
from fake_server import FakeServer

from dlild_deploy.server import EmbeddedServer

TARGET = 0.9
SENDERS = 3


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the figures down and return the exit code 0."""
    parser = argparse.ArgumentParser(description="Measure whether a batch keeps its server busy.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scans", type=int, default=40, help="of a measurement")
    options = parser.parse_args(arguments)
    with measured_scan() as scan, tempfile.TemporaryDirectory(prefix="dlild-bench-") as place:
        cohort = Path(place) / "cohort"
        cohort.mkdir()
        for number in range(options.scans):
            (cohort / f"scan-{number:02d}").symlink_to(scan.folder)
        bench = Bench(scan, cohort, options.rounds)
        here = bench.here()
        elsewhere = bench.elsewhere(statistics.median(here["own_s"]))
        figures = {"scans": options.scans, "here": here, "elsewhere": elsewhere}
    path = store(options.out, "batch", figures)
    text = tables(figures)
    publish("bench-batch", text)
    print(f"\n{text}\nwritten: {path}, docs/performance.md")
    return 0


class Bench:
    """One cohort, against the real server and against one whose device is not on this machine.

    Parameters
    ----------
    scan : MeasuredScan
    cohort : Path
        Folder with the scan under several names.
    rounds : int
        How often own pace and batch take turns.
    """

    def __init__(self, scan: MeasuredScan, cohort: Path, rounds: int) -> None:
        self._scan = scan
        self._box = scan.box_hu()
        self._cohort = cohort
        self._scans = len(list(cohort.iterdir()))
        self._rounds = rounds
        self._runs = count()

    def here(self) -> dict[str, Any]:
        """Measure with the real server on the processors of the client."""
        with EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0) as server:
            pid = server.pid
            assert pid is not None
            self._own_s(server.grpc_url, 2)
            return self._in_turn(server.grpc_url, lambda: sum(processor_seconds(pid).values()))

    def elsewhere(self, pace_s: float) -> dict[str, Any]:
        """Measure with a device that takes so many seconds a scan, and no processor."""
        server = FakeServer((REPOSITORY / "contract.json").read_text("utf-8"))
        server.delay_s = pace_s / len(self._scan.prepared.plan.origins)
        server.start()
        try:
            return self._in_turn(server.url, lambda: 0.0)
        finally:
            server.stop()

    def _in_turn(self, url: str, processor_s: Callable[[], float]) -> dict[str, Any]:
        """Take turns; `processor_s` tells what the server has used of the processors so far."""
        names = ("own_s", "batch_s", "client_processor_s", "server_processor_s")
        found: dict[str, Any] = {name: [] for name in names}
        for turn in range(self._rounds):
            before = processor_s()
            found["own_s"].append(self._own_s(url, self._scans) / self._scans)
            found["server_processor_s"].append((processor_s() - before) / self._scans)
            wall, processor = self._batch_s(url)
            found["batch_s"].append(wall / self._scans)
            found["client_processor_s"].append(processor / self._scans)
            own, batch = found["own_s"][-1], found["batch_s"][-1]
            print(f"turn {turn + 1}: {own:.2f} and {batch:.2f} s a scan", file=sys.stderr)
        return found

    def _own_s(self, url: str, scans: int) -> float:
        """Seconds for so many scans whose windows are ready, with one always waiting."""
        in_flight = self._scan.contract.windows.in_flight

        def send(_: int) -> None:
            score_windows(url, requests_of_box(self._box, self._scan.contract), in_flight)

        started = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(send, range(scans)))
        return time.perf_counter() - started

    def _batch_s(self, url: str) -> tuple[float, float]:
        """Seconds that the batch itself states, and processor seconds of its process."""
        out = self._cohort.parent / f"out-{next(self._runs)}"
        arguments = ["batch", self._cohort, "--out", out, "--url", url, "--json"]
        with subprocess.Popen(
            [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            assert running.stdout is not None
            summary = json.loads(running.stdout.read())
            _, status, used = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode or summary["scored"] != self._scans:
            raise RuntimeError(f"the batch ended with {running.returncode}: {summary}")
        return summary["seconds"], used.ru_utime + used.ru_stime


def tables(figures: dict[str, Any]) -> str:
    """Lay out what was measured.

    Parameters
    ----------
    figures : dict
        The part ``batch`` of bench.json.
    """
    rows = []
    for name, what in (("here", "on these processors"), ("elsewhere", "elsewhere, as fast")):
        found = figures[name]
        ratio = statistics.median(
            own / batch for own, batch in zip(found["own_s"], found["batch_s"], strict=True)
        )
        rows.append(
            (
                what,
                f"{statistics.median(found['own_s']):.2f}",
                f"{statistics.median(found['batch_s']):.2f}",
                f"{ratio:.2f}",
                verdict(ratio, TARGET, at_most=False),
                f"{statistics.median(found['client_processor_s']):.2f}",
            )
        )
    heads = (
        "the server is",
        "its own pace, s a scan",
        "`dlild batch`, s a scan",
        "throughput, batch / own",
        "target",
        "client, processor s a scan",
    )
    served = statistics.median(figures["here"]["server_processor_s"])
    return table(heads, rows) + (
        f"\nThe real server takes {served:.2f} processor seconds a scan, "
        f"of {len(os.sched_getaffinity(0))} processors.\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
