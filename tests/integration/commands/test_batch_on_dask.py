"""`dlild batch --dask` on a real Dask cluster, against the real server behind TLS and a key."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from certificates import Authority
from client.conftest import make_chest
from distributed import LocalCluster

from dlild_client import TLS, Client
from dlild_client.batch.on_dask import DaskScorer
from dlild_client.batch.run import Job
from dlild_client.batch.scans import BatchScan
from dlild_client.errors import WorkerLostError
from dlild_client.results.files import write_nifti
from dlild_client.volume import Volume
from dlild_deploy.server import EmbeddedServer, ServerTLS

pytestmark = pytest.mark.server

COUNT = 12
KEY = "a-key-that-no-dashboard-shows"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(
    server_platform: None,
    authority: Authority,
    tiny_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmbeddedServer]:
    """A tiny network behind TLS and a key."""
    folder = tmp_path_factory.mktemp("dask-server")
    pair = authority.issue("server")
    with EmbeddedServer(
        tiny_repository,
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_path=folder / "tritonserver.log",
        tls=ServerTLS(pair.cert, pair.key),
        api_key=KEY,
        warm=False,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def variables(
    authority: Authority, server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Settings as a worker gets them: the key in a file that is mounted there."""
    key_file = tmp_path_factory.mktemp("secret") / "api-key"
    key_file.write_text(KEY)
    return {"DLILD_TLS_CA": str(authority.ca), "DLILD_API_KEY_FILE": str(key_file)}


@pytest.fixture(scope="module")
def cluster(variables: dict[str, str]) -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=3,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        env=variables,
        silence_logs=50,
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small scans, each with lungs of its own density."""
    folder = tmp_path_factory.mktemp("dask-cohort")
    chest = make_chest(shape=(30, 60, 80), spacing=(4.0, 2.5, 2.25))
    for number in range(COUNT):
        hu = np.where(chest.array == -820, -860 + 20 * number, chest.array).astype(np.int16)
        write_nifti(chest.with_array(hu), folder / f"scan-{number:02d}.nii.gz")
    return folder


def start_batch(
    cohort: Path, out: Path, server: EmbeddedServer, scheduler: str, variables: dict[str, str]
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dlild_client.cli", "batch", str(cohort), "--out", str(out)]
    command += ["--dask", scheduler, "--url", server.grpc_url, "--json"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def rows_of(out: Path) -> list[dict[str, str]]:
    if not (out / "results.csv").is_file():
        return []
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wait_for_rows(out: Path, least: int, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(rows_of(out)) < least:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline, f"{len(rows_of(out))} rows"
        time.sleep(0.05)


def kill_a_worker_at_work(cluster: LocalCluster) -> None:
    """SIGKILL for a worker process that has a scan."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for nanny in cluster.workers.values():
            state = cluster.scheduler.workers.get(nanny.worker_address)
            if state is not None and state.processing:
                os.kill(nanny.pid, signal.SIGKILL)
                return
        time.sleep(0.01)
    raise AssertionError("no worker is at work")


def test_every_scan_has_a_row_though_a_worker_is_killed(
    cluster: LocalCluster,
    server: EmbeddedServer,
    cohort: Path,
    variables: dict[str, str],
    tmp_path: Path,
) -> None:
    running = start_batch(cohort, tmp_path, server, cluster.scheduler_address, variables)
    wait_for_rows(tmp_path, 3, running)
    tasks = pickle.dumps([repr(t.run_spec) for t in cluster.scheduler.tasks.values()])
    kill_a_worker_at_work(cluster)
    told, said = running.communicate(timeout=120)

    assert (running.returncode, said) == (0, "")
    assert json.loads(told)["scored"] == COUNT
    rows = rows_of(tmp_path)
    assert len(rows) == len({row["key"] for row in rows}) == COUNT
    assert {row["scan"] for row in rows} == {path.name for path in cohort.iterdir()}
    tls = TLS(ca=variables["DLILD_TLS_CA"])
    with Client(server.grpc_url, tls=tls, api_key=KEY) as client:
        expected = {
            outcome.scan: outcome.unwrap().dl_ild_percent
            for outcome in client.score_many(sorted(cohort.iterdir()))
        }
    assert len({f"{score:.3f}" for score in expected.values()}) > COUNT / 2
    for row in rows:
        assert float(row["dl_ild_percent"]) == pytest.approx(
            expected[cohort / row["scan"]], rel=1e-4
        )
    assert b"dlild" in tasks
    assert KEY.encode() not in tasks
    assert b"scan-0" not in tasks


class Deadly(BatchScan):
    """A scan that takes the process down that reads it, as one does that needs too much memory."""

    def read(self, *, with_source: bool = False) -> Volume:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_scan_that_takes_workers_down_is_a_row_and_the_others_are_scored(
    cluster: LocalCluster, server: EmbeddedServer, cohort: Path, variables: dict[str, str]
) -> None:
    # The workers have not this module.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster.scheduler.allowed_failures = 1
    place = sorted(cohort.iterdir())[0]
    jobs = [Job(Deadly("deadly", place), "0" * 16), Job(BatchScan("good", place), "1" * 16)]
    tls = TLS(ca=variables["DLILD_TLS_CA"])
    with (
        Client(server.grpc_url, tls=tls, api_key=KEY) as client,
        DaskScorer(client, server.grpc_url, cluster.scheduler_address, voxels=False) as scorer,
    ):
        found = {o.scan.scan.name: o for o in scorer.score_many(jobs, concurrency=0)}

    assert isinstance(found["deadly"].error, WorkerLostError)
    assert "2 workers were lost over this scan" in str(found["deadly"].error)
    assert found["good"].unwrap().lung_volume_ml > 0
