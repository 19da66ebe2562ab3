"""Vanishing and misbehaving clients, a server that is killed: `make soak` is the long version."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_repository(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def small_contract(small: Path) -> Contract:
    return parse_contract((small / "contract.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def scans(small_contract: Contract) -> list[SmallScan]:
    return small_scans(3, small_contract)


@pytest.fixture
def server(small: Path, embedded_server: EmbeddedServer, tmp_path: Path) -> EmbeddedServer:
    """A server that is not started yet; `embedded_server` skips where none can run."""
    return EmbeddedServer(
        small, grpc_port=0, http_port=0, metrics_port=0, log_path=tmp_path / "tritonserver.log"
    )


@pytest.mark.slow
def test_no_mishap_makes_a_wrong_score_or_costs_another_scan(
    server: EmbeddedServer, scans: list[SmallScan], small_contract: Contract
) -> None:
    plan = Plan.spread(SCANS, every=5, kills={0})

    findings = Chaos(plan, scans, small_contract, server, print).run()

    assert findings.violations == []
    counts = findings.counts
    assert counts["vanished"] == len(plan.vanishing)
    assert counts["refused"] + counts["interrupted"] >= len(plan.spoilt)
    # All others, and the one right after the kill.
    assert counts["scored"] == SCANS - len(plan.vanishing) - len(plan.spoilt) + 1
    assert findings.memory[-1]["open_scans"] == 0


@pytest.mark.slow
def test_an_upgrade_under_load_gives_each_scan_the_score_of_the_version_it_names(
    small: Path, embedded_server: EmbeddedServer, small_contract: Contract, tmp_path: Path
) -> None:
    copied = tmp_path / "model_repository"
    shutil.copytree(small, copied)
    earlier = earlier_version(copied, small_contract.model.version)
    both = small_scans(3, small_contract, (earlier,))
    server = EmbeddedServer(copied, grpc_port=0, http_port=0, metrics_port=0)
    plan = Plan.spread(SCANS, every=5, kills=(), upgrades={0: earlier})

    findings = Chaos(plan, both, small_contract, server, print).run()

    assert findings.violations == []
    assert len(findings.upgrades_s) == 1
    assert findings.counts["scored"] == SCANS - len(plan.vanishing) - len(plan.spoilt) + 1


def test_no_fault_of_a_window_gives_a_score_and_the_next_scan_is_served(
    server: EmbeddedServer, scans: list[SmallScan], small_contract: Contract
) -> None:
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
