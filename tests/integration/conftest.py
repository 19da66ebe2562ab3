"""A phantom patient as a DICOM series, and the raw wire for what a good client never does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from dlild_client.client import window_requests
from dlild_client.connection import open_channel, parse_url
from dlild_client.contract import Contract, parse_contract
from dlild_client.prepare import PreparedScan, prepare
from dlild_client.read import read_volume
from dlild_client.wire import WindowRequest
from dlild_export.phantom import Pattern, Phantom, PhantomSpec, make_phantom
from dlild_export.phantom.dicom import write_dicom_series


@pytest.fixture(scope="session")
def contract_text(repository: Path) -> str:
    return (repository / "contract.json").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def contract(contract_text: str) -> Contract:
    return parse_contract(contract_text)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom(PhantomSpec(seed=3_000_001, pattern=Pattern.MIXED, severity=0.2))


@pytest.fixture(scope="session")
def patient(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient")
    write_dicom_series(phantom, folder)
    return folder


@pytest.fixture(scope="session")
def prepared(patient: Path, contract: Contract) -> PreparedScan:
    return prepare(read_volume(patient), contract)


@pytest.fixture
def requests(prepared: PreparedScan, contract: Contract) -> list[WindowRequest]:
    """The windows of the phantom's scan, under a fresh id."""
    return list(window_requests(prepared, contract))


def talk(url: str, requests: Sequence[WindowRequest], *, ends: bool = True) -> list[Any]:
    """Send requests over one stream, first as START and last as END, and return all answers."""
    messages = [r.message() for r in requests]
    for place, message in enumerate(messages):
        message.parameters["sequence_start"].bool_param = place == 0
        message.parameters["sequence_end"].bool_param = ends and place == len(messages) - 1
    return send(url, messages)


def send(url: str, messages: Sequence[Any]) -> list[Any]:
    """Send messages as they are over one stream, and return all answers."""
    channel = open_channel(parse_url(url))
    try:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return _collect(stub.ModelStreamInfer(iter(messages), timeout=60))
    finally:
        channel.close()


def _collect(call: Iterable[Any]) -> list[Any]:
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
