"""Load by whole scans: our own client, several at once, for a time (``make load-scans``).

Each client is a process that does what hospital users do: read from memory, prepare, send, wait for
the score, begin again. Its settings (key, certificates) come from the client's `DLILD_*` variables.
"""

import csv
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import numpy as np

from dlild_client import Client, Retries, read_volume
from dlild_client.errors import BusyError, DlildError, NotReadyError
from dlild_deploy.errors import LauncherError
from dlild_deploy.load.default_scan import default_scan, report_progress
from dlild_deploy.server.embedded_server import EmbeddedServer

READY_S = 120
REFUSED_WAIT_S = 1.0
REFUSALS = (BusyError.kind, NotReadyError.kind)
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Attempt:
    """One sending of a scan: `scored`, or the kind of its error; its seconds, and when it ended."""

    outcome: str
    seconds: float
    end: float


@dataclass(frozen=True)
class ScanLevel:
    """Figures of one number of clients at once.

    Attributes
    ----------
    clients : int
    scans : int
        That were scored.
    scans_an_hour : float
    latency_s : tuple of float
        By `PERCENTILES`, of scans that were scored; NaN without any.
    refused : int
        Turned away, and sent again by the same client after a second.
    errors : Counter of str
        All others, by kind.
    """

    clients: int
    scans: int
    scans_an_hour: float
    latency_s: tuple[float, ...]
    refused: int
    errors: Counter[str]


def measure_scans(
    out: Path, scans: Sequence[Path], url: str | None, clients: Sequence[int], seconds: float
) -> list[ScanLevel]:
    """Load a server with whole scans, and write ``scans.csv`` and ``scans.md``.

    Parameters
    ----------
    out : Path
        Folder for both.
    scans : sequence of Path
        Where empty, the shared scan or a phantom.
    url : str, optional
        Address of a server; the embedded server is started where it is left out.
    clients : sequence of int
        Numbers of clients at once, a level each.
    seconds : float
        Of each level.

    Returns
    -------
    list of ScanLevel

    Raises
    ------
    LauncherError
        The server does not run, or a client's process has died.
    DlildError
        A scan cannot be scored, or the server cannot be reached.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlild-load-")))
        scans = scans or [default_scan(folder)]
        for scan in scans:
            # Whatever is wrong with it shows here, and not in every client.
            read_volume(scan)
        if url is None:
            report_progress("starting the embedded Triton server")
            server = EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0)
            url = stack.enter_context(server).grpc_url
        with Client(url) as client:
            client.info()
        levels = []
        for count in clients:
            report_progress(f"{count} clients, {seconds:g} s")
            levels.append(summarise(count, measure(url, scans, count, seconds)))
    out.mkdir(parents=True, exist_ok=True)
    write_csv(levels, out / "scans.csv")
    (out / "scans.md").write_text(lay_out(levels), "utf-8")
    return levels


def measure(url: str, scans: Sequence[Path], clients: int, seconds: float) -> list[Attempt]:
    """Let clients score scans for a time, all beginning together.

    Parameters
    ----------
    url : str
    scans : sequence of Path
        Every client takes them in turn, each beginning with another one.
    clients : int
    seconds : float
        After which no scan is begun; those under way are ended.

    Returns
    -------
    list of Attempt
        Their ends are counted from the common beginning.

    Raises
    ------
    LauncherError
        A client's process has died.
    """
    # Not forked: gRPC does not survive that.
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(clients)
    with ProcessPoolExecutor(
        clients, mp_context=context, initializer=_take_barrier, initargs=(barrier,)
    ) as pool:
        order = [[*scans[n % len(scans) :], *scans[: n % len(scans)]] for n in range(clients)]
        waiting = [pool.submit(_client, url, mine, seconds) for mine in order]
        try:
            return [attempt for done in as_completed(waiting) for attempt in done.result()]
        except (BrokenProcessPool, BrokenBarrierError):
            raise LauncherError(
                f"{clients} clients: not all came to work; is there memory for them (0.5 GB each)?"
            ) from None


_barrier: Any = None


def _take_barrier(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603  (a barrier reaches a process only when it begins)
    _barrier = barrier


def _client(url: str, scans: Sequence[Path], seconds: float) -> list[Attempt]:
    """Score scans in turn until the time is over. No attempt is repeated unseen."""
    attempts: list[Attempt] = []
    try:
        volumes = [read_volume(scan) for scan in scans]
    except BaseException:
        _barrier.abort()
        raise
    with Client(url, retries=Retries(attempts=1)) as client:
        _barrier.wait(READY_S)
        start = time.monotonic()
        while (begun := time.monotonic() - start) < seconds:
            try:
                client.score(volumes[len(attempts) % len(volumes)])
                outcome = "scored"
            except DlildError as error:
                outcome = error.kind
            end = time.monotonic() - start
            attempts.append(Attempt(outcome, end - begun, end))
            if outcome != "scored":
                time.sleep(REFUSED_WAIT_S)
    return attempts


def summarise(clients: int, attempts: Sequence[Attempt]) -> ScanLevel:
    """Summarise what the clients of one level met.

    The pace is the scans over the time until the last of them ended, so that one that was cut by
    neither end of the time counts whole.
    """
    counts = Counter(attempt.outcome for attempt in attempts)
    good = [attempt for attempt in attempts if attempt.outcome == "scored"]
    lasted = max((attempt.end for attempt in good), default=float("nan"))
    seconds = [attempt.seconds for attempt in good] or [float("nan")]
    return ScanLevel(
        clients=clients,
        scans=len(good),
        scans_an_hour=3600 * len(good) / lasted if good else 0.0,
        latency_s=tuple(float(value) for value in np.percentile(seconds, PERCENTILES)),
        refused=sum(counts[name] for name in REFUSALS),
        errors=Counter({n: c for n, c in counts.items() if n not in {"scored", *REFUSALS}}),
    )


def lay_out(levels: Sequence[ScanLevel]) -> str:
    """Lay out the levels as a Markdown table."""
    lines = [
        "| clients | scans | scans/h | p50, s | p95 | p99 | refused | errors |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for level in levels:
        latency = " | ".join(f"{value:.1f}" for value in level.latency_s)
        errors = ", ".join(f"{count} {name}" for name, count in sorted(level.errors.items()))
        lines.append(
            f"| {level.clients} | {level.scans} | {level.scans_an_hour:.0f} | {latency} | "
            f"{level.refused} | {errors or 'none'} |"
        )
    return "\n".join(lines) + "\n"


def write_csv(levels: Sequence[ScanLevel], path: Path) -> None:
    """Write a line a level."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [f"p{percentile}_s" for percentile in PERCENTILES]
        writer.writerow(["clients", "scans", "scans_an_hour", *names, "refused", "errors"])
        for level in levels:
            figures = [f"{value:.3f}" for value in level.latency_s]
            row = [level.clients, level.scans, f"{level.scans_an_hour:.1f}", *figures]
            writer.writerow([*row, level.refused, level.errors.total()])
