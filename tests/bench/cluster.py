"""`make bench-cluster`: scans a minute of several servers behind the proxy, against one.

On one machine the servers share its cores, so several win nothing but what one leaves idle: the
figures say what the proxy costs, and that nothing else stands in the way. Writes OUT/bench.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bench.report import store

from dlild_client import TLS, Client, Limits
from dlild_client.volume import Volume
from dlild_deploy.certificates import issue_certificates
from dlild_deploy.proxy import api_keys
from dlild_deploy.proxy.cluster import Cluster, make_servers
from dlild_deploy.proxy.haproxy import Proxy
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom

CLIENT = "bench"
# A phantom of 3 mm taken for a finer one: the chest of a child, a few seconds of work.
SPACING_MM = (1.8, 1.8, 1.8)


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the figures down, and return the exit code 0."""
    parser = argparse.ArgumentParser(description="Measure servers behind the proxy.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--scans", type=int, default=24, help="of each measurement")
    parser.add_argument("--at-once", type=int, default=6)
    options = parser.parse_args(arguments)
    spec = PhantomSpec(seed=1, pattern=Pattern.UIP, severity=0.2)
    volume = Volume(np.asarray(make_phantom(spec, spacing_mm=3.0).hu), SPACING_MM)
    cores = len(os.sched_getaffinity(0))
    figures: dict[str, Any] = {"cores": cores, "scans": options.scans, "at_once": options.at_once}
    for count in dict.fromkeys((1, options.servers)):
        figures[str(count)] = _measure(count, volume, options.scans, options.at_once)
        print(f"{count} servers: {figures[str(count)]}", flush=True)
    one, many = (figures[str(n)]["through_proxy"] for n in (1, options.servers))
    print(
        f"{options.servers} servers against 1, both behind the proxy, on {cores} cores: "
        f"{many:.1f} against {one:.1f} scans a minute, {many / one:.2f} times\n"
        f"written: {store(options.out, 'cluster', figures)}"
    )
    return 0


def _measure(count: int, volume: Volume, scans: int, at_once: int) -> dict[str, Any]:
    """Score scans straight at the first server, where there is one, and through the proxy."""
    with tempfile.TemporaryDirectory() as folder:
        papers = Path(folder)
        issue_certificates.make(papers, [], [CLIENT], 2)
        key = api_keys.add_key(papers / "keys.map", {}, CLIENT)
        mine = papers / f"client-{CLIENT}"
        tls = TLS(papers / "ca.crt", mine.with_suffix(".crt"), mine.with_suffix(".key"))
        limits = Limits(scans=at_once)
        servers = make_servers(count)
        with Cluster(servers, Proxy(papers, papers / "keys.map", port=0)) as cluster:
            found: dict[str, Any] = {"threads_each": servers[0].threads}
            if count == 1:
                with Client(servers[0].grpc_url, limits=limits) as client:
                    found["direct"] = _scans_a_minute(client, volume, scans, at_once)
            with Client(cluster.proxy.url, tls=tls, api_key=key, limits=limits) as client:
                found["through_proxy"] = _scans_a_minute(client, volume, scans, at_once)
    return found


def _scans_a_minute(client: Client, volume: Volume, scans: int, at_once: int) -> float:
    with ThreadPoolExecutor(at_once) as pool:
        # Every server has met a scan before the clock runs.
        list(pool.map(lambda _: client.score(volume), range(at_once)))
        started = time.perf_counter()
        list(pool.map(lambda _: client.score(volume), range(scans)))
        return 60 * scans / (time.perf_counter() - started)


if __name__ == "__main__":
    raise SystemExit(main())
