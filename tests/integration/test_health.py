"""What the real server tells of itself; what it admits, refuses and lets go of."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from integration.conftest import (
    changed,
    collect,
    count_scores,
    read_metrics,
    send,
    talk,
    wait_for,
)
from tritonclient.grpc import service_pb2_grpc

from dlild_client.settings import find_settings
from dlild_client.transport.blocking import open_channel
from dlild_client.transport.failures import from_rpc_error, from_server_message
from dlild_client.transport.wire import WindowRequest
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server
UUIDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_a_scored_scan_and_a_failed_one_are_counted(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    before, lost_scans = read_metrics(quiet_server), 'dlild_scans_total{outcome="INCOMPLETE"}'

    assert count_scores(talk(quiet_server.grpc_url, requests)) == 1
    lost = [changed(r, sequence_id="5f1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e45") for r in requests]
    assert count_scores(talk(quiet_server.grpc_url, lost[:1] + lost[2:])) == 0

    # Metrics follow the answers.
    after = wait_for(quiet_server, lambda metrics: metrics[lost_scans] > before[lost_scans])
    gained = {name: value - before[name] for name, value in after.items()}
    assert gained['dlild_scans_total{outcome="done"}'] == 1
    assert gained[lost_scans] == 1
    assert gained['dlild_scans_total{outcome="FAILED"}'] == 0
    # The last window of the failed scan is refused before those that wait then are computed.
    assert len(requests) <= gained["dlild_windows_total"] <= 2 * len(requests) - 2
    if quiet_server.profile == "embedded":  # elsewhere Triton's own metric has it
        assert gained["dlild_inference_seconds_total"] > 0
    network, blend, score, whole = (
        gained[f'dlild_scan_seconds_total{{stage="{stage}"}}']
        for stage in ("network", "blend", "score", "whole")
    )
    # Two windows may be in the network at once.
    assert 0 < blend + score < whole
    assert 0 < network < 2 * whole
    assert after["dlild_open_scans"] == after["dlild_bytes_held"] == 0


def test_the_log_reports_each_scan_in_json_without_identity(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    talk(quiet_server.grpc_url, requests)

    assert quiet_server.log_path is not None
    log = quiet_server.log_path.read_text()
    # Triton quotes what a model logs as a JSON string, so there is JSON within JSON.
    quoted = re.findall(r'\] ("\{\\"event\\": \\"scan\\".*\}")$', log, re.MULTILINE)
    lines = [json.loads(json.loads(line)) for line in quoted]
    assert lines[-1]["outcome"] == "done"
    assert set(lines[-1]) == {
        "event", "scan", "outcome", "windows_received", "window_count", "box_shape",
        "seconds", "network_seconds", "blend_seconds", "score_seconds",
    }  # fmt: skip
    assert all(UUIDS.fullmatch(line["scan"]) for line in lines)


def test_an_abandoned_scan_is_let_go_without_traffic(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    talk(quiet_server.grpc_url, requests[:2], ends=False)
    opened = wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 1)
    assert opened["dlild_bytes_held"] > 0

    after = wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 0)

    assert after['dlild_scans_total{outcome="IDLE"}'] >= 1
    assert after["dlild_bytes_held"] == 0


def test_one_scan_too_many_is_busy_at_its_first_window_and_welcome_later(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    url = quiet_server.grpc_url
    other = [changed(r, sequence_id="6f1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e46") for r in requests]
    talk(url, requests[:1], ends=False)

    refused = talk(url, other[:1], ends=False)
    wait_for(quiet_server, lambda metrics: metrics["dlild_open_scans"] == 0)
    again = [changed(r, sequence_id="7f1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e47") for r in requests]

    assert "BUSY: 1 scans are open" in refused[0].error_message
    assert count_scores(talk(url, again)) == 1


def test_a_client_that_gives_up_frees_its_slot_at_once(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    """By ending the scan with a window that was sent before, as docs/wire.md has it."""
    before = read_metrics(quiet_server)

    answers = talk(quiet_server.grpc_url, [*requests[:2], requests[0]])

    incomplete = 'dlild_scans_total{outcome="INCOMPLETE"}'
    after = wait_for(quiet_server, lambda metrics: metrics[incomplete] > before[incomplete])
    assert count_scores(answers) == 0
    assert "INCOMPLETE" in answers[-1].error_message
    assert after["dlild_open_scans"] == after["dlild_bytes_held"] == 0
    assert after[incomplete] - before[incomplete] == 1


def test_windows_that_go_down_in_z_are_refused_and_never_scored(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    above = next(r for r in requests if r.origin[0] > 0)
    down = [requests[0], replace(above, index=1), replace(requests[0], index=2)]

    # One more than is sent, so that none of them ends the scan.
    answers = talk(quiet_server.grpc_url, [replace(r, count=4) for r in down])

    assert count_scores(answers) == 0
    errors = [a.error_message for a in answers if getattr(a, "error_message", "")]
    assert "windows must come in rising order of z" in errors[0]


# ---- what waits, and what is refused before the network ----------------------------------------


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
    # A whole scan: what the network still computes for a client that is gone is before it.
    send(embedded_server.grpc_url, [request.message() for request in requests])
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


def test_a_stop_with_windows_that_wait_is_in_order_and_their_clients_may_try_again(
    server_platform: None, tiny_repository: Path, requests: list[WindowRequest], tmp_path: Path
) -> None:
    log = tmp_path / "tritonserver.log"
    server = EmbeddedServer(
        tiny_repository, grpc_port=0, http_port=0, metrics_port=0, log_path=log, warm=False
    )
    # Several scans, so that the tiny network has not computed all before the server stops.
    scans = [
        changed(request, sequence_id=str(uuid.uuid5(uuid.NAMESPACE_OID, str(scan)))).message()
        for scan in range(8)
        for request in requests
    ]
    with server:
        channel = open_channel(find_settings(server.grpc_url))
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stream = stub.ModelStreamInfer(iter(scans), timeout=60)
        next(stream)
        asked = time.monotonic()
        server.stop()
        took = time.monotonic() - asked
        errors = [
            from_rpc_error(answer)
            if isinstance(answer, grpc.RpcError)
            else from_server_message(answer.error_message)
            for answer in collect(stream)
            if isinstance(answer, grpc.RpcError) or answer.error_message
        ]
        channel.close()
    assert took < 10
    text = log.read_text(errors="replace")
    assert "Exit timeout expired" not in text
    assert "ignal (11)" not in text
    assert errors
    assert all(error.retryable for error in errors), errors
