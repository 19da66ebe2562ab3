"""Windows that wait: dropped with their clients, refused before the network, and at a stop."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from integration.conftest import changed, read_metrics, send, wait_for
from tritonclient.grpc import service_pb2_grpc

from dlild_client.settings import find_settings
from dlild_client.transport.blocking import open_channel
from dlild_client.transport.wire import WindowRequest
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server


def computed(server: EmbeddedServer) -> int:
    """Windows that the network has computed so far."""
    with urlopen(server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    name = r'^nv_inference_request_success{[^}]*model="ild_unet"[^}]*} (\S+)'
    return int(sum(map(float, re.findall(name, text, re.MULTILINE))))


def open_stream(server: EmbeddedServer, requests: Sequence[WindowRequest]) -> tuple[Any, Any]:
    """Send windows all at once, and keep the stream open behind them."""
    channel = open_channel(find_settings(server.grpc_url))
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def messages() -> Iterator[Any]:
        yield from (request.message() for request in requests)
        threading.Event().wait(60)

    return channel, stub.ModelStreamInfer(messages(), timeout=60)


def test_windows_of_a_client_that_is_gone_are_not_computed(
    embedded_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    before, cancelled = computed(embedded_server), read_metrics(embedded_server)
    channel, stream = open_stream(embedded_server, requests)
    next(stream)
    stream.cancel()
    channel.close()
    name = 'dlild_scans_total{outcome="CANCELLED"}'
    after = wait_for(
        embedded_server,
        lambda told: told[name] > cancelled[name] and not told["dlild_open_scans"],
    )
    assert after[name] == cancelled[name] + 1
    assert after["dlild_waiting_windows"] == 0
    # The first, one that the network had begun, and one more where it gets one ahead.
    assert computed(embedded_server) - before <= 3 < len(requests)


def test_what_no_window_may_be_never_reaches_the_network(
    embedded_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    first = requests[0]
    holed = first.window.copy()
    holed[5, 6, 7] = np.nan
    bright = first.window.copy()
    bright[5, 6, 7] = 3000
    before = computed(embedded_server)
    for window, says in (
        (holed, "window holds nan, must hold HU of -1024 to 2047"),
        (bright, "window holds 3000.0, must hold HU of -1024 to 2047"),
        (np.zeros((208, 208, 208), np.float16), "window has shape (208, 208, 208), must have"),
        (np.zeros((68, 68, 68), np.float16), "window has shape (68, 68, 68), must have multiples"),
    ):
        (answer,) = send(embedded_server.grpc_url, [changed(first, window=window).message()])
        assert f"REFUSED: {says}" in answer.error_message
    assert computed(embedded_server) == before
