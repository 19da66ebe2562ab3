"""`make bench-scale`: more scans at once, and taller ones.

Writes OUT/bench.json and the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bench.report import publish, store, table, verdict
from bench.support.memory import MIB
from bench.support.raw import requests_of_box, score_windows
from bench.support.scan import REPOSITORY, MeasuredScan, measured_scan
from bench.support.watch import Watch

from dlild_client import Client
from dlild_client.preparation.prepare import prepare
from dlild_client.volume import Volume
from dlild_deploy.server import EmbeddedServer
from dlild_export.data.contracts import read_limits

AT_ONCE = (1, 2, 4, 8)
TIMES_AS_TALL = (1, 2, 4)
SCANS_A_TURN = 8
KEPT_TARGET = 0.95
# The costliest size may cost so much more a voxel than the cheapest and still count as linear.
LINEAR = 1.25


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the figures down and return the exit code 0."""
    parser = argparse.ArgumentParser(description="Measure how the server scales.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with (
        measured_scan() as scan,
        EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0) as server,
        Client(server.grpc_url) as client,
    ):
        client.score(scan.volume)
        limits = read_limits(REPOSITORY)
        figures = {
            "at_once": _at_once(scan, server, client, options.rounds),
            "slices": _taller(scan, server, options.rounds),
            "bound": {
                "open_scans": limits.open_scans,
                "open_bytes": limits.open_bytes,
            },
        }
    path = store(options.out, "scale", figures)
    text = tables(figures)
    publish("bench-scale", text)
    print(f"\n{text}\nwritten: {path}, docs/performance.md")
    return 0


def _at_once(
    scan: MeasuredScan, server: EmbeddedServer, client: Client, rounds: int
) -> dict[str, Any]:
    """Score the same number of scans by 1, 2, 4 and 8 at once, in turn."""
    found: dict[int, dict[str, Any]] = {
        n: {"seconds": [], "scan_seconds": [], "watch": None} for n in AT_ONCE
    }
    for turn in range(rounds):
        for count in AT_ONCE:
            with Watch(server) as watch, ThreadPoolExecutor(count) as pool:
                started = time.perf_counter()
                each = list(pool.map(lambda _: _timed(client, scan), range(SCANS_A_TURN)))
                found[count]["seconds"].append(time.perf_counter() - started)
            found[count]["scan_seconds"] += each
            found[count]["watch"] = _larger(found[count]["watch"], watch)
            _say(f"turn {turn + 1}: {count} at once, {found[count]['seconds'][-1]:.1f} s")
    return {str(count): values for count, values in found.items()}


def _timed(client: Client, scan: MeasuredScan) -> float:
    started = time.perf_counter()
    client.score(scan.volume)
    return time.perf_counter() - started


def _larger(known: dict[str, Any] | None, watch: Watch) -> dict[str, Any]:
    name = "dlild"
    seen = {
        "open_scans": watch.open_scans,
        "bytes_held": watch.bytes_held,
        "dlild_before": watch.before[name],
        "dlild_peak": watch.peak[name],
    }
    return seen if known is None or seen["dlild_peak"] > known["dlild_peak"] else known


def _taller(scan: MeasuredScan, server: EmbeddedServer, rounds: int) -> dict[str, Any]:
    """Score the lung box once, and stacked twice and four times; prepare as many slices."""
    box = scan.box_hu()
    stacked = {n: np.concatenate([box[:: (-1) ** i] for i in range(n)]) for n in TIMES_AS_TALL}
    found: dict[int, dict[str, Any]] = {
        n: {"seconds": [], "prepare_seconds": [], "watch": None} for n in TIMES_AS_TALL
    }
    for turn in range(rounds):
        for times, hu in stacked.items():
            requests = requests_of_box(hu, scan.contract)
            with Watch(server) as watch:
                started = time.perf_counter()
                score_windows(server.grpc_url, requests, scan.contract.windows.in_flight)
                found[times]["seconds"].append(time.perf_counter() - started)
            found[times]["watch"] = _larger(found[times]["watch"], watch)
            found[times] |= {
                "box_voxels": hu.size,
                "window_voxels": sum(request.window.size for request in requests),
                "windows": len(requests),
            }
            found[times]["prepare_seconds"].append(_prepare_seconds(scan, times))
            _say(f"turn {turn + 1}: {times} x slices, {found[times]['seconds'][-1]:.1f} s")
    return {str(times): values for times, values in found.items()}


