"""Vanishing and misbehaving clients, a server that is killed: `make soak` is the long version."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bench.chaos import Chaos, Plan
from bench.support.misbehaving import FAULTS, answers_to, requests_of, spoilt_messages, vanish
from bench.support.small import SmallScan, earlier_version, small_repository, small_scans
from bench.support.watch import read_metric
from integration.conftest import read_metrics, wait_for

from dlild_client import Client
from dlild_client.contract import Contract, parse_contract
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server
SCANS = 12


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The released networks, with small windows."""
    return small_repository(tmp_path)


@pytest.mark.slow
def test_no_mishap_makes_a_wrong_score_or_costs_another_scan(
    server_platform: None, released: Path
) -> None:
    plan = Plan.spread(SCANS, every=5, kills={0})
    contract = parse_contract((released / "contract.json").read_text("utf-8"))
    server = EmbeddedServer(released, grpc_port=0, http_port=0, metrics_port=0)

    findings = Chaos(plan, small_scans(3, contract), contract, server, print).run()

    assert findings.violations == []
    counts = findings.counts
    assert counts["vanished"] == len(plan.vanishing)
    assert counts["refused"] + counts["interrupted"] >= len(plan.spoilt)
    # All others, and the one right after the kill.
    assert counts["scored"] == SCANS - len(plan.vanishing) - len(plan.spoilt) + 1
    assert findings.memory[-1]["open_scans"] == 0


@pytest.mark.slow
def test_an_upgrade_under_load_gives_each_scan_the_score_of_the_version_it_names(
    server_platform: None, released: Path
) -> None:
    contract = parse_contract((released / "contract.json").read_text("utf-8"))
    earlier = earlier_version(released, contract.model.version)
    both = small_scans(3, contract, (earlier,))
    server = EmbeddedServer(released, grpc_port=0, http_port=0, metrics_port=0)
    plan = Plan.spread(SCANS, every=5, kills=(), upgrades={0: earlier})

    findings = Chaos(plan, both, contract, server, print).run()

    assert findings.violations == []
    assert len(findings.upgrades_s) == 1
    assert findings.counts["scored"] == SCANS - len(plan.vanishing) - len(plan.spoilt) + 1


def test_no_fault_of_a_window_gives_a_score_and_the_next_scan_is_served(
    server_platform: None, small: Path, scans: list[SmallScan], small_contract: Contract
) -> None:
    server = EmbeddedServer(small, grpc_port=0, http_port=0, metrics_port=0, warm=False)
    with server, Client(server.grpc_url) as client:
        for fault in FAULTS:
            messages = spoilt_messages(requests_of(scans[0], small_contract), fault)
            scores, errors = answers_to(server.grpc_port, messages)
            assert (fault, scores, len(errors) > 0) == (fault, 0, True)
        assert scans[1].fault_of(client.score(scans[1].volume)) == ""


def test_vanished_clients_give_their_places_up_to_those_who_need_them(
    quiet_server: EmbeddedServer, scans: list[SmallScan], small_contract: Contract
) -> None:
    """The hasty server holds one scan; a silent one gives way after a quarter of five seconds."""
    before = read_metrics(quiet_server)
    vanish(quiet_server.grpc_port, scans[0], small_contract, after=2)
    assert read_metric(quiet_server, "dlild_open_scans") == 1
    time.sleep(1.5)
    with Client(quiet_server.grpc_url) as client:
        assert client.score(scans[1].volume).windows > 0
    yielded = 'dlild_scans_total{outcome="YIELDED"}'
    wait_for(quiet_server, lambda metrics: metrics[yielded] == before[yielded] + 1)
