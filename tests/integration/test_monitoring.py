"""What alerts, dashboard and documents name is what the real server tells."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
import yaml
from deploy.checkers import DEPLOY
from integration.conftest import talk, wait_for

from dlild_client.transport.wire import WindowRequest
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server

MONITORING = DEPLOY / "monitoring"
# Only a machine with a GPU has these; their names are in Triton's user guide, "Metrics".
OF_A_GPU = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
# Prometheus' own, and the blackbox exporter's, which test_container.py has seen.
OF_OTHERS = {"up", "ALERTS", "probe_success", "probe_ssl_earliest_cert_expiry"}
NAME = re.compile(r"\b(?:dlild|nv|probe)_[a-z_]+|\bup(?=\{)|\bALERTS\b")


def queries() -> list[str]:
    """Expressions of the alerts on servers, the dashboard and the autoscaler's adapter.

    Those on the DICOM node are held against it in tests/deploy/test_monitoring.py.
    """
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    board = json.loads((MONITORING / "grafana/dashboards/dlild.json").read_text())
    adapter = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text())
    return [
        *(
            rule["expr"]
            for group in groups
            for rule in group["rules"]
            if not rule["alert"].startswith("DlildNode")
        ),
        *(target["expr"] for panel in board["panels"] for target in panel.get("targets", ())),
        *(rule["metricsQuery"] for rule in adapter["rules"]["custom"]),
        *(rule["seriesQuery"] for rule in adapter["rules"]["custom"]),
    ]


def scrape(server: EmbeddedServer) -> list[str]:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        return [line for line in answer.read().decode().splitlines() if not line.startswith("#")]


def test_the_server_has_every_metric_that_is_asked_for(embedded_server: EmbeddedServer) -> None:
    asked = set(NAME.findall(" ".join(queries())))
    told = {re.split(r"[{ ]", line)[0] for line in scrape(embedded_server)}
    assert "dlild_scan_duration_seconds_bucket" in asked
    assert asked - OF_OTHERS - OF_A_GPU <= told


def test_the_server_has_every_value_of_a_label_that_is_asked_for(
    embedded_server: EmbeddedServer,
) -> None:
    told: dict[str, set[str]] = {}
    for line in scrape(embedded_server):
        for label, value in re.findall(r'(\w+)="([^"]*)"', line):
            told.setdefault(label, set()).add(value)
    asked = re.findall(
        r'\b(outcome|stage|what|state|model)(?:=~?|!~?)"([^"$]+)"', " ".join(queries())
    )
    assert asked
    for label, values in asked:
        assert set(values.split("|")) <= told[label], (label, values)


def test_the_memory_budget_of_the_server_makes_sense(embedded_server: EmbeddedServer) -> None:
    budget = {
        tuple(sorted(re.findall(r'(?:what|state)="(\w+)"', line))): float(line.rsplit(" ", 1)[1])
        for line in scrape(embedded_server)
        if line.startswith("dlild_memory_budget_bytes")
    }
    assert 0 < budget["shared_memory", "used"] < budget["shared_memory", "total"]
    assert 2**28 < budget["memory", "used"] < budget["memory", "total"]


def test_a_scored_scan_is_in_the_histogram_and_its_line_has_the_fields_of_the_document(
    embedded_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    def buckets() -> dict[str, float]:
        found = (
            re.fullmatch(r'dlild_scan_duration_seconds_bucket\{le="([^"]+)"\} (\S+)', line)
            for line in scrape(embedded_server)
        )
        return {match[1]: float(match[2]) for match in found if match}

    before = buckets()
    talk(embedded_server.grpc_url, requests)
    # Metrics follow the answers.
    name = 'dlild_scan_duration_seconds_bucket{le="+Inf"}'
    wait_for(embedded_server, lambda metrics: metrics[name] > before["+Inf"])
    gained = {edge: count - before[edge] for edge, count in buckets().items()}

    assert embedded_server.log_path is not None
    log = embedded_server.log_path.read_text()
    line = json.loads(
        json.loads(re.findall(r'\] ("\{\\"event\\": \\"scan\\".*\}")$', log, re.M)[-1])
    )
    document = (MONITORING / "README.md").read_text().partition("| field |")[2]
    fields = dict(re.findall(r"^\| `(\w+)` \| (\w+)", document, re.MULTILINE))
    kinds = {"text": str, "number": (int, float), "list": list}
    assert set(line) == set(fields)
    for name, kind in fields.items():
        assert isinstance(line[name], kinds[kind]), name  # type: ignore[arg-type]
    assert line["outcome"] == "done"
    assert gained == {edge: float(line["seconds"] <= float(edge)) for edge in gained}
