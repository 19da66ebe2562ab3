"""Three servers behind the proxy, mutual TLS and key on: scans outlive a server that dies."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from threading import Lock

import pytest
from integration.cluster.cluster_case import (
    Papers,
    make_papers,
    running,
    small_tiny_repository,
    small_volumes,
)
from integration.cluster.raw_http2 import (
    HEADERS,
    READY_CALL,
    STREAM_CALL,
    RawConnection,
    message_prefix,
)

from dlild_client import Client
from dlild_client.errors import KeyRefusedError
from dlild_client.results.result import Result
from dlild_client.volume import Volume
from dlild_deploy.certificates import issue_certificates
from dlild_deploy.proxy import api_keys
from dlild_deploy.proxy.cluster import Cluster
from dlild_deploy.proxy.haproxy import Proxy

pytestmark = pytest.mark.server

SCANS = 12
SERVERS = 3
OUT_WITHIN_S = 5.0
ALLOWED_POINTS = 0.01


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def cluster(
    papers: Papers, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    tiny = small_tiny_repository(folder / "model_repository", repository)
    with running(SERVERS, papers, tiny, folder / "logs") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def volumes() -> list[Volume]:
    return small_volumes(3)


@pytest.fixture(scope="module")
def expected(cluster: Cluster, volumes: list[Volume]) -> list[float]:
    """What one server says, asked directly and without a proxy."""
    with Client(cluster.servers[0].grpc_url) as client:
        scores = [client.score(volume).dl_ild_percent for volume in volumes]
    apart = sorted(scores)
    assert min(b - a for a, b in pairwise(apart)) > 3 * ALLOWED_POINTS
    return scores


def wait_until(holds: Callable[[], bool], within_s: float) -> float:
    """Wait for something; return the seconds it took."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < within_s, f"not within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - start


class Many:
    """Scans under way at once, and what became of each.

    Attributes
    ----------
    restarts : Counter
        By the number of the scan.
    """

    def __init__(self, client: Client, volumes: list[Volume], pool: ThreadPoolExecutor) -> None:
        self.restarts: Counter[int] = Counter()
        self._lock = Lock()
        self.futures: list[Future[Result]] = [
            pool.submit(client.score, volumes[number % len(volumes)], self._note(number))
            for number in range(SCANS)
        ]

    def _note(self, number: int) -> Callable[[str, int, int], None]:
        def note(stage: str, done: int, whole: int) -> None:
            if stage == "again":
                with self._lock:
                    self.restarts[number] += 1

        return note

    def wait_for_some(self, count: int) -> None:
        """Wait until so many have ended."""
        pending = set(self.futures)
        while len(self.futures) - len(pending) < count:
            _, pending = wait(pending, return_when=FIRST_COMPLETED)


def test_streams_are_spread_over_the_servers(
    cluster: Cluster, papers: Papers, volumes: list[Volume]
) -> None:
    most: Counter[str] = Counter()
    with papers.client(cluster.proxy, scans=9) as client, ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(client.score, volumes[0]) for _ in range(9)]
        while not all(future.done() for future in futures):
            most |= Counter(cluster.proxy.streams())
            time.sleep(0.01)
        for future in futures:
            future.result()
    # Nine scans on three servers, whose first words came at once.
    assert set(most) == {"server1", "server2", "server3"}
    assert max(most.values()) <= 5


def test_the_proxy_reports_prometheus_and_logs_no_key(cluster: Cluster, papers: Papers) -> None:
    with urllib.request.urlopen(cluster.proxy.metrics_url, timeout=10) as answer:
        told = answer.read().decode()
    assert 'haproxy_server_status{proxy="servers",server="server1",state="UP"} 1' in told
    assert cluster.proxy.log_path is not None
    assert papers.key not in cluster.proxy.log_path.read_text("utf-8", errors="replace")


def test_open_streams_count_and_a_connection_keeps_its_server(
    cluster: Cluster, papers: Papers
) -> None:
    """Streams follow the first answer of their connection, and weigh each as one.

    HAProxy notes a connection's server when it answers first: a client asks for the contract then.
    """
    proxy = cluster.proxy
    wait_until(lambda: sum(proxy.streams().values()) == 0, 10)
    with ExitStack() as stack:
        heavy = stack.enter_context(RawConnection(proxy.port, papers.tls))
        heavy.open_stream(1, READY_CALL, papers.key)
        heavy.send_data(1, message_prefix(0), ends=True)
        assert heavy.ends(1, 5) == HEADERS
        for number in range(1, 9):
            heavy.open_stream(2 * number + 1, STREAM_CALL, papers.key)
        wait_until(lambda: sum(proxy.streams().values()) == 8, 5)
        chosen, held = max(proxy.streams().items(), key=lambda item: item[1])
        assert held == 8
        for count in range(9, 15):
            light = stack.enter_context(RawConnection(proxy.port, papers.tls))
            light.open_stream(1, STREAM_CALL, papers.key)
            wait_until(lambda expected=count: sum(proxy.streams().values()) == expected, 5)
        assert sorted(proxy.streams().values()) == [3, 3, 8]
        assert proxy.streams()[chosen] == 8
    wait_until(lambda: sum(proxy.streams().values()) == 0, 10)


