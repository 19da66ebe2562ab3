"""A batch on a Dask cluster: what becomes of scans, workers and settings that fail."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from distributed import LocalCluster

from dlild_client import Client, Retries
from dlild_client.batch import on_dask, worker
from dlild_client.batch.on_dask import DaskScorer
from dlild_client.batch.run import Job, run_batch
from dlild_client.batch.scans import BatchScan
from dlild_client.errors import BadSettingsError, ConnectionFailedError, DlildError, KeyRefusedError
from dlild_client.results.files import write_nifti

SOON = Retries(attempts=3, first_wait_s=0.05, longest_wait_s=0.1)


@pytest.fixture(scope="module")
def cluster():
    """Two workers that are threads of this process, and so have its variables."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def brief_introduction(monkeypatch):
    """Have no worker look a minute for the server of a test that has left it a scan."""
    monkeypatch.setattr(worker, "FIRST_CONNECTION_S", 2.0)


@pytest.fixture
def tree(tmp_path, chest_maker):
    """Write `count` NIfTI scans, each with lungs of its own density."""
    small = chest_maker(shape=(30, 60, 80), spacing=(4.0, 2.5, 2.25))

    def write(count):
        (tmp_path / "cohort").mkdir()
        for number in range(count):
            hu = np.where(small.array == -820, -700 + number, small.array).astype(np.int16)
            write_nifti(small.with_array(hu), tmp_path / "cohort" / f"patient-{number}.nii.gz")
        return tmp_path / "cohort"

    return write


@pytest.fixture
def score(server, cluster, tmp_path):
    """Run a batch on the cluster into `out`; return its summary."""

    def run(place, *, url=None, **settings):
        with (
            Client(server.url, retries=SOON, api_key=settings.pop("api_key", None)) as client,
            DaskScorer(
                client,
                url or server.url,
                cluster.scheduler_address,
                voxels=settings.get("images", False),
            ) as scorer,
        ):
            concurrency = settings.pop("concurrency", 0)
            return run_batch(scorer, place, tmp_path / "out", concurrency=concurrency, **settings)

    return run


def rows_of(out):
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_those_of_a_batch_on_one_machine(score, server, tree, tmp_path):
    place = tree(4)
    (place / "broken.nii.gz").write_bytes(b"no image")
    told = set()

    def tell(scan, stage, done, whole):
        told.add((scan.name, stage))

    summary = score(place, progress=tell)
    with Client(server.url, retries=SOON) as client:
        run_batch(client, place, tmp_path / "alone")

    assert summary.counts == {"scored": 4, "rejected": 1}
    rows, alone = (
        {row.pop("key"): row | {"seconds": ""} for row in rows_of(tmp_path / name)}
        for name in ("out", "alone")
    )
    assert rows == alone
    assert {name for name, _ in told} == {path.name for path in place.iterdir()}
    assert {"read", "inference"} <= {stage for _, stage in told}


def test_a_second_run_scores_nothing_again(score, server, tree):
    place = tree(2)
    score(place)
    sent = len(server.sequence_ids)

    assert score(place).before == 2
    assert len(server.sequence_ids) == sent


def test_images_come_back_when_they_are_asked_for(score, tree, tmp_path):
    score(tree(1), images=True)

    (folder,) = (tmp_path / "out" / "images").iterdir()
    assert (folder / "overlay.png").stat().st_size > 1000
    assert (folder / "labels.nii.gz").stat().st_size > 500


def test_only_so_many_tasks_are_handed_out(score, tree, cluster):
    most = 0

    def finished(scan, status):
        nonlocal most
        most = max(most, len(cluster.scheduler.tasks))

    assert score(tree(8), concurrency=3, finished=finished).counts["scored"] == 8
    # The three, and those whose results were just fetched and are being forgotten.
    assert 1 <= most <= 5


def test_a_worker_without_the_key_ends_the_run_and_says_whose_settings(
    score, server, tree, tmp_path
):
    server.key = "right"

    with pytest.raises(KeyRefusedError, match=r"worker, which reads its own DLILD_\* variables"):
        score(tree(2), api_key="right")

    assert rows_of(tmp_path / "out") == []


