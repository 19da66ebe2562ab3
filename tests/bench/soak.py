"""`make soak`: small scans; clients vanish, misbehave, have slow lines; kills and upgrades.

Every process of the server must be flat over the last scans: memory, threads, file descriptors.
`LIGHT=yes` serves a network that computes next to nothing, and clients prepare each scan once, for
machines on which both are slow: the server but for its network is put to the same test.

Writes OUT/bench.json and a table of docs/performance.md. Exit code 1 when something happened that
must not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from bench.chaos import BATCH, Chaos, Plan
from bench.report import publish, store, table
from bench.support.memory import MIB
from bench.support.small import THIRD, SmallScan, earlier_version, small_repository, small_scans
from bench.support.voxelwise import serve_voxelwise

from dlild_client import core
from dlild_client.contract import parse_contract
from dlild_deploy.server import EmbeddedServer

SCANS = 1000
ONE_IN = 20
# Memory is watched over this share of the scans, the last ones: a fresh server's grows at first.
WATCHED_SHARE = 0.4
# Growth that is none: of memory that varies with the scans that are open, and of counts.
FLAT_SHARE, FLAT_BYTES, FLAT_COUNT = 0.03, 4 * MIB, 4
# Of how many voxels one is taken along z, y and x: boxes of three sizes, of 4 or 6 windows.
STEPS = ((3, 3, 3), (2, 3, 3), (3, 3, 2))
ROWS = 8
LIGHT = "a network of one convolution of a single voxel, and scans that are prepared once"


def main(arguments: list[str] | None = None) -> int:
    """Run the soak and return the exit code."""
    parser = argparse.ArgumentParser(description="Many scans and many mishaps on one server.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--light", action="store_true", help=f"for slow machines: {LIGHT}")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dlild-soak-") as place:
        repository = small_repository(Path(place), THIRD)
        if options.light:
            serve_voxelwise(repository)
        contract = parse_contract((repository / "contract.json").read_text("utf-8"))
        served = contract.model.version
        earlier = earlier_version(repository, served)
        plan = spread_mishaps(options.scans, served, earlier)
        scans = small_scans(6, contract, (earlier,), STEPS, repository)
        for version in (served, earlier):
            scores = ", ".join(f"{s.answers[version].dl_ild_percent:.2f}" for s in scans)
            _say(f"small scans with DL-ILD {scores} % by version {version}")
        server = EmbeddedServer(repository, grpc_port=0, http_port=0, metrics_port=0)
        with prepared_once(scans) if options.light else contextlib.nullcontext():
            findings = Chaos(plan, scans, contract, server, _say).run()
    watched = watch(findings.memory)
    windows = [len(scan.prepared.plan.origins) for scan in scans]
    figures = {
        "light": options.light,
        "scans": options.scans,
        "seconds": time.perf_counter() - started,
        "windows_a_scan": [min(windows), max(windows)],
        "counts": dict(findings.counts),
        "restarts_s": findings.restarts_s,
        "upgrades_s": findings.upgrades_s,
        "memory": findings.memory,
        "watched": watched[-1]["scans"] - watched[0]["scans"],
        "growth": growth(watched),
        "violations": findings.violations,
    }
    path = store(options.out, "soak", figures)
    text = _tables(figures)
    publish("soak", text)
    print(f"\n{text}\nwritten: {path}, docs/performance.md")
    for violation in findings.violations:
        print(f"violation: {violation}", file=sys.stderr)
    flat = all(one["flat"] for one in figures["growth"].values())
    return 0 if flat and not findings.violations else 1


@contextlib.contextmanager
def prepared_once(scans: Sequence[SmallScan]) -> Iterator[None]:
    """Have clients take what was prepared of these scans: that is most of their work.

    Parameters
    ----------
    scans : sequence of SmallScan
        Prepared for what all versions of the server's contract have in common.
    """
    prepared = {id(scan.volume): scan.prepared for scan in scans}
    with mock.patch.object(core, "prepare", lambda volume, *_more: prepared[id(volume)]):
        yield


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def spread_mishaps(scans: int, served: int, earlier: int) -> Plan:
    """Spread kills, and upgrades in pairs (back to the earlier version, and forth again).

    All of them come in the first third, long before the last scans, over which memory is watched.

    Parameters
    ----------
    scans : int
        All told.
    served, earlier : int
        The version that is served first and last, and the one that is served between.
    """
    batches = scans // BATCH
    pairs = max(1, batches // 40)
    step = max(2, 3 * batches // 10 // (2 * pairs))
    kills = range(step // 2, 2 * pairs * step, step)
    turns = zip(range(step, (2 * pairs + 1) * step, step), (earlier, served) * pairs, strict=True)
    return Plan.spread(scans, ONE_IN, kills, dict(turns))


def watch(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Samples of the server's last life, over the last scans.

    Parameters
    ----------
    samples : sequence of mapping
        As of `Findings`.
    """
    life, scans = samples[-1]["life"], samples[-1]["scans"]
    first = (1 - WATCHED_SHARE) * scans
    return [s for s in samples if s["life"] == life and s["scans"] >= first]


