"""Three servers behind the proxy, mutual TLS and key on: scans outlive a server that dies."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from threading import Lock

import pytest
from integration.cluster_case import (
    Papers,
    make_papers,
    running,
    small_tiny_repository,
    small_volumes,
    started_again,
)

import keys
from cluster import Cluster
from dlild_client import Client
from dlild_client.errors import KeyRefused
from dlild_client.result import Result
from dlild_client.volume import Volume

pytestmark = pytest.mark.server

SCANS = 24
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
    return small_volumes(4)


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
    with papers.client(cluster.door, scans=9) as client, ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(client.score, volumes[0]) for _ in range(9)]
        while not all(future.done() for future in futures):
            most |= Counter(cluster.door.streams())
            time.sleep(0.01)
        for future in futures:
            future.result()
    # Nine scans on three servers, whose first words came at once.
    assert set(most) == {"server1", "server2", "server3"}
    assert max(most.values()) <= 5


def test_the_proxy_tells_prometheus_and_logs_no_key(cluster: Cluster, papers: Papers) -> None:
    with urllib.request.urlopen(cluster.door.metrics_url, timeout=10) as answer:
        told = answer.read().decode()
    assert 'haproxy_server_status{proxy="servers",server="server1",state="UP"} 1' in told
    assert cluster.door.log_path is not None
    assert papers.key not in cluster.door.log_path.read_text("utf-8", errors="replace")


def test_a_key_is_rotated_without_dropping_open_scans(
    cluster: Cluster, papers: Papers, volumes: list[Volume], expected: list[float]
) -> None:
    """docs/security.md has the steps: add, reload, change the clients, remove, reload."""
    door = cluster.door
    first = keys.add(papers.keys, keys.read(papers.keys), "ward-3")
    door.reload()
    with Client(door.url, tls=papers.tls, api_key=first) as old, ThreadPoolExecutor(6) as pool:
        many = [pool.submit(old.score, volumes[0]) for _ in range(6)]
        wait_until(lambda: sum(door.streams().values()) > 1, 20)
        second = keys.add(papers.keys, keys.read(papers.keys), "ward-3-next")
        door.reload()
        with Client(door.url, tls=papers.tls, api_key=second) as new:
            result = new.score(volumes[1])
            assert result.dl_ild_percent == pytest.approx(expected[1], abs=ALLOWED_POINTS)
            for future in many:
                scored = future.result().dl_ild_percent
                assert scored == pytest.approx(expected[0], abs=ALLOWED_POINTS)
            keys.remove(papers.keys, keys.read(papers.keys), "ward-3")
            door.reload()
            with pytest.raises(KeyRefused):
                old.info()
            assert new.info().model_version == 1


def test_a_server_dies_and_comes_back_and_every_scan_is_right(
    cluster: Cluster, papers: Papers, volumes: list[Volume], expected: list[float]
) -> None:
    door = cluster.door
    with papers.client(door, scans=SCANS) as client, ThreadPoolExecutor(SCANS) as pool:
        many = Many(client, volumes, pool)
        many.wait_for_some(3)
        victim, open_there = max(door.streams().items(), key=lambda item: item[1])
        assert open_there > 0, "too late: the scans were done"
        server = cluster.servers[int(victim.removeprefix("server")) - 1]
        cluster.kill(server)
        out_s = wait_until(lambda: door.states()[victim].startswith("DOWN"), OUT_WITHIN_S)
        with started_again(server):
            back_s = wait_until(lambda: door.states()[victim] == "UP", 30)
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
    assert max(many.restarts.values()) == 1
