"""Alerts that fire and do not, a dashboard as its script makes it, configurations that load."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from deploy.checkers import DEPLOY, passes, run

from dlild_client.archive.metrics import Metrics
from dlild_client.archive.queue import STATES
from scans import OUTCOMES

MONITORING = DEPLOY / "monitoring"
RULES = ("targets.yml", "alerts.yml")
TESTS = ("alerts.test.yml", "targets-missing.test.yml")


def rules():
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_takes_the_rules():
    passes("promtool", "check", "rules", "--lint=all", *(MONITORING / name for name in RULES))


def test_every_alert_fires_when_it_must_and_not_when_it_must_not():
    passes("promtool", "test", "rules", *TESTS, cwd=MONITORING)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    fires, silent = set(), set()
    for name in TESTS:
        for case in yaml.safe_load((MONITORING / name).read_text())["tests"]:
            series = {entry["series"] for entry in case["input_series"]}
            for check in case["alert_rule_test"]:
                if not check["exp_alerts"]:
                    silent.add(check["alertname"])
                    continue
                fires.add(check["alertname"])
                # A second instance in the same case that is not expected is a case of silence too.
                told = {alert["exp_labels"].get("instance") for alert in check["exp_alerts"]}
                there = {
                    found[1] for text in series if (found := re.search(r'instance="([^"]+)"', text))
                }
                if there - told:
                    silent.add(check["alertname"])
    names = {rule["alert"] for rule in rules()}
    assert names == fires == silent


def test_a_rule_that_never_fires_would_be_seen(tmp_path):
    """Break every rule: a test of each must fail."""
    document = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = f"({rule['expr']}) unless on () vector(1)"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document))
    for name in (RULES[0], *TESTS):
        (tmp_path / name).write_text((MONITORING / name).read_text())
    done = run("promtool", "test", "rules", *TESTS, cwd=tmp_path)
    assert done.returncode != 0
    failed = re.findall(r"alertname: (\w+), time:", done.stdout + done.stderr)
    assert set(failed) == {rule["alert"] for rule in rules()}


def test_every_alert_says_what_and_what_to_do_and_is_in_the_table():
    table = (MONITORING / "README.md").read_text()
    told = dict(re.findall(r"^\| `(Dlild\w+)` \| (\w+) \|", table, re.MULTILINE))
    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "action"}


def test_every_way_a_scan_can_end_is_a_failure_or_is_not_and_is_explained():
    (failing,) = (rule["expr"] for rule in rules() if rule["alert"] == "DlildScansFailing")
    failures, left_out = re.findall(r'outcome[=!]~"([^"]+)"', failing)
    sorted_out = [*failures.split("|"), *left_out.split("|"), "done"]
    assert sorted(sorted_out) == sorted(OUTCOMES)
    (row,) = re.findall(
        r"^\| `outcome` \|.*$", (MONITORING / "README.md").read_text(), re.MULTILINE
    )
    assert set(re.findall(r"`(\w+)`", row)) - {"outcome"} == set(OUTCOMES)


def test_every_target_that_an_alert_asks_for_is_set_and_watched():
    groups = yaml.safe_load((MONITORING / "targets.yml").read_text())["groups"]
    made = {rule["record"] for group in groups for rule in group["rules"]}
    expressions = {rule["alert"]: rule["expr"] for rule in rules()}
    guard = set(re.findall(r"dlild:\w+", expressions.pop("DlildTargetsMissing")))
    assert made == guard == set(re.findall(r"dlild:\w+", " ".join(expressions.values())))


def test_prometheus_loads_its_configuration(tmp_path):
    text = (MONITORING / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/", f"{MONITORING}/"))
    told = passes("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert f"{len(rules())} rules found" in told


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.proxy.yml"])
def test_prometheus_loads_the_target_of_the_node_where_it_lies_there(name, tmp_path):
    text = (MONITORING / name).read_text()
    mounts = yaml.safe_load((DEPLOY / "compose/compose.node.yaml").read_text())
    (mount,) = mounts["services"]["prometheus"]["volumes"]
    folder = mount["target"].rpartition("/")[0]
    assert f'"{folder}/*.yml"' in text
    target = tmp_path / "node.yml"
    target.write_text((MONITORING / "node-targets.yml").read_text())
    text = text.replace(f"{folder}/", f"{tmp_path}/").replace("/etc/prometheus/", f"{MONITORING}/")
    config = tmp_path / "config"
    config.write_text(text)
    passes("promtool", "check", "config", config)
    target.write_text(target.read_text().replace("targets", "target"))
    assert run("promtool", "check", "config", config).returncode != 0


def test_alertmanager_loads_its_configuration():
    passes("amtool", "check-config", MONITORING / "alertmanager.yml")


def test_the_exporter_loads_its_configuration():
    passes(
        "prometheus-blackbox-exporter",
        *("--config.check", f"--config.file={MONITORING / 'blackbox.yml'}"),
    )


def test_critical_alerts_go_to_whoever_is_on_call():
    for severity, receiver in (("critical", "it-on-call"), ("warning", "it-day")):
        told = passes(
            *("amtool", "config", "routes", "test", f"severity={severity}", "alertname=DlildX"),
            f"--config.file={MONITORING / 'alertmanager.yml'}",
        )
        assert told.strip() == receiver


def test_the_names_of_jobs_and_services_agree():
    config, with_proxy = (
        yaml.safe_load((MONITORING / name).read_text())
        for name in ("prometheus.yml", "prometheus.proxy.yml")
    )
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert {job["job_name"] for job in with_proxy["scrape_configs"]} == {*jobs, "dlild-proxy"}
    assert {**with_proxy, "scrape_configs": 0} == {**config, "scrape_configs": 0}
    asked = set(re.findall(r'job="([^"]+)"', " ".join(rule["expr"] for rule in rules())))
    assert asked == jobs
    services = {
        service
        for name in ("compose.yaml", "compose.node.yaml")
        for service in yaml.safe_load((DEPLOY / "compose" / name).read_text())["services"]
    }
    text = "".join((MONITORING / n).read_text() for n in ("prometheus.yml", "node-targets.yml"))
    targets = re.findall(r'"(\w+):\d+"|replacement: (\w+):\d+', text)
    assert {name for pair in targets for name in pair if name} == {"server", "blackbox", "node",
                                                                   "alertmanager"}  # fmt: skip
    assert {name for pair in targets for name in pair if name} <= services


def test_the_node_has_every_metric_and_label_that_its_alerts_ask_for():
    """Of a node that nothing has happened to yet: Prometheus sees no rise from nothing to one."""
    state = dict.fromkeys(
        ("oldest_seconds", "spool_bytes", "free_bytes", "associations", "ready"), 0.0
    )
    text = Metrics(lambda: {**state, "studies": dict.fromkeys(STATES, 0)}).text().decode()
    asked = [rule["expr"] for rule in rules() if "dlild_node_" in rule["expr"]]
    assert len(asked) == 9
    for metric, label in re.findall(r"\b(dlild_node_\w+)(?:\{([^}]*)\})?", " ".join(asked)):
        lines = re.findall(rf"^{metric}(?:\{{.*\}})? 0\.0$", text, re.MULTILINE)
        assert lines, metric
        for name, values in re.findall(r'(\w+)=~?"([^"]+)"', label):
            for value in values.split("|"):
                assert f'{metric}{{{name}="{value}"}} 0.0' in lines


# ---- the dashboard -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board():
    return json.loads((MONITORING / "grafana/dashboards/dlild.json").read_text())


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_dashboard_and_the_charts_copies_are_what_the_script_makes():
    command = [sys.executable, "-m", "dlild_deploy", "dashboard", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_panel_has_queries_a_unit_and_an_explanation(board):
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels(board):
        assert panel["targets"], panel["title"]
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_panels_do_not_overlap(board):
    taken = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["id"]) == panel["id"], panel["title"]


def test_prometheus_understands_every_query(board, tmp_path):
    adapter = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text())
    queries = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    queries += [
        rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod="a"')
        for rule in adapter["rules"]["custom"]
    ]
    queries = [q.replace("$__rate_interval", "5m").replace("$server", ".*") for q in queries]
    assert not any("$" in query for query in queries)
    document = {
        "groups": [
            {
                "name": "queries",
                "rules": [{"record": f"q{i}", "expr": query} for i, query in enumerate(queries)],
            }
        ]
    }
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump(document))
    assert f"{len(queries)} rules found" in passes("promtool", "check", "rules", path)


def test_grafana_finds_data_and_dashboard():
    source = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load(
        (MONITORING / "grafana/provisioning/dashboards/dlild.yml").read_text()
    )
    compose = (DEPLOY / "compose/compose.yaml").read_text()
    assert f"target: {provider['providers'][0]['options']['path']}," in compose
