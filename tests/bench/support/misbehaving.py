"""Misbehaving clients: they disconnect in mid-scan, or send invalid windows."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
from bench.support.raw import PATIENCE_S, open_channel
from bench.support.small import SmallScan
from proxy import Proxy
from tritonclient.grpc import service_pb2_grpc

from dlild_client.contract import Contract
from dlild_client.transport.wire import WindowRequest


def requests_of(scan: SmallScan, contract: Contract) -> list[WindowRequest]:
    """The windows of a scan under a fresh id, as a good client sends them."""
    sequence_id = str(uuid.uuid4())
    plan = scan.prepared.plan
    return [
        WindowRequest(
            sequence_id=sequence_id,
            window=window,
            origin=origin,
            box_shape=scan.prepared.box.shape,
            index=index,
            count=len(plan.origins),
            voxel_volume_mm3=contract.grid.voxel_volume_mm3,
        )
        for index, (origin, window) in enumerate(scan.prepared.windows(contract.hu.padding))
    ]


def vanish(port: int, scan: SmallScan, contract: Contract, after: int) -> None:
    """Send a scan, and disconnect without an abort request once some windows are acknowledged.

    Parameters
    ----------
    port : int
        The server's gRPC port on loopback.
    scan : SmallScan
    contract : Contract
    after : int
        Acknowledgements to wait for, fewer than the windows.
    """
    requests = requests_of(scan, contract)
    with Proxy(port) as proxy, open_channel(proxy.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        # One window more than is acknowledged is under way when the line is cut.
        sent = (request.message() for request in requests[: after + 1])
        call = stub.ModelStreamInfer(_then_wait(sent), timeout=PATIENCE_S)
        try:
            for _ in range(after):
                next(call)
            proxy.cut()
            next(call)
        except (grpc.RpcError, StopIteration):
            return
        finally:
            call.cancel()


def _then_wait(messages: Iterator[Any]) -> Iterator[Any]:
    """Keep the stream open behind the last message, as a client that was cut off."""
    yield from messages
    threading.Event().wait(PATIENCE_S)


def spoilt_messages(requests: list[WindowRequest], fault: str) -> list[Any]:
    """Messages of a scan of which one is wrong.

    Parameters
    ----------
    requests : list of WindowRequest
        A good scan of at least three windows.
    fault : str
        One of `FAULTS`.
    """
    place = len(requests) // 2
    wrong = requests[place]
    changes: dict[str, Callable[[], WindowRequest]] = {
        "nan": lambda: replace(wrong, window=_with(wrong.window, np.nan)),
        "infinity": lambda: replace(wrong, window=_with(wrong.window, np.inf)),
        "shape": lambda: replace(wrong, window=wrong.window[:-1]),
        "origin": lambda: replace(wrong, origin=(10_000, 0, 0)),
        "index": lambda: replace(wrong, index=len(requests) + 5),
        "count": lambda: replace(wrong, count=len(requests) + 1),
        "box": lambda: replace(wrong, box_shape=(9000, 9000, 9000)),
        "voxel": lambda: replace(wrong, voxel_volume_mm3=float("nan")),
        "repeated": lambda: requests[place - 1],
    }
    if fault == "lost":
        chosen = [r for i, r in enumerate(requests) if i != place]
    elif fault in changes:
        chosen = [changes[fault]() if i == place else r for i, r in enumerate(requests)]
    else:
        chosen = requests
    messages = [request.message() for request in chosen]
    for number, message in enumerate(messages):
        message.parameters["sequence_start"].bool_param = number == 0
        message.parameters["sequence_end"].bool_param = number == len(messages) - 1
    if fault == "type":
        raw = np.zeros(wrong.window.shape, "<f4").tobytes()
        messages[place].inputs[0].datatype = "FP32"
        messages[place].raw_input_contents[0] = raw
    return messages


FAULTS = (
    "nan",
    "lost",
    "shape",
    "repeated",
    "origin",
    "type",
    "index",
    "infinity",
    "count",
    "box",
    "voxel",
)


def _with(window: np.ndarray, value: float) -> np.ndarray:
    spoilt = window.copy()
    spoilt[3, 4, 5] = value
    return spoilt


def answers_to(port: int, messages: Sequence[Any]) -> tuple[int, list[str]]:
    """Send messages over one stream; return how many scores came back, and the errors.

    Parameters
    ----------
    port : int
        The server's gRPC port on loopback.
    messages : sequence
        Requests, sent as they are.

    Returns
    -------
    scores : int
    errors : list of str
    """
    scores, errors = 0, []
    with open_channel(f"grpc://127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            for answer in stub.ModelStreamInfer(iter(messages), timeout=PATIENCE_S):
                if answer.error_message:
                    errors.append(answer.error_message)
                outputs = {o.name: o for o in answer.infer_response.outputs}
                score = outputs.get("dl_ild_percent")
                scores += score is not None and list(score.shape) == [1, 1]
        except grpc.RpcError as error:
            errors.append(str(error.details()))
    return scores, errors