def growth(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Judge whether what the processes hold is flat.

    Medians of the first and of the second half are compared: a single sample depends on how many
    scans of vanished clients are open just then.

    Parameters
    ----------
    samples : sequence of mapping
        Two at least, of one server's life.

    Returns
    -------
    dict of str to dict
        By name of what is held: its unit, both medians, and whether it is flat.
    """
    processes = list(samples[-1]["rss"])
    series: dict[str, tuple[str, list[float]]] = {
        f"`{name}`": ("MiB", [s["rss"][name] for s in samples]) for name in processes
    }
    series["/dev/shm"] = ("MiB", [s["shared_memory"] for s in samples])
    for what in ("threads", "descriptors"):
        series[what] = ("", [sum(s[what].values()) for s in samples])
    half = len(samples) // 2
    judged = {}
    for name, (unit, values) in series.items():
        before, after = statistics.median(values[:half]), statistics.median(values[half:])
        least = FLAT_BYTES if unit else FLAT_COUNT
        flat = after - before <= max(FLAT_SHARE * before, least)
        judged[name] = {"unit": unit, "from": before, "to": after, "flat": flat}
    return judged


def _tables(figures: dict[str, Any]) -> str:
    counts = figures["counts"]
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    restarts, upgrades = (
        ", ".join(f"{seconds:.1f}" for seconds in figures[what])
        for what in ("restarts_s", "upgrades_s")
    )
    fewest, most = figures["windows_a_scan"]
    scale = {"MiB": MIB, "": 1}
    said = [
        *([f"With {LIGHT} (`LIGHT=yes`)."] if figures["light"] else []),
        f"{figures['scans']} scans of {fewest} to {most} windows: {outcomes}.",
        f"All of it took {figures['seconds']:.0f} s.",
        f"From kill to the next score, the start of the server included: {restarts} s.",
        f"From the order to stop to the first score of the other version: {upgrades} s.",
        f"Things that must not happen: {len(figures['violations']) or 'none'}.",
        f"Over the last {figures['watched']} scans, medians of their first and second half: "
        + "; ".join(
            f"{name} {g['from'] / scale[g['unit']]:.0f} to {g['to'] / scale[g['unit']]:.0f}"
            f"{' ' * bool(g['unit'])}{g['unit']}{'' if g['flat'] else ' (**not flat**)'}"
            for name, g in figures["growth"].items()
        )
        + ".",
    ]
    samples = figures["memory"]
    life = samples[-1]["life"]
    last = [s for s in samples if s["life"] == life]
    shown = last[:: max(1, len(last) // ROWS)]
    shown += [] if shown[-1] is samples[-1] else [samples[-1]]
    names = list(samples[-1]["rss"])
    rows = [
        (
            sample["scans"],
            *(f"{sample['rss'].get(name, 0) / MIB:.0f}" for name in names),
            f"{sample['shared_memory'] / MIB:.0f}",
            sum(sample["threads"].values()),
            sum(sample["descriptors"].values()),
            f"{sample['open_scans']:g}",
        )
        for sample in shown
    ]
    heads = (
        "scans so far",
        *(f"`{name}`" for name in names),
        "/dev/shm",
        "threads",
        "descriptors",
        "still open",
    )
    return "\n".join([*said, "", "MiB, with nothing under way:", "", table(heads, rows)])


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
