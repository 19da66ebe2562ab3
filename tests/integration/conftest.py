"""Phantom patients as DICOM series, and the raw wire for what a good client never does.

`patient` is a child: the network takes a fifth of the time that it needs for `adult`. Tests that do
not depend on what a trained network answers ask servers of a tiny one.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from bench.support.small import SmallScan, small_repository, small_scans
from export.tiny import write_repository
from patients import SPEC, write_child
from tritonclient.grpc import service_pb2_grpc

from dlild_client import Client
from dlild_client.contract import Contract, parse_contract
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.reading.read import read_volume
from dlild_client.results.result import Result
from dlild_client.settings import find_settings
from dlild_client.transport.blocking import open_channel
from dlild_client.transport.exchange import window_requests
from dlild_client.transport.wire import WindowRequest
from dlild_client.volume import Volume
from dlild_deploy.server import EmbeddedServer
from dlild_export.phantom import Phantom, make_phantom
from dlild_export.phantom.dicom import write_dicom_series
from dlild_export.serving.configs import write_configs

# After which the hasty server drops a silent scan.
IDLE_S = 5


@pytest.fixture(scope="session")
def contract_text(repository: Path) -> str:
    return (repository / "contract.json").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def contract(contract_text: str) -> Contract:
    return parse_contract(contract_text)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom(SPEC)


@pytest.fixture(scope="session")
def adult(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adult")
    write_dicom_series(phantom, folder)
    return folder


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient")
    write_child(folder)
    return folder


@pytest.fixture(scope="session")
def volume(patient: Path) -> Volume:
    return read_volume(patient)


@pytest.fixture(scope="session")
def prepared(volume: Volume, contract: Contract) -> PreparedScan:
    return prepare(volume, contract)


@pytest.fixture(scope="session")
def scored(embedded_server: EmbeddedServer, patient: Path) -> Result:
    """What the real server says of the patient, asked once."""
    with Client(embedded_server.grpc_url) as client:
        return client.score(patient)


@pytest.fixture(scope="session")
def in_pieces(volume: Volume, contract_text: str) -> PreparedScan:
    """The patient's scan in six windows, although the server would take it in one."""
    return prepare(volume, parse_contract(several_windows(contract_text, (64, 96, 96))))


def several_windows(contract_text: str, maximum: tuple[int, int, int] = (96, 128, 128)) -> str:
    """A contract whose windows are so small that every chest takes several."""
    contract = json.loads(contract_text)
    voxels = min(96**3, math.prod(maximum))
    contract["windows"] |= {"maximum": list(maximum), "maximum_voxels": voxels}
    return json.dumps(contract)


@pytest.fixture
def requests(in_pieces: PreparedScan, contract: Contract) -> list[WindowRequest]:
    """The windows of the small scan, under a fresh id."""
    return list(window_requests(in_pieces, contract))


@pytest.fixture(scope="session")
def tiny_repository(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the tiny network: nothing may change it."""
    return write_repository(tmp_path_factory.mktemp("tiny") / "model_repository", repository)


@pytest.fixture(scope="session")
def hasty_repository(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scan at a time, dropped after five silent seconds; in several windows, a tiny network."""
    copied = tmp_path_factory.mktemp("hasty") / "model_repository"
    shutil.copytree(tiny_repository, copied)
    contract = json.loads(several_windows((copied / "contract.json").read_text()))
    (copied / "contract.json").write_text(json.dumps(contract))
    limits = json.loads((copied / "limits.json").read_text())
    limits |= {"scan_idle_s": IDLE_S, "open_scans": 1}
    (copied / "limits.json").write_text(json.dumps(limits))
    write_configs(copied)
    return copied


@pytest.fixture(scope="session")
def small(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the tiny network whose windows are so small that `scans` take four."""
    return small_repository(tmp_path_factory.mktemp("small"), source=tiny_repository)


@pytest.fixture(scope="session")
def small_contract(small: Path) -> Contract:
    return parse_contract((small / "contract.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def scans(small: Path, small_contract: Contract) -> list[SmallScan]:
    return small_scans(3, small_contract, source=small)


@pytest.fixture(scope="session")
def hasty_server(
    server_platform: None, hasty_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    log = tmp_path_factory.mktemp("hasty-log") / "tritonserver.log"
    with EmbeddedServer(
        hasty_repository, grpc_port=0, http_port=0, metrics_port=0, log_path=log
    ) as server:
        yield server


@pytest.fixture
def quiet_server(hasty_server: EmbeddedServer) -> EmbeddedServer:
    """The hasty server, holding nothing."""
    wait_for(hasty_server, lambda metrics: metrics["dlild_open_scans"] == 0)
    return hasty_server


def talk(url: str, requests: Sequence[WindowRequest], *, ends: bool = True) -> list[Any]:
    """Send requests over one stream, first as START and last as END, and return all answers."""
    messages = [r.message() for r in requests]
    for place, message in enumerate(messages):
        message.parameters["sequence_start"].bool_param = place == 0
        message.parameters["sequence_end"].bool_param = ends and place == len(messages) - 1
    return send(url, messages)


def send(url: str, messages: Sequence[Any]) -> list[Any]:
    """Send messages as they are over one stream, and return all answers."""
    channel = open_channel(find_settings(url))
    try:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return collect(stub.ModelStreamInfer(iter(messages), timeout=60))
    finally:
        channel.close()


def collect(call: Iterable[Any]) -> list[Any]:
    """Return all answers of a stream, and at last the error that ended it, if one did."""
    answers = []
    try:
        answers.extend(call)
    except grpc.RpcError as error:
        answers.append(error)
    return answers


def count_scores(answers: Iterable[Any]) -> int:
    """Count the answers that carry a score; acknowledgements carry one of length 0."""
    outputs = [
        output
        for answer in answers
        if not isinstance(answer, grpc.RpcError)
        for output in answer.infer_response.outputs
        if output.name == "dl_ild_percent"
    ]
    return sum(list(output.shape) == [1, 1] for output in outputs)


def changed(request: WindowRequest, **changes: Any) -> WindowRequest:
    return replace(request, **changes)


def read_metrics(server: EmbeddedServer) -> dict[str, float]:
    """Our own metrics by their name and labels."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("dlild_"))
    return {name: float(value) for name, value in pairs}


def wait_for(server: EmbeddedServer, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    deadline = time.monotonic() + 20
    while not holds(metrics := read_metrics(server)):
        assert time.monotonic() < deadline, metrics
        time.sleep(0.2)
    return metrics
