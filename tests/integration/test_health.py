"""What the real server tells of itself, and that it lets go of what clients leave behind."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from integration.conftest import changed, count_scores, read_metrics, talk, wait_for

from dlild_client.transport.wire import WindowRequest
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server
UUIDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_a_scored_scan_and_a_failed_one_are_counted(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    before = read_metrics(quiet_server)

    assert count_scores(talk(quiet_server.grpc_url, requests)) == 1
    lost = [changed(r, sequence_id="5f1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e45") for r in requests]
    assert count_scores(talk(quiet_server.grpc_url, lost[:1] + lost[2:])) == 0

    after = read_metrics(quiet_server)
    gained = {name: value - before[name] for name, value in after.items()}
    assert gained['dlild_scans_total{outcome="done"}'] == 1
    assert gained['dlild_scans_total{outcome="INCOMPLETE"}'] == 1
    assert gained['dlild_scans_total{outcome="FAILED"}'] == 0
    # The last window of the failed scan is answered with the failure.
    assert gained["dlild_windows_total"] == 2 * len(requests) - 2
    assert gained["dlild_inference_seconds_total"] > 0
    blend, score, whole = (
        gained[f'dlild_scan_seconds_total{{stage="{stage}"}}']
        for stage in ("blend", "score", "whole")
    )
    assert 0 < blend + score < whole
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
        "seconds", "blend_seconds", "score_seconds",
    }  # fmt: skip
    assert all(UUIDS.fullmatch(line["scan"]) for line in lines)


def test_an_abandoned_scan_is_let_go_without_traffic(
    quiet_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    talk(quiet_server.grpc_url, requests[:2], ends=False)
    assert read_metrics(quiet_server)["dlild_open_scans"] == 1
    assert read_metrics(quiet_server)["dlild_bytes_held"] > 0

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

    after = read_metrics(quiet_server)
    assert count_scores(answers) == 0
    assert "INCOMPLETE" in answers[-1].error_message
    assert after["dlild_open_scans"] == after["dlild_bytes_held"] == 0
    incomplete = 'dlild_scans_total{outcome="INCOMPLETE"}'
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
