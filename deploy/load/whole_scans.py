"""`make load-scans`: whole scans by our own client, some clients at once, for a time.

What hospital users do: read from memory, prepare, send, wait for the score, begin again. Each
client is a process. Starts the embedded server unless an address is given; settings of the client
(key, certificates) come from its `DLILD_*` variables. Writes OUT/scans.csv and OUT/scans.md.
"""

import argparse
import csv
import multiprocessing
import os
import sys
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
from launcher import EmbeddedServer
from load import default_scan, exit_code_of
from preflight import LauncherError

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
class Level:
    """What so many clients at once came to.

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


def main(arguments: list[str] | None = None) -> int:
    """Run the load: 0 done, 1 failed or nothing was scored, 2 and 3 as of the client."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlild-load-")))
        scans = options.scan or [default_scan(place)]
        for scan in scans:
            # Whatever is wrong with it shows here, and not in every client.
            read_volume(scan)
        url = options.url
        if url is None:
            print("starting the embedded Triton server ...", file=sys.stderr, flush=True)
            server = EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0)
            url = stack.enter_context(server).grpc_url
        with Client(url) as client:
            client.info()
        levels = []
        for clients in options.clients:
            print(f"{clients} clients, {options.seconds:g} s ...", file=sys.stderr, flush=True)
            levels.append(summarise(clients, measure(url, scans, clients, options.seconds)))
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(levels, options.out / "scans.csv")
    text = lay_out(levels)
    (options.out / "scans.md").write_text(text, "utf-8")
    print(f"\n{text}\nwritten: {options.out / 'scans.csv'}, {options.out / 'scans.md'}")
    return 0 if all(level.scans for level in levels) else 1


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
        clients, mp_context=context, initializer=_meet, initargs=(barrier,)
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


def _meet(barrier: Any) -> None:
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


def summarise(clients: int, attempts: Sequence[Attempt]) -> Level:
    """Lay together what the clients of one level met.

    The pace is the scans over the time until the last of them ended, so that one that was cut by
    neither end of the time counts whole.
    """
    counts = Counter(attempt.outcome for attempt in attempts)
    good = [attempt for attempt in attempts if attempt.outcome == "scored"]
    lasted = max((attempt.end for attempt in good), default=float("nan"))
    seconds = [attempt.seconds for attempt in good] or [float("nan")]
    return Level(
        clients=clients,
        scans=len(good),
        scans_an_hour=3600 * len(good) / lasted if good else 0.0,
        latency_s=tuple(float(value) for value in np.percentile(seconds, PERCENTILES)),
        refused=sum(counts[name] for name in REFUSALS),
        errors=Counter({n: c for n, c in counts.items() if n not in {"scored", *REFUSALS}}),
    )


def lay_out(levels: Sequence[Level]) -> str:
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


def write_csv(levels: Sequence[Level], path: Path) -> None:
    """Write a line a level."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [f"p{percentile}_s" for percentile in PERCENTILES]
        writer.writerow(["clients", "scans", "scans_an_hour", *names, "refused", "errors"])
        for level in levels:
            figures = [f"{value:.3f}" for value in level.latency_s]
            row = [level.clients, level.scans, f"{level.scans_an_hour:.1f}", *figures]
            writer.writerow([*row, level.refused, level.errors.total()])


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= 64 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers from 1 to 64, such as 1,2,4,8")
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Load a server with whole scans.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument("--scan", type=Path, action="append", help="a scan; may be repeated")
    parser.add_argument("--url", help="address of a server; the embedded one if left out")
    parser.add_argument("--clients", type=_numbers, default=[1, 2, 4, 8], help="at once: 1,2,4,8")
    parser.add_argument("--seconds", type=float, default=60, help="of each level")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    raise SystemExit(main())
