"""Raw requests without the client: windows without a volume."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Sequence
from itertools import islice
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2_grpc

from dlild_client.contract import Contract
from dlild_client.contract.windows import plan_windows
from dlild_client.transport.wire import FinalAnswer, WindowRequest, parse_answer

NO_LIMIT = 2**31 - 1
OPTIONS = [
    ("grpc.max_send_message_length", NO_LIMIT),
    ("grpc.max_receive_message_length", NO_LIMIT),
]
PATIENCE_S = 120.0


def open_channel(url: str) -> Any:
    """Open a channel to ``grpc://host:port`` without limits on messages."""
    return grpc.insecure_channel(url.removeprefix("grpc://"), options=OPTIONS)


def requests_of_box(hu: np.ndarray, contract: Contract) -> list[WindowRequest]:
    """Cut a box into the windows that a client would send, under a fresh id.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        HU of the box.
    contract : Contract
    """
    plan = plan_windows(hu.shape, contract)
    sequence_id = str(uuid.uuid4())
    return [
        WindowRequest(
            sequence_id=sequence_id,
            window=np.ascontiguousarray(
                hu[tuple(slice(o, o + n) for o, n in zip(origin, plan.shape, strict=True))],
                dtype=np.float16,
            ),
            origin=origin,
            box_shape=hu.shape,
            index=index,
            count=len(plan.origins),
            voxel_volume_mm3=contract.grid.voxel_volume_mm3,
        )
        for index, origin in enumerate(plan.origins)
    ]


def score_windows(url: str, requests: Sequence[WindowRequest], in_flight: int) -> FinalAnswer:
    """Send windows over one stream, so many unanswered at a time, and return the score.

    Raises
    ------
    RuntimeError
        The server answered an error, or no score.
    """
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting = iter(requests)
    for request in islice(waiting, in_flight):
        outgoing.put(request.message())
    with open_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelStreamInfer(iter(outgoing.get, None), timeout=PATIENCE_S)
        try:
            for answer in call:
                if answer.error_message:
                    raise RuntimeError(answer.error_message)
                final = parse_answer(answer.infer_response).final
                if final is not None:
                    return final
                request = next(waiting, None)
                if request is not None:
                    outgoing.put(request.message())
        finally:
            outgoing.put(None)
    raise RuntimeError("the stream ended without a score")
