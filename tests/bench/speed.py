"""`make bench`: one scan, scored in ways that take turns.

BEFORE=<earlier checkout> adds the product as it was there, NNUNET=<folder> nnU-Net's predictor.

Writes OUT/bench.json and the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench.report import machine, publish, store
from bench.speed_tables import tables
from bench.support import contenders as ways
from bench.support.before import earlier_product
from bench.support.journey import journey
from bench.support.memory import processor_seconds, server_memory, shared_memory
from bench.support.network import check_same_network, torch_network
from bench.support.nnunet import nnunet
from bench.support.rounds import Contender, ratio, run_rounds
from bench.support.scan import MeasuredScan, measured_scan, own_digest
from proxy import Proxy

from dlild_client import Client
from dlild_deploy.server import EmbeddedServer
from engine import Engine, int8_beside

ROUNDS = 9
PROCESSOR_RUNS = 5
TARGETS = {
    # name: (above, below, limit, at most)
    "product / engine": ("product", "engine", 1.15, True),
    "monai_box / product": ("monai_box", "product", 22.0, False),
    "monai_full / product": ("monai_full", "product", 60.0, False),
    "naive_remote / product": ("naive_remote", "product", 5.0, False),
    "monai_openvino / product": ("monai_openvino", "product", 1.0, False),
    "product / before": ("product", "before", 0.6, True),
}
BYTES_TARGET = 1.6
FIRST_TARGET = 1.15


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the figures down and return the exit code 0."""
    parser = argparse.ArgumentParser(description="Compare ways to score a scan.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--before", type=Path, help="earlier checkout of this project")
    parser.add_argument("--nnunet", type=Path, help="folder with nnU-Net's packages")
    options = parser.parse_args(arguments)
    with measured_scan() as scan:
        figures: dict[str, Any] = {
            "machine": machine(),
            "scan": scan.describe(),
            "weights_sha256": own_digest(),
        }
        figures |= _one_scan(scan)
        figures |= _compare(scan, options.rounds, options.before, options.nnunet)
    figures["targets"] = _targets(figures)
    path = store(options.out, "speed", figures)
    text = tables(figures)
    publish("bench", text)
    print(f"\n{text}\nwritten: {path}, docs/performance.md")
    return 0


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _one_scan(scan: MeasuredScan) -> dict[str, Any]:
    """What one scan costs on a fresh server as it is shipped: warm-up, stages, bytes, memory."""
    _say("one scan on a fresh server ...")
    with (
        tempfile.TemporaryDirectory(prefix="dlild-bench-") as out,
        EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0) as server,
    ):
        assert server.pid is not None
        ready = server_memory(server.pid)
        # The client's own first time (imports, libraries) is not the server's: it is past already.
        in_a_row = []
        with Client(server.grpc_url) as client:
            for _ in range(5):
                started = time.perf_counter()
                client.score(scan.volume)
                in_a_row.append(time.perf_counter() - started)
        scored = server_memory(server.pid)
        with Proxy(server.grpc_port) as proxy:
            with Client(proxy.url) as client:
                client.score(scan.volume)
            sent, received = proxy.sent, proxy.received
        journeys = [journey(server.grpc_url, scan.folder, Path(out)) for _ in range(3)]
        written = [
            journey(server.grpc_url, scan.folder, Path(out), outputs=True)["outputs"]
            for _ in range(3)
        ]
        shared = shared_memory(server.pid)
    whole = sorted(journeys, key=lambda one: one["stages_s"]["total"])[1]
    return {
        "in_a_row_s": in_a_row,
        "bytes": {"sent": sent, "received": received},
        "stages_s": whole["stages_s"],
        "client_memory": whole["memory"],
        "outputs": sorted(written, key=lambda one: one["processor_s"])[1],
        "server_memory": {
            name: {"ready": ready[name].rss, "peak": scored[name].peak} for name in ready
        },
        "shared_memory": shared,
    }