def test_a_worker_reads_the_key_and_the_address_of_its_own(
    score, server, tree, tmp_path, monkeypatch
):
    server.key = "right"
    (tmp_path / "key").write_text("right\n")
    monkeypatch.setenv("DLILD_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("DLILD_URL", server.url)

    summary = score(tree(1), api_key="right", url="grpc://127.0.0.1:1")

    assert summary.counts == {"scored": 1}


def test_a_wrong_address_is_reported_and_not_waited_for_long(score, tree, monkeypatch):
    monkeypatch.setattr(worker, "FIRST_CONNECTION_S", 0.5)

    with pytest.raises(ConnectionFailedError, match="said by a worker"):
        score(tree(1), url="grpc://127.0.0.1:1")


def test_scans_that_a_worker_does_not_see_end_the_run(score, tree, tmp_path, monkeypatch):
    there = on_dask.make_task

    def elsewhere(scan, key, url, *, voxels, with_source):
        moved = BatchScan(scan.name, tmp_path / "not mounted" / scan.name)
        task = there(scan, key, url, voxels=voxels)
        return worker.Task(moved, key, url, task.present, voxels)

    monkeypatch.setattr(on_dask, "make_task", elsewhere)
    with pytest.raises(BadSettingsError, match="mount the folder of the scans under the same path"):
        score(tree(2))


def test_another_version_on_a_worker_ends_the_run(score, tree, monkeypatch):
    monkeypatch.setattr(worker, "__version__", "0.0.9")

    with pytest.raises(BadSettingsError, match=r"a worker has dlild-client 0\.0\.9, the batch"):
        score(tree(1))


@dataclass(frozen=True)
class Broken(BatchScan):
    """A scan that fails in a way that nobody foresaw."""

    fault: type[Exception] = MemoryError

    def read(self, *, with_source=False):
        raise self.fault(f"at {self.path}")


def outcomes_of(server, cluster, *scans):
    with (
        Client(server.url, retries=SOON) as client,
        DaskScorer(client, server.url, cluster.scheduler_address, voxels=False) as scorer,
    ):
        jobs = [Job(scan, f"{number:016x}") for number, scan in enumerate(scans)]
        return {o.scan.scan.name: o for o in scorer.score_many(jobs, concurrency=0)}


@pytest.mark.parametrize("fault", [MemoryError, OSError])
def test_a_fault_of_a_worker_is_a_row_and_names_no_path(server, cluster, tree, fault):
    place = tree(1)
    good = BatchScan("good", place / "patient-0.nii.gz")

    found = outcomes_of(server, cluster, Broken("bad", place, fault=fault), good)

    assert type(found["bad"].error) is DlildError
    assert f"{fault.__name__} on a worker" in str(found["bad"].error)
    assert str(place) not in str(found["bad"].error)
    assert found["good"].unwrap().lung_volume_ml > 0


def test_a_worker_without_the_package_ends_the_run(server, cluster, tree):
    with pytest.raises(BadSettingsError, match=r"install dlild-client\[dask\]"):
        outcomes_of(server, cluster, Broken("bad", tree(1), fault=ImportError))


def test_a_lost_scheduler_ends_the_run_and_the_next_goes_on(server, tree, score, tmp_path):
    place = tree(3)
    short = LocalCluster(n_workers=1, processes=False, dashboard_address=":0")

    def finished(scan, status):
        short.close()

    with (
        Client(server.url, retries=SOON) as client,
        DaskScorer(
            client, server.url, short.scheduler_address, voxels=False, timeout_s=2
        ) as scorer,
        pytest.raises(ConnectionFailedError, match=r"scheduler at .* is gone"),
    ):
        run_batch(scorer, place, tmp_path / "out", concurrency=1, finished=finished)
    done = len(rows_of(tmp_path / "out"))

    assert 1 <= done < 3
    assert score(place).before == done
    assert len(rows_of(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("tcp://127.0.0.1:1", ConnectionFailedError, "no Dask scheduler answers"),
        ("carrier-pigeon://loft", BadSettingsError, "give tcp://host:8786"),
        ("tls://127.0.0.1:1", BadSettingsError, "Dask's own TLS"),
    ],
)
def test_an_address_where_no_scheduler_is_gets_one_line(server, address, kind, words):
    with Client(server.url) as client, pytest.raises(kind, match=words):
        DaskScorer(client, server.url, address, voxels=False, timeout_s=0.5)


def dlild_batch(server, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", "batch", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DLILD_URL": server.url} | variables,
    )


def test_without_the_extra_one_line_says_what_to_install(server, tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    done = dlild_batch(
        server, tmp_path, "--out", tmp_path / "o", "--dask", "tcp://127.0.0.1:1", PYTHONPATH=path
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: --dask needs the extra: pip install 'dlild-client[dask]'")
    assert done.stderr.count("\n") == 1