def _prepare_seconds(scan: MeasuredScan, times: int) -> float:
    """Seconds to prepare the same chest, scanned in so many times as many slices."""
    z, y, x = scan.volume.spacing_mm
    volume = Volume(np.repeat(scan.volume.array, times, axis=0), (z / times, y, x))
    started = time.perf_counter()
    prepare(volume, scan.contract)
    return time.perf_counter() - started


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def tables(figures: dict[str, Any]) -> str:
    """Lay out what was measured.

    Parameters
    ----------
    figures : dict
        The part ``scale`` of bench.json.
    """
    return "\n".join((_at_once_table(figures), _taller_table(figures["slices"])))


def _at_once_table(figures: dict[str, Any]) -> str:
    at_once, bound = figures["at_once"], figures["bound"]
    pace = {n: SCANS_A_TURN / statistics.median(f["seconds"]) for n, f in at_once.items()}
    best, most = max(pace.values()), str(AT_ONCE[-1])
    rows = []
    for count, found in at_once.items():
        watch, each = found["watch"], found["scan_seconds"]
        grown = watch["dlild_peak"] - watch["dlild_before"]
        rows.append(
            (
                count,
                f"{60 * pace[count]:.1f}",
                f"{pace[count] / best:.2f}",
                f"{min(each):.1f} / {statistics.median(each):.1f} / {max(each):.1f}",
                f"{watch['open_scans']:g}",
                f"{watch['bytes_held'] / MIB:.0f}",
                f"{grown / MIB:.0f}",
            )
        )
    heads = (
        "scans at once",
        "scans a minute",
        "of the best",
        "seconds a scan: least / median / most",
        "open at most",
        "MiB that the server states",
        "MiB that `dlild` grew",
    )
    kept = pace[most] / best
    return (
        table(heads, rows)
        + f"\nAt {most} at once {kept:.2f} of the best pace "
        + f"({verdict(kept, KEPT_TARGET, at_most=False)}). The bound is {bound['open_scans']} scans"
        + f" and {bound['open_bytes'] / MIB:.0f} MiB.\n"
    )


def _taller_table(slices: dict[str, Any]) -> str:
    rows = []
    by_voxel = {}
    for times, found in slices.items():
        seconds = statistics.median(found["seconds"])
        by_voxel[times] = seconds / found["box_voxels"] * 1e6
        watch = found["watch"]
        grown = watch["dlild_peak"] - watch["dlild_before"]
        rows.append(
            (
                f"{times}x",
                f"{found['box_voxels'] / 1e6:.1f}",
                found["windows"],
                f"{found['window_voxels'] / 1e6:.1f}",
                f"{seconds:.2f}",
                f"{by_voxel[times]:.3f}",
                f"{seconds / found['window_voxels'] * 1e6:.3f}",
                f"{watch['bytes_held'] / MIB:.0f}",
                f"{grown / MIB:.0f}",
                f"{statistics.median(found['prepare_seconds']):.2f}",
            )
        )
    heads = (
        "lung box",
        "M voxels",
        "windows",
        "M voxels sent",
        "s",
        "s a M voxels",
        "s a M voxels sent",
        "MiB stated",
        "MiB grown",
        "s to prepare so many slices of one chest",
    )
    spread = max(by_voxel.values()) / min(by_voxel.values())
    return (
        table(heads, rows)
        + f"\nThe costliest voxel takes {spread:.2f} times the cheapest "
        + f"(linear: {verdict(spread, LINEAR, at_most=True)}).\n"
    )


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
