"""A server that is restarted while scans are under way: each is sent again, and scored right."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench.support.small import SmallScan
from orthanc import free_port

from dlild_client import Client, Limits, Retries
from dlild_client.batch.run import PATIENT, run_batch
from dlild_client.cli.screen import WaitingNotice
from dlild_client.results.files import write_nifti
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server
SOON = Retries(attempts=200, first_wait_s=0.2, longest_wait_s=1.0)
# The others are still to be sent when the server ends.
ONE_WINDOW = Limits(in_flight=1)


@pytest.fixture
def server(server_platform: None, small: Path, tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(
        small,
        grpc_port=free_port(),
        http_port=0,
        metrics_port=0,
        log_path=tmp_path / "tritonserver.log",
        warm=False,
    ) as running:
        yield running


def stop(server: EmbeddedServer) -> None:
    """Stop in order: for a while the server answers that its model has no available versions."""
    server.stop()


def kill(server: EmbeddedServer) -> None:
    """Kill without a word, as the kernel does for want of memory."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()


@pytest.mark.parametrize("end", [pytest.param(stop, marks=pytest.mark.slow), kill])
def test_a_scan_under_way_is_sent_again_and_scored_right(
    server: EmbeddedServer, scans: list[SmallScan], end: Callable[[EmbeddedServer], None]
) -> None:
    under_way, ended, stages = threading.Event(), threading.Event(), []

    def watch(stage: str, done: int, whole: int) -> None:
        stages.append(stage)
        if stage == "inference" and 0 < done < whole:
            under_way.set()
            ended.wait(60)

    with (
        Client(server.grpc_url, retries=SOON, limits=ONE_WINDOW) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.score, scans[0].volume, watch)
        assert under_way.wait(60)
        # Linux ends the server with the thread that started it: this one.
        end(server)
        ended.set()
        server.start()
        result = waiting.result(120)

    assert scans[0].fault_of(result) == ""
    assert "again" in stages


def test_a_batch_waits_for_the_server_says_so_and_scores_all(
    server: EmbeddedServer, scans: list[SmallScan], tmp_path: Path
) -> None:
    under_way, ended = threading.Event(), threading.Event()
    said: list[str] = []
    notice = WaitingNotice(said.append)
    for number, scan in enumerate(scans):
        (tmp_path / "in" / str(number)).mkdir(parents=True)
        write_nifti(scan.volume, tmp_path / "in" / str(number) / "ct.nii")

    def told(scan: object, stage: str, done: int, whole: int) -> None:
        if stage == "again":
            notice.on_wait(scan)
        if stage == "inference" and 0 < done < whole:
            under_way.set()
            ended.wait(60)
            notice.on_answer(scan)

    with (
        Client(server.grpc_url, retries=PATIENT, limits=ONE_WINDOW) as client,
        notice.listening(),
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(run_batch, client, tmp_path / "in", tmp_path / "out", progress=told)
        assert under_way.wait(60)
        stop(server)
        ended.set()
        server.start()
        summary = waiting.result(240)

    assert (dict(summary.counts), dict(summary.errors)) == ({"scored": 3}, {})
    assert said[0].startswith("waiting for the server: ")
    assert said[-1].startswith("the server answers again, after ")
