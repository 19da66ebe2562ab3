"""A released version behind the real server: it answers, under its own number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export.tiny import coarse_scan, tiny_run, write_repository, write_run
from integration.conftest import talk
from integration.test_whole_scan import message
from tritonclient.grpc import service_pb2_grpc

from dlild_client import Client
from dlild_client.contract import Contract, parse_contract
from dlild_client.contract.windows import extract_window
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.settings import find_settings
from dlild_client.transport.blocking import open_channel
from dlild_client.transport.exchange import window_requests
from dlild_client.transport.wire import parse_answer
from dlild_deploy.server import EmbeddedServer
from dlild_export.data.digest import sha256
from dlild_export.release.evaluation_file import EvaluationFile, RecordedTarget
from dlild_export.release.model_card import read_run
from dlild_export.release.versions import Candidate, release
from dlild_export.serving.engines import engines_of
from dlild_export.serving.onnx import export_run
from dlild_export.serving.parity import measure_parity
from dlild_export.serving.sliding import blend, plan_scan
from engine import Engine

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("second") / "run", 2)
    export_run(run)
    return run


@pytest.fixture(scope="module")
def released(
    run: Path, repository: Path, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a repository whose version 2 answers, with the network of version 1 loaded too."""
    copied = write_repository(tmp_path_factory.mktemp("released") / "model_repository", repository)
    weights, engines = engines_of(run)
    digest = sha256(weights)
    scans = {"coarse": coarse_scan()}
    # Weights drawn at random are a coin's throw from the next class everywhere: fp32 only. And a
    # grid of the scan's voxels: its eighth.
    coarse = replace(contract, grid=replace(contract.grid, spacing_mm=scans["coarse"].spacing_mm))
    parity = measure_parity(engines[:3], scans, coarse, digest)
    met = RecordedTarget("Dice, all lung", "at least 0", 0.1, met=True)
    evaluation = EvaluationFile(digest, "none", "openvino", (met,), ())
    candidate = Candidate(weights, evaluation, read_run(run))
    card = copied.parent / "MODEL_CARD.md"
    assert release(candidate, parity, copied, card, keep_previous=True) == 2
    return copied


@pytest.fixture(scope="module")
def server(
    server_platform: None, released: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    log = tmp_path_factory.mktemp("released-log") / "tritonserver.log"
    with EmbeddedServer(
        released, grpc_port=0, http_port=0, metrics_port=0, log_path=log, warm=False
    ) as server:
        yield server


@pytest.fixture(scope="module")
def scan(contract: Contract) -> PreparedScan:
    return prepare(coarse_scan(), contract)


def test_the_released_network_answers_under_its_number(
    server: EmbeddedServer, released: Path, scan: PreparedScan
) -> None:
    contract = parse_contract((released / "contract.json").read_text(encoding="utf-8"))
    answers = talk(server.grpc_url, list(window_requests(scan, contract)))

    assert {answer.infer_response.model_version for answer in answers} == {"2"}
    final = parse_answer(answers[-1].infer_response).final
    labels = {
        version: blend(
            Engine(released / "ild_unet" / str(version) / "model.onnx").infer,
            plan_scan(scan.grid, contract),
        )
        for version in (1, 2)
    }
    assert final is not None
    np.testing.assert_array_equal(final.labels, labels[2])
    assert np.mean(labels[1] != labels[2]) > 0.01


def test_the_whole_scan_model_names_it_too(server: EmbeddedServer, scan: PreparedScan) -> None:
    box = scan.box
    volume = extract_window(scan.grid.array, box, (0, 0, 0), box.shape, -1024).astype(np.int16)
    channel = open_channel(find_settings(server.grpc_url))
    try:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(message(volume), timeout=60)
    finally:
        channel.close()

    assert answer.model_version == "2"


def test_a_client_is_given_the_version_and_its_weights(server: EmbeddedServer, run: Path) -> None:
    with Client(server.grpc_url) as client:
        model = client.info().contract.model

    assert (model.version, model.weights_sha256) == (2, sha256(run / "model.onnx"))
    assert model.weights_sha256 != sha256(tiny_run() / "model.onnx")
