"""A server or one of its models is killed alone, as for want of memory: the others end with it."""

from __future__ import annotations

import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from bench.support.memory import SHARED, server_processes
from integration.conftest import send
from processes import is_running

from dlild_client.contract import Contract
from dlild_client.transport.wire import WindowRequest
from dlild_deploy.errors import LauncherError
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server
# With its first window `dlild` takes the interpreter's lock for good, as a call does that only the
# server could answer: no thread of Python runs then, and Triton's own exit waits for that lock.
HOLDING = """\

import ctypes
import pathlib
import time

import parent_death


class TritonPythonModel(TritonPythonModel):
    def _compute(self, window):
        time.sleep(4 * parent_death.POLL_S)
        pathlib.Path({mark!r}).touch()
        ctypes.PyDLL(None).sleep(60)
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "holds-the-lock"


@pytest.fixture
def server(
    server_platform: None, tiny_repository: Path, mark: Path, tmp_path: Path
) -> Iterator[EmbeddedServer]:
    copied = tmp_path / "model_repository"
    shutil.copytree(tiny_repository, copied)
    for model in copied.glob("dlild/*/model.py"):
        model.write_text(model.read_text("utf-8") + HOLDING.format(mark=str(mark)), "utf-8")
    with EmbeddedServer(
        copied,
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_path=tmp_path / "tritonserver.log",
        warm=False,
    ) as running:
        yield running


def holds_lock(pid: int) -> bool:
    """Whether a process keeps the shared memory of its server from being removed as stale."""
    files = [file.readlink() for file in Path(f"/proc/{pid}/fd").iterdir()]
    return any(file.parent == SHARED and file.name.endswith("_lock") for file in files)


def ended_within(seconds: float, processes: dict[str, int]) -> set[str]:
    deadline = time.monotonic() + seconds
    while any(map(is_running, processes.values())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {name for name, pid in processes.items() if not is_running(pid)}


def test_the_processes_of_all_models_end_with_a_server_that_is_killed(
    server: EmbeddedServer, contract: Contract, mark: Path
) -> None:
    assert server.pid is not None
    processes = server_processes(server.pid)
    assert {"dlild", "dlild_volume", "ild_unet"} < set(processes)
    assert all(map(holds_lock, processes.values()))
    air = np.full((64, 64, 64), -1000, np.float16)
    window = WindowRequest(
        window=air,
        origin=(0, 0, 0),
        box_shape=air.shape,
        index=0,
        count=1,
        sequence_id=str(uuid.uuid4()),
        voxel_volume_mm3=contract.grid.voxel_volume_mm3,
    )
    asking = Thread(target=send, args=(server.grpc_url, [window.message()]), daemon=True)
    asking.start()
    deadline = time.monotonic() + 20
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    # Not waited for: it stays a zombie, as below a launcher that hangs.
    os.kill(server.pid, signal.SIGKILL)

    assert ended_within(5, processes) == set(processes)
    asking.join(10)


@pytest.mark.parametrize("model", ["dlild", "dlild_volume", "ild_unet"])
def test_a_server_stops_when_the_process_of_one_of_its_models_is_killed(
    server: EmbeddedServer, model: str
) -> None:
    """It would say that it is ready, and answer no scan any more."""
    assert server.pid is not None
    processes = server_processes(server.pid)

    os.kill(processes[model], signal.SIGKILL)

    assert ended_within(20, processes) == set(processes)
    with pytest.raises(LauncherError, match="the process of a model has ended"):
        server.check_alive()
