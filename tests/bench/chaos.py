"""Chaos test: many scans, vanishing and misbehaving clients, slow lines, restarts, upgrades.

`make soak` and the chaos test run the same thing, one long, one short.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from bench.support.memory import server_memory, shared_memory
from bench.support.misbehaving import FAULTS, answers_to, requests_of, spoilt_messages, vanish
from bench.support.scan import REPOSITORY
from bench.support.small import SmallScan
from bench.support.watch import read_metric
from proxy import Fault, Proxy

from dlild_client import Client, Retries
from dlild_client.contract import Contract
from dlild_client.errors import DlildError
from dlild_deploy.server import EmbeddedServer
from dlild_export.data.contracts import read_limits
from dlild_export.release.versions import serve

AT_ONCE = 4
BATCH = 25
# A small scan takes some two seconds on such a line, both ways.
SLOW = Fault(bytes_per_s=4e6)
# No retries: errors that they would hide must be counted here.
ONCE = Retries(attempts=1)
# The wire's words, and what Triton itself says of a wrong type and of a sequence it does not hold.
REFUSALS = re.compile(
    r"\b(REFUSED|INCOMPLETE|GONE)\b|must specify the START flag|data-type is 'FP32'"
)


@dataclass(frozen=True)
class Plan:
    """How many scans, and what befalls them.

    Attributes
    ----------
    scans : int
        All told.
    vanishing, spoilt, slow : frozenset of int
        Numbers of the scans whose clients vanish, of those with a bad window, and of those that
        come by a slow line.
    kills : frozenset of int
        Batches in whose midst the server is killed.
    upgrades : dict of int to int
        Batches in whose midst the server is stopped in order, and the version that it is started
        again with.
    """

    scans: int
    vanishing: frozenset[int]
    spoilt: frozenset[int]
    slow: frozenset[int]
    kills: frozenset[int]
    upgrades: dict[int, int] = field(default_factory=dict)

    @classmethod
    def spread(
        cls,
        scans: int,
        every: int,
        kills: Iterable[int],
        upgrades: Mapping[int, int] | None = None,
    ) -> Plan:
        """Let one client in `every` vanish, one send a bad window, and one have a slow line."""
        vanishing, spoilt, slow = (
            frozenset(range(first, scans, every)) for first in (every // 3, 2 * every // 3, 0)
        )
        return cls(scans, vanishing, spoilt, slow, frozenset(kills), dict(upgrades or {}))


@dataclass
class Findings:
    """What happened.

    Attributes
    ----------
    counts : Counter
        Scans by outcome: scored, vanished, refused, interrupted (by a kill or an upgrade, with a
        clear error).
    violations : list of str
        What must not happen.
    memory : list of dict
        Samples with nothing under way: scans so far, and what every process holds (bytes,
        threads, file descriptors), and /dev/shm.
    restarts_s : list of float
        From kill to the first score after it.
    upgrades_s : list of float
        From the order to stop to the first score of the other version.
    """

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    upgrades_s: list[float] = field(default_factory=list)


class Chaos:
    """Runs a plan against a server of its own.

    Parameters
    ----------
    plan : Plan
    scans : list of SmallScan
        Taken in turn.
    contract : Contract
    server : EmbeddedServer
        Not started; it is started, killed and started again on the same ports.
    say : callable
        Told of the progress.
    """

    def __init__(
        self,
        plan: Plan,
        scans: list[SmallScan],
        contract: Contract,
        server: EmbeddedServer,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._scans = scans
        self._contract = contract
        self._server = server
        self._say = say
        self._lives = 0
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._faults = itertools.cycle(FAULTS)
        self.findings = Findings()

    def run(self) -> Findings:
        """Run all scans, a batch at a time."""
        self._start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for batch, first in enumerate(range(0, self._plan.scans, BATCH)):
                    numbers = range(first, min(first + BATCH, self._plan.scans))
                    waiting = as_completed([pool.submit(self._one, n) for n in numbers])
                    if batch in self._plan.kills or batch in self._plan.upgrades:
                        # Some are done, some under way, some still to come.
                        done = list(itertools.islice(waiting, len(numbers) // 3))
                        try:
                            self._restart(self._plan.upgrades.get(batch))
                        finally:
                            # Where it fails, those that wait must fail too, not wait for ever.
                            self._ready.set()
                        waiting = itertools.chain(done, waiting)
                    for future in waiting:
                        future.result()
                    self._sample(numbers[-1] + 1)
            self._settle()
            self._sample(self._plan.scans)
        finally:
            self._server.stop()
        return self.findings

    def _start(self) -> None:
        self._server.start()
        self._lives += 1
        self._ready.set()

    def _restart(self, version: int | None) -> None:
        """Kill the server and start it again; with a version, stop it in order and serve that."""
        self._ready.clear()
        assert self._server.pid is not None
        began = time.monotonic()
        if version is None:
            os.killpg(self._server.pid, signal.SIGKILL)
        else:
            serve(self._server.repository, version)
        self._server.stop()
        self._start()
        with Client(self._server.grpc_url, retries=ONCE) as client:
            self._judge("first scan after a restart", self._scans[0], client)
        taken = self.findings.restarts_s if version is None else self.findings.upgrades_s
        taken.append(time.monotonic() - began)

    def _one(self, number: int) -> None:
        scan = self._scans[number % len(self._scans)]
        self._ready.wait()
        if number in self._plan.vanishing:
            after = 1 + number % (len(scan.prepared.plan.origins) - 1)
            vanish(self._server.grpc_port, scan, self._contract, after)
            self._count("vanished")
            return
        if number in self._plan.spoilt:
            self._spoil(number, scan)
            return
        with contextlib.ExitStack() as line:
            url = self._server.grpc_url
            if number in self._plan.slow:
                url = line.enter_context(Proxy(self._server.grpc_port, lambda _: SLOW)).url
            client = line.enter_context(Client(url, retries=ONCE))
            self._judge(f"scan {number}", scan, client)

    def _judge(self, what: str, scan: SmallScan, client: Client) -> None:
        """Score a scan until it is done; only a restart may come between."""
        while True:
            life = self._lives
            try:
                result = client.score(scan.volume)
            except DlildError as error:
                interrupted = life != self._lives or not self._ready.is_set()
                self._count("interrupted" if interrupted else "failed")
                if not interrupted or "\n" in str(error) or len(str(error)) > 400:
                    self._violate(f"{what}: {type(error).__name__}: {error}")
                    return
                self._ready.wait()
                continue
            fault = scan.fault_of(result)
            self._count("scored wrong" if fault else "scored")
            if fault:
                self._violate(f"{what}: {fault}")
            return

    def _spoil(self, number: int, scan: SmallScan) -> None:
        with self._lock:
            fault = next(self._faults)
        messages = spoilt_messages(requests_of(scan, self._contract), fault)
        life = self._lives
        scores, errors = answers_to(self._server.grpc_port, messages)
        interrupted = life != self._lives or not self._ready.is_set()
        self._count("interrupted" if interrupted else "refused")
        if scores:
            self._violate(f"scan {number}, {fault}: a score from an incomplete scan")
        if not interrupted and not (errors and REFUSALS.search(errors[0])):
            self._violate(f"scan {number}, {fault}: no clear error first, but {errors[:1]}")

    def _settle(self) -> None:
        """Wait until the server holds no scan any more: those of vanished clients go in time."""
        deadline = time.monotonic() + 2 * read_limits(REPOSITORY).scan_idle_s
        while (
            held := read_metric(self._server, "dlild_open_scans")
        ) and time.monotonic() < deadline:
            time.sleep(0.5)
        if held:
            self._violate(f"{held:g} scans are still held at the end")

    def _sample(self, scans: int) -> None:
        assert self._server.pid is not None
        processes = server_memory(self._server.pid)
        sample = {
            "scans": scans,
            "life": self._lives,
            "open_scans": read_metric(self._server, "dlild_open_scans"),
            "shared_memory": shared_memory(self._server.pid),
            "rss": {name: held.rss for name, held in processes.items()},
            "threads": {name: held.threads for name, held in processes.items()},
            "descriptors": {name: held.descriptors for name, held in processes.items()},
        }
        self.findings.memory.append(sample)
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.findings.counts.items()))
        total = sum(sample["rss"].values()) / 2**20
        self._say(f"{scans} of {self._plan.scans}: {counts}; server {total:.0f} MiB")

    def _count(self, what: str) -> None:
        with self._lock:
            self.findings.counts[what] += 1

    def _violate(self, what: str) -> None:
        with self._lock:
            self.findings.violations.append(what)
