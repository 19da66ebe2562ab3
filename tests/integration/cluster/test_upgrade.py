"""A new version while scans run, as the runbook has it: server by server, or by a restart."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from export.tiny import write_run
from integration.cluster.cluster_case import (
    Papers,
    make_papers,
    running,
    small_tiny_repository,
    small_volumes,
)

from dlild_client import Client
from dlild_client.contract import Contract, parse_contract
from dlild_client.preparation.prepare import prepare
from dlild_client.results.result import Result
from dlild_client.volume import Volume
from dlild_deploy.proxy.cluster import Cluster
from dlild_deploy.server import EmbeddedServer
from dlild_export.data.digest import sha256
from dlild_export.release.evaluation_file import EvaluationFile, RecordedTarget
from dlild_export.release.model_card import read_run
from dlild_export.release.versions import Candidate, release, serve
from dlild_export.serving.engines import engines_of
from dlild_export.serving.onnx import export_run
from dlild_export.serving.parity import measure_parity
from dlild_export.serving.sliding import blend, plan_scan
from engine import Engine, int8_beside

pytestmark = pytest.mark.server

AT_ONCE = 2
PATIENCE_S = 60


@cache
def small_scan() -> Volume:
    (volume,) = small_volumes(1)
    return volume


@pytest.fixture(scope="module")
def live(
    repository: Path, embedded_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the repository that all servers of this module read: version 1, a tiny network."""
    folder = tmp_path_factory.mktemp("live")
    made = small_tiny_repository(folder / "model_repository", repository)
    # As people write it: a release leaves all of the text but the model as it was.
    written = json.loads((made / "contract.json").read_text("utf-8"))
    (made / "contract.json").write_text(json.dumps(written, indent=2), "utf-8")
    return made


@pytest.fixture(scope="module")
def contract(live: Path) -> Contract:
    return parse_contract((live / "contract.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def candidate(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract
) -> Callable[[Path], int]:
    """Return what releases a second tiny network, of other weights, into a repository."""
    run = write_run(tmp_path_factory.mktemp("upgrade") / "run", 2)
    export_run(run)
    weights, engines = engines_of(run)
    digest = sha256(weights)
    parity = measure_parity(engines[:3], {"small": small_scan()}, contract, digest)
    met = RecordedTarget("Dice, all lung", "at least 0", 0.1, met=True)
    made = Candidate(weights, EvaluationFile(digest, "none", "openvino", (met,), ()), read_run(run))
    return lambda repository: release(made, parity, repository, repository.parent / "CARD.md")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def cluster(
    live: Path, papers: Papers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with running(2, papers, live, tmp_path_factory.mktemp("logs")) as cluster:
        yield cluster


def restart(server: EmbeddedServer) -> None:
    """Stop a server in order and start it again on its ports."""
    server.stop()
    server.start()


@dataclass
class Load:
    """What came of the scans that were scored without a pause."""

    results: list[Result] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def wait_for(self, more: int) -> list[Result]:
        """Wait for so many further results, and return them."""
        done, deadline = len(self.results), time.monotonic() + PATIENCE_S
        while len(self.results) < done + more:
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, f"{len(self.results) - done} of {more} scans"
            time.sleep(0.02)
        return self.results[done:]


@contextmanager
def load(client: Client) -> Iterator[Load]:
    """Score one scan over and over, some at once, until the block ends."""
    load, stop = Load(), threading.Event()

    def score() -> None:
        while not stop.is_set():
            try:
                load.results.append(client.score(small_scan()))
            except BaseException as error:
                load.errors.append(error)
                return

    threads = [threading.Thread(target=score) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def restart_drained(cluster: Cluster, number: int) -> None:
    """Take a server out, let its scans end, start it again: the runbook's words."""
    name = f"server{number + 1}"
    cluster.proxy.ask(f"set server servers/{name} state drain")
    deadline = time.monotonic() + PATIENCE_S
    while cluster.proxy.streams()[name]:
        assert time.monotonic() < deadline, "scans do not end"
        time.sleep(0.05)
    restart(cluster.servers[number])
    cluster.proxy.ask(f"set server servers/{name} state ready")
    while not cluster.proxy.states()[name].startswith("UP"):
        assert time.monotonic() < deadline, cluster.proxy.states()
        time.sleep(0.05)


def versions(results: list[Result]) -> set[int]:
    return {result.model.version for result in results}


def check_each_is_of_the_version_that_it_names(
    results: list[Result], live: Path, contract: Contract
) -> None:
    """Compare every label map with that of the network, of the named version, in this process."""
    prepared = prepare(small_scan(), contract)
    box = prepared.box
    ends = (min(b, n) for b, n in zip(box.stop, prepared.grid.shape, strict=True))
    inside = tuple(slice(a, b) for a, b in zip(box.start, ends, strict=True))
    weights = {v: live / "ild_unet" / str(v) / "model.onnx" for v in versions(results)}
    labels = {
        v: blend(Engine(path, int8=int8_beside(path)).infer, plan_scan(prepared.grid, contract))
        for v, path in weights.items()
    }
    digests = {v: f"sha256:{sha256(path)}" for v, path in weights.items()}
    for result in results:
        version = result.model.version
        assert result.model.weights_digest == digests[version]
        found = result.labels.array[inside]
        np.testing.assert_array_equal(found, labels[version][tuple(map(slice, found.shape))])
    assert len(prepared.plan.origins) > 2
    assert np.mean(labels[1] != labels[2]) > 0.01


@pytest.mark.slow
def test_version_2_comes_server_by_server_and_no_scan_fails(
    cluster: Cluster,
    live: Path,
    papers: Papers,
    candidate: Callable[[Path], int],
    contract: Contract,
) -> None:
    with papers.client(cluster.proxy) as client, load(client) as scans:
        scans.wait_for(3)
        assert candidate(live) == 2
        # A server that runs reads nothing anew.
        before = scans.wait_for(3)
        restart_drained(cluster, 0)
        both = scans.wait_for(8)
        restart_drained(cluster, 1)
        scans.wait_for(AT_ONCE)
        after = scans.wait_for(3)

    assert scans.errors == []
    assert (versions(before), versions(both), versions(after)) == ({1}, {1, 2}, {2})
    check_each_is_of_the_version_that_it_names(scans.results, live, contract)


@pytest.mark.slow
def test_the_step_back_on_a_single_server_costs_a_restart_and_no_scan(
    cluster: Cluster,
    live: Path,
    contract: Contract,
) -> None:
    server = cluster.servers[0]
    with Client(server.grpc_url) as client, load(client) as scans:
        before = scans.wait_for(2)
        serve(live, 1)
        restart(server)
        scans.wait_for(AT_ONCE)
        after = scans.wait_for(2)

    assert scans.errors == []
    assert (versions(before), versions(after)) == ({2}, {1})
    check_each_is_of_the_version_that_it_names(scans.results, live, contract)