def served_certificate(proxy: Proxy) -> str:
    return ssl.get_server_certificate(("127.0.0.1", proxy.port))


@pytest.mark.slow
def test_keys_and_certificate_are_rotated_without_dropping_open_scans(
    cluster: Cluster, papers: Papers, volumes: list[Volume], expected: list[float]
) -> None:
    """docs/security.md has the steps: add and renew, reload, change the clients, remove, reload."""
    proxy = cluster.proxy
    first = api_keys.add_key(papers.keys, api_keys.read_keys(papers.keys), "ward-3")
    proxy.reload()
    with Client(proxy.url, tls=papers.tls, api_key=first) as old, ThreadPoolExecutor(6) as pool:
        many = [pool.submit(old.score, volumes[0]) for _ in range(6)]
        wait_until(lambda: sum(proxy.streams().values()) > 1, 20)
        second = api_keys.add_key(papers.keys, api_keys.read_keys(papers.keys), "ward-3-next")
        before = served_certificate(proxy)
        issue_certificates.renew(papers.folder, ["tls"], 7)
        proxy.reload()
        assert served_certificate(proxy) != before
        with Client(proxy.url, tls=papers.tls, api_key=second) as new:
            result = new.score(volumes[1])
            assert result.dl_ild_percent == pytest.approx(expected[1], abs=ALLOWED_POINTS)
            for future in many:
                scored = future.result().dl_ild_percent
                assert scored == pytest.approx(expected[0], abs=ALLOWED_POINTS)
            api_keys.remove_key(papers.keys, api_keys.read_keys(papers.keys), "ward-3")
            proxy.reload()
            with pytest.raises(KeyRefusedError):
                old.info()
            assert new.info().model_version == 1


def test_a_server_that_hangs_is_out_and_comes_back(cluster: Cluster) -> None:
    proxy, server = cluster.proxy, cluster.servers[1]
    assert server.pid is not None
    # A process that was just reloaded takes the first silence for the end.
    time.sleep(2)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        out_s = wait_until(lambda: proxy.states()["server2"].startswith("DOWN"), OUT_WITHIN_S)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    back_s = wait_until(lambda: proxy.states()["server2"] == "UP", 10)
    print(f"a server that hangs is out after {out_s:.2f} s, back after {back_s:.2f} s")


def test_a_server_dies_and_comes_back_and_every_scan_is_right(
    cluster: Cluster, papers: Papers, volumes: list[Volume], expected: list[float]
) -> None:
    proxy = cluster.proxy
    with papers.client(proxy, scans=SCANS) as client, ThreadPoolExecutor(SCANS) as pool:
        many = Many(client, volumes, pool)
        many.wait_for_some(3)
        victim, open_there = max(proxy.streams().items(), key=lambda item: item[1])
        assert open_there > 0, "too late: the scans were done"
        server = cluster.servers[int(victim.removeprefix("server")) - 1]
        cluster.kill(server)
        out_s = wait_until(lambda: proxy.states()[victim].startswith("DOWN"), OUT_WITHIN_S)
        # In this very process, where gRPC is at work on many threads.
        server.start()
        back_s = wait_until(lambda: proxy.states()[victim] == "UP", 30)
        results = [future.result() for future in many.futures]

    print(
        f"{victim} died with {open_there} open scans: out after {out_s:.2f} s, back {back_s:.2f} s "
        f"after it was ready; restarts {dict(many.restarts)}"
    )
    assert len(results) == SCANS
    for number, result in enumerate(results):
        right = expected[number % len(volumes)]
        assert result.dl_ild_percent == pytest.approx(right, abs=ALLOWED_POINTS), number
    assert len(many.restarts) >= 1
    # Once because its server died, and once more where the next was busy, or the proxy had not
    # seen the death yet.
    assert max(many.restarts.values()) <= 2


def test_make_cluster_says_what_dies_and_stops_with_all_it_started(
    papers: Papers, repository: Path, tmp_path: Path, cluster: Cluster
) -> None:
    tiny = small_tiny_repository(tmp_path / "model_repository", repository)
    command = [
        *(sys.executable, "-m", "dlild_deploy", "cluster", "--servers", "2"),
        *("--port", "0", "--metrics-port", "0", "--base-port", "0"),
        *("--repository", str(tiny), "--logs", str(tmp_path / "logs")),
        *("--certificates", str(papers.folder), "--keys", str(papers.keys)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    told: list[str] = []
    while not (told and told[-1].startswith("stop")):
        told.append(process.stdout.readline())
        assert told[-1], process.stderr.read()
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", "".join(told))]
    assert len(pids) == 3
    assert "dlild score SCAN --url grpcs://localhost:" in "".join(told)
    os.killpg(pids[0], signal.SIGKILL)
    assert process.stderr.readline().startswith("error: server 1: the server ended with code -9")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped\n")
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
