"""The precision that the server computes in: chosen by the processor, and named in every result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export.tiny import tiny_run, write_repository

from dlild_client import Client
from dlild_client.contract.precision import LIMIT, choose_precision, cpu_flags
from dlild_client.contract.weights import INT8_NETWORK
from dlild_client.results.result import Result
from dlild_deploy.server import EmbeddedServer, LauncherError
from dlild_export.release.versions import ReleaseError, add_int8
from dlild_export.serving.int8_calibration import quantise


def score(patient: Path, log: Path, repository: Path) -> Result:
    with (
        EmbeddedServer(
            repository, grpc_port=0, http_port=0, metrics_port=0, log_path=log, warm=False
        ) as server,
        Client(server.grpc_url) as client,
    ):
        return client.score(patient)


@pytest.fixture
def tiny(repository: Path, tmp_path: Path) -> Path:
    """A repository of the tiny network."""
    return write_repository(tmp_path / "model_repository", repository)


def test_without_bf16_and_vnni_the_score_is_that_of_f32_and_the_result_says_so(
    tiny: Path, patient: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DLILD_PRECISION", "f32")
    expected = score(patient, tmp_path / "expected.log", tiny)
    monkeypatch.delenv("DLILD_PRECISION")
    monkeypatch.setenv(LIMIT, "AVX2")
    result = score(patient, tmp_path / "tritonserver.log", tiny)

    assert result.model.precision == "f32"
    assert result.dl_ild_percent == pytest.approx(expected.dl_ild_percent, abs=0.05)


@pytest.fixture
def with_int8(tiny: Path, tmp_path: Path) -> Path:
    """The same, with the INT8 form of the network."""
    rng = np.random.default_rng(0)
    crops = [rng.uniform(-1024, 400, (32,) * 3).astype(np.float16)]
    weights = tiny_run() / "model.onnx"
    onnx.save(quantise(onnx.load(str(weights)), crops), str(tmp_path / "int8.onnx"))
    assert add_int8(tiny, weights, tmp_path / "int8.onnx") == 1
    return tiny


@pytest.mark.skipif(
    choose_precision(cpu_flags(), has_int8=True) != "int8", reason="this CPU has no VNNI and no AMX"
)
def test_an_int8_form_is_served_under_its_name(
    with_int8: Path, patient: Path, tmp_path: Path
) -> None:
    result = score(patient, tmp_path / "tritonserver.log", with_int8)
    assert (result.model.engine, result.model.precision) == ("openvino", "int8")


def test_another_int8_form_than_the_released_one_is_not_served(with_int8: Path) -> None:
    with (with_int8 / "ild_unet" / "1" / INT8_NETWORK).open("ab") as file:
        file.write(b"more")
    with pytest.raises(LauncherError, match=rf"{INT8_NETWORK} has sha256"):
        EmbeddedServer(with_int8, grpc_port=0, http_port=0, metrics_port=0).start()


def test_the_int8_form_of_weights_that_were_never_released_is_refused(
    with_int8: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"other")
    with pytest.raises(ReleaseError, match="is of no released version"):
        add_int8(with_int8, other, tmp_path / "int8.onnx")
