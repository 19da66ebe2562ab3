"""`make soak`: small scans; clients vanish, misbehave, have slow lines; kills and upgrades.

Writes OUT/bench.json and a table of docs/performance.md. Exit code 1 when something happened that
must not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.chaos import BATCH, Chaos, Findings, Plan
from bench.report import publish, store, table
from bench.support.memory import MIB
from bench.support.small import THIRD, earlier_version, small_repository, small_scans

from dlild_client.contract import parse_contract
from dlild_deploy.server import EmbeddedServer

SCANS = 1000
ONE_IN = 20
# Memory is watched over this share of the scans, the last ones: a fresh server's grows at first.
WATCHED_SHARE = 0.4
# More growth than this over the last scans is a leak.
FLAT_SHARE = 0.03
ROWS = 8


def main(arguments: list[str] | None = None) -> int:
    """Run the soak and return the exit code."""
    parser = argparse.ArgumentParser(description="Many scans and many mishaps on one server.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--scans", type=int, default=SCANS)
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dlild-soak-") as place:
        repository = small_repository(Path(place), THIRD)
        contract = parse_contract((repository / "contract.json").read_text("utf-8"))
        served = contract.model.version
        earlier = earlier_version(repository, served)
        plan = spread_mishaps(options.scans, served, earlier)
        scans = small_scans(6, contract, (earlier,), step=3)
        for version in (served, earlier):
            scores = ", ".join(f"{s.answers[version].dl_ild_percent:.2f}" for s in scans)
            _say(f"small scans with DL-ILD {scores} % by version {version}")
        server = EmbeddedServer(repository, grpc_port=0, http_port=0, metrics_port=0)
        findings = Chaos(plan, scans, contract, server, _say).run()
    leaks = _leaks(findings)
    figures = {
        "scans": options.scans,
        "seconds": time.perf_counter() - started,
        "windows_a_scan": len(scans[0].prepared.plan.origins),
        "counts": dict(findings.counts),
        "restarts_s": findings.restarts_s,
        "upgrades_s": findings.upgrades_s,
        "memory": findings.memory,
        "watched": round(WATCHED_SHARE * options.scans),
        "growth": leaks,
        "violations": findings.violations,
    }
    path = store(options.out, "soak", figures)
    text = _tables(figures)
    publish("soak", text)
    print(f"\n{text}\nwritten: {path}, docs/performance.md")
    for violation in findings.violations:
        print(f"violation: {violation}", file=sys.stderr)
    flat = all(leak["share"] <= FLAT_SHARE for leak in leaks.values())
    return 0 if flat and not findings.violations else 1


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


def _watched(findings: Findings) -> list[dict[str, Any]]:
    """Samples of the server's last life, over the last scans."""
    samples = findings.memory
    life, scans = samples[-1]["life"], samples[-1]["scans"]
    first = (1 - WATCHED_SHARE) * scans
    return [s for s in samples if s["life"] == life and s["scans"] >= first]


def _leaks(findings: Findings) -> dict[str, dict[str, float]]:
    """Growth of the server's memory, all processes and /dev/shm, from first to last sample."""
    samples = _watched(findings)
    first, last = samples[0], samples[-1]
    pairs = {
        "all processes": (sum(first["rss"].values()), sum(last["rss"].values())),
        "/dev/shm": (first["shared_memory"], last["shared_memory"]),
    }
    return {
        name: {"from": before, "to": after, "share": after / before - 1}
        for name, (before, after) in pairs.items()
    }


def _tables(figures: dict[str, Any]) -> str:
    counts = figures["counts"]
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    restarts, upgrades = (
        ", ".join(f"{seconds:.1f}" for seconds in figures[what])
        for what in ("restarts_s", "upgrades_s")
    )
    said = [
        f"{figures['scans']} scans of {figures['windows_a_scan']} windows: {outcomes}.",
        f"All of it took {figures['seconds']:.0f} s.",
        f"From kill to the next score, the start of the server included: {restarts} s.",
        f"From the order to stop to the first score of the other version: {upgrades} s.",
        f"Things that must not happen: {len(figures['violations']) or 'none'}.",
        *(
            f"{name} over the last {figures['watched']} scans: {g['from'] / MIB:.0f} to "
            f"{g['to'] / MIB:.0f} MiB ({g['share']:+.1%})."
            for name, g in figures["growth"].items()
        ),
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
            f"{sample['open_scans']:g}",
        )
        for sample in shown
    ]
    heads = ("scans so far", *(f"`{name}`" for name in names), "/dev/shm", "still open")
    return "\n".join([*said, "", "MiB, with nothing under way:", "", table(heads, rows)])


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