def _compare(
    scan: MeasuredScan, rounds: int, before: Path | None, packages: Path | None
) -> dict[str, Any]:
    """All contenders in turn, on one server; an earlier product has its own."""
    _say("starting the contenders ...")
    engine = Engine(ways.NETWORK, int8=int8_beside(ways.NETWORK))
    torch.set_num_threads(engine.threads)
    network = torch_network(ways.NETWORK)
    window = scan.window_arrays()[0][..., :64, :64, :64].copy()
    difference = check_same_network(network, ways.NETWORK, window)
    with tempfile.TemporaryDirectory(prefix="dlild-bench-") as place:
        classes = len(scan.contract.classes)
        repository = ways.naive_repository(Path(place), classes, engine)
        with (
            EmbeddedServer(repository, grpc_port=0, http_port=0, metrics_port=0) as server,
            Client(server.grpc_url) as client,
            contextlib.ExitStack() as open_until_measured,
        ):
            box, full = scan.box_hu(), scan.prepared.grid.array.astype("float32")
            naive = ways.remote(server.grpc_url.removeprefix("grpc://"))
            some = max(1, rounds // 3)
            fields = [
                Contender("engine", ways.engine(engine, scan), rounds),
                Contender("product", ways.product(client, scan), rounds),
                Contender("naive_remote", ways.sliding(naive, box, scan), max(1, rounds // 2)),
                Contender(
                    "monai_openvino", ways.sliding(ways.in_process(engine), box, scan), rounds
                ),
                Contender(
                    "json_remote",
                    ways.sliding(ways.remote_json(server.http_url), box, scan),
                    1,
                ),
                Contender("monai_box", ways.sliding(network, box, scan), some),
                Contender("monai_full", ways.sliding(network, full, scan), 1),
            ]
            if packages is not None:
                fields.append(Contender("nnunet_box", nnunet(network, box, scan, packages), some))
            if before is not None:
                run = open_until_measured.enter_context(earlier_product(before, scan.folder))
                fields.append(Contender("before", run, rounds))
            run_rounds(fields, _say, warm=("engine", "product", "naive_remote", "before"))
            timings = dict(client.score(scan.volume).timings_s)
            processor = _processor_seconds(server, fields)
    return {
        "threads": engine.threads,
        "precision": engine.precision,
        "torch_differs_by": difference,
        "product_stages_s": timings,
        "processor_s": processor,
        "contenders": {
            field.name: {
                "seconds": list(field.seconds.values()),
                "rounds": list(field.seconds),
                "median_s": field.median_s,
                "dl_ild_percent": field.dl_ild_percent,
            }
            for field in fields
        },
        "ratios": {
            name: ratio(_by_round(fields, above), _by_round(fields, below))
            for name, (above, below, _, _) in TARGETS.items()
            if {above, below} <= {field.name for field in fields}
        },
    }


def _processor_seconds(server: EmbeddedServer, fields: list[Contender]) -> dict[str, float]:
    """Processor time of one scan: of the engine alone, and of each process of the product."""
    engine, product = fields[:2]
    assert server.pid is not None
    before = time.process_time()
    for _ in range(PROCESSOR_RUNS):
        engine.run()
    alone, before = time.process_time() - before, time.process_time()
    served = processor_seconds(server.pid)
    for _ in range(PROCESSOR_RUNS):
        product.run()
    used = {"client": time.process_time() - before}
    used |= {name: s - served[name] for name, s in processor_seconds(server.pid).items()}
    return {"engine": alone / PROCESSOR_RUNS} | {
        f"product: {name}": seconds / PROCESSOR_RUNS
        for name, seconds in used.items()
        if seconds > 0.01 * PROCESSOR_RUNS
    }


def _by_round(fields: list[Contender], name: str) -> dict[int, float]:
    return next(field.seconds for field in fields if field.name == name)


def _targets(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {
        name: {"value": value, "limit": TARGETS[name][2], "at_most": TARGETS[name][3]}
        for name, value in figures["ratios"].items()
    }
    share = figures["bytes"]["sent"] / figures["scan"]["box_int16_bytes"]
    found["bytes sent / int16 lung box"] = {
        "value": share,
        "limit": BYTES_TARGET,
        "at_most": True,
    }
    first, *later = figures["in_a_row_s"]
    found["first scan / next"] = {
        "value": first / statistics.median(later),
        "limit": FIRST_TARGET,
        "at_most": True,
    }
    return found


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
