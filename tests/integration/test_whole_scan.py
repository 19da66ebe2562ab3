"""The whole-scan door of the real server: the same answer, the same guards, and a way out."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from integration.conftest import changed, read_metrics, several_windows, talk, wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client.contract import parse_contract
from dlild_client.contract.windows import extract_window, plan_windows
from dlild_client.preparation.prepare import PreparedScan
from dlild_client.settings import find_settings
from dlild_client.transport.blocking import open_channel
from dlild_client.transport.wire import WindowRequest, parse_answer
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server
VOXEL_MM3 = 3.375


@pytest.fixture(scope="session")
def box_volume(in_pieces: PreparedScan) -> np.ndarray:
    """The lung box of the small scan, as the whole-scan door takes it."""
    box = in_pieces.box
    cropped = extract_window(in_pieces.grid.array, box, (0, 0, 0), box.shape, -1024)
    return cropped.astype(np.int16)


@pytest.fixture(scope="session")
def large_volume(box_volume: np.ndarray) -> np.ndarray:
    """Eight of them: they take the server long enough to be left alone with them."""
    return np.tile(box_volume, (2, 2, 2))


def message(volume: np.ndarray, voxel_mm3: float = VOXEL_MM3) -> Any:
    request = service_pb2.ModelInferRequest(model_name="dlild_volume")
    request.inputs.add(name="volume", datatype="INT16", shape=[1, *volume.shape])
    request.raw_input_contents.append(np.ascontiguousarray(volume, "<i2").tobytes())
    request.inputs.add(name="voxel_volume_mm3", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(np.array([[voxel_mm3]], "<f4").tobytes())
    return request


@pytest.fixture
def door(quiet_server: EmbeddedServer) -> Any:
    channel = open_channel(find_settings(quiet_server.grpc_url))
    yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
    channel.close()


def same_windows(volume: np.ndarray, contract_text: str) -> list[WindowRequest]:
    """The windows that the server cuts, as a client would send them."""
    plan = plan_windows(volume.shape, parse_contract(several_windows(contract_text)))
    return [
        WindowRequest(
            sequence_id="8f1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e48",
            window=volume[
                tuple(slice(o, o + w) for o, w in zip(origin, plan.shape, strict=True))
            ].astype(np.float16),
            origin=origin,
            box_shape=volume.shape,
            index=index,
            count=len(plan.origins),
            voxel_volume_mm3=VOXEL_MM3,
        )
        for index, origin in enumerate(plan.origins)
    ]


def test_the_answer_is_that_of_the_stream(
    quiet_server: EmbeddedServer, door: Any, box_volume: np.ndarray, contract_text: str
) -> None:
    streamed = talk(quiet_server.grpc_url, same_windows(box_volume, contract_text))
    expected = parse_answer(streamed[-1].infer_response).final

    answer = parse_answer(door.ModelInfer(message(box_volume), timeout=60))

    assert answer.final is not None
    assert expected is not None
    assert answer.windows_received == len(streamed)
    assert answer.final.dl_ild_percent == pytest.approx(expected.dl_ild_percent, abs=0.01)
    assert np.mean(answer.final.labels != expected.labels) < 1e-5
    np.testing.assert_allclose(answer.final.zone_volumes_ml, expected.zone_volumes_ml, atol=0.1)
    if quiet_server.profile == "embedded":
        assert answer.engine is not None
        assert answer.engine.startswith("openvino")
    else:  # the contract names engine and precision of the others
        assert answer.engine is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"volume": np.zeros((20, 96, 96), np.int16)}, "smaller than the smallest window"),
        ({"volume": np.full((96, 96, 96), 5000, np.int16)}, "volume holds 5000 HU"),
        # Refused by `dlild`.
        (
            {"volume": np.zeros((96, 96, 96), np.int16), "voxel_mm3": float("nan")},
            "voxel_volume_mm3 is nan",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_value_and_nothing_is_held(
    quiet_server: EmbeddedServer, door: Any, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        door.ModelInfer(message(**changes), timeout=60)

    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "REFUSED: " in error.value.details()
    assert says in error.value.details()
    wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 0)


def test_too_many_open_scans_are_busy_and_may_try_again(
    quiet_server: EmbeddedServer, requests: list[WindowRequest], box_volume: np.ndarray
) -> None:
    """The hasty server holds one scan, and drops it after five silent seconds."""
    first = changed(requests[0], sequence_id="9f1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e49")
    channel = open_channel(find_settings(quiet_server.grpc_url))
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    talk(quiet_server.grpc_url, [first], ends=False)
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(message(box_volume), timeout=60)
    wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 0)
    later = parse_answer(stub.ModelInfer(message(box_volume), timeout=60))
    channel.close()

    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "BUSY: 1 scans are open" in error.value.details()
    assert later.final is not None


def test_a_client_that_goes_away_stops_the_work(
    quiet_server: EmbeddedServer, door: Any, box_volume: np.ndarray, large_volume: np.ndarray
) -> None:
    before = read_metrics(quiet_server)
    call = door.ModelInfer.future(message(large_volume), timeout=60)
    wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 1)
    call.cancel()

    after = wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 0)

    gained = {name: value - before[name] for name, value in after.items()}
    assert gained['dlild_scans_total{outcome="INCOMPLETE"}'] == 1
    assert gained['dlild_scans_total{outcome="done"}'] == 0
    # The server serves the next one at once.
    assert parse_answer(door.ModelInfer(message(box_volume), timeout=60)).final is not None
