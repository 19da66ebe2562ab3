"""The Helm chart over a matrix of values: valid for two Kubernetes versions, closed, drained."""

import inspect
import itertools
import json
import re

import pytest
import yaml
from deploy.checkers import DEPLOY, passes, run

from dlild_client.cli.listen import listen

CHART = DEPLOY / "helm" / "dlild"
# The oldest that is still cared for and the newest that the schemas know.
KUBERNETES = ("1.32.0", "1.37.0")
CUSTOM = {"Certificate", "ServiceMonitor", "PodMonitor", "PrometheusRule", "Probe"}

MODELS = {
    "pvc": {},
    "image": {"modelRepository": {"kind": "image"}},
    "store": {
        "modelRepository": {
            "kind": "objectStore",
            "objectStore": {"url": "s3://models/dlild", "credentialsSecret": "store"},
        }
    },
}
TLS = {
    "tls": {},
    "mutual": {"tls": {"mode": "mutual"}, "test": {"clientSecretName": "client"}},
    "off": {"tls": {"mode": "off"}, "apiKey": {"enabled": False}},
    "certManager": {
        "tls": {
            "source": "certManager",
            "certManager": {"issuerRef": {"name": "hospital"}, "dnsNames": ["dlild.example.org"]},
        }
    },
}
ENGINES = {
    "gpu": {},
    "cpu": {"profile": "onnxruntime", "gpu": {"enabled": False}, "tolerations": []},
    "scaled": {
        "autoscaling": {"enabled": True, "metric": "gpuDuty", "target": "700m"},
        "gpu": {"runtimeClassName": "nvidia"},
        "updateStrategy": {"maxSurge": 0, "maxUnavailable": "50%"},
        "priorityClassName": "high",
        "nodeSelector": {"gpu": "yes"},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "imagePullSecrets": [{"name": "registry"}],
        "extraArgs": ["--log-verbose=1"],
        "extraEnv": [{"name": "A", "value": "1"}],
        "affinity": {"nodeAffinity": {}},
        "image": {"digest": "sha256:" + "0" * 64},
        "service": {"type": "LoadBalancer", "annotations": {"e": "f"}},
        "networkPolicy": {
            "clients": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}],
        },
    },
}
WATCHED = {
    "monitoring": {
        name: {"enabled": True}
        for name in ("serviceMonitor", "rules", "certificateProbe", "dashboard")
    }
}
BARE = {
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "serviceAccount": {"create": False},
    "test": {"enabled": False},
}
NODE = {
    "node": {
        "enabled": True,
        "peers": ["CT1", "PACS@10.0.0.4:104"],
        "destination": "PACS@10.0.0.4:104",
        "clientSecretName": "client",
        "extraArgs": ["--request-commitment"],
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        "senders": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "spool": {"storageClassName": "fast"},
    }
}
CASES = {
    "-".join(names): MODELS[names[0]] | TLS[names[1]] | ENGINES[names[2]]
    for names in itertools.product(MODELS, TLS, ENGINES)
} | {
    "watched": WATCHED,
    "bare": BARE,
    "node": NODE,
    "node-mutual": NODE | TLS["mutual"],
    "node-off": NODE | TLS["off"],
}


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    folder = tmp_path_factory.mktemp("helm")
    kept = {}

    def template(values, version=KUBERNETES[-1]):
        key = json.dumps([values, version], sort_keys=True)
        if key not in kept:
            path = folder / "values.yaml"
            path.write_text(yaml.safe_dump(values))
            kept[key] = passes(
                *("helm", "template", "trial", CHART, "--namespace", "lungs"),
                *("--values", path, "--kube-version", version),
            )
        return [document for document in yaml.safe_load_all(kept[key]) if document]

    return template


def by_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def server(documents):
    """The pod of the server."""
    (deployment,) = by_kind(documents, "Deployment")
    return deployment["spec"]["template"]


def variables(documents):
    (container,) = server(documents)["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


# ---- valid ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["pvc-tls-gpu", "store-mutual-scaled", "watched", "bare"])
def test_helm_lint_is_content(case, tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(CASES[case]))
    passes("helm", "lint", "--strict", CHART, "--values", path)


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_what_kubernetes_takes(render, version, tmp_path):
    # Most cases share most of their objects: each is looked at once.
    objects = {
        yaml.safe_dump(document)
        for values in CASES.values()
        for document in render(values, version)
        if document["kind"] not in CUSTOM
    }
    path = tmp_path / "objects.yaml"
    path.write_text("---\n".join(sorted(objects)))
    told = passes("kubernetes-validate", "--strict", "-k", version, path)
    assert told.count(" passed for resource ") == len(objects) > len(CASES)


def test_a_wrong_object_would_be_seen(render, tmp_path):
    documents = render({})
    server(documents)["spec"]["containers"][0]["portz"] = []
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    assert run("kubernetes-validate", "--strict", "-k", KUBERNETES[0], path).returncode != 0


def test_custom_objects_are_those_of_operators_that_are_known(render):
    kinds = {
        (document["apiVersion"], document["kind"])
        for values in (WATCHED | NODE, TLS["certManager"])
        for document in render(values)
        if document["kind"] in CUSTOM
    }
    assert kinds == {
        ("cert-manager.io/v1", "Certificate"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
        ("monitoring.coreos.com/v1", "PodMonitor"),
        ("monitoring.coreos.com/v1", "PrometheusRule"),
        ("monitoring.coreos.com/v1", "Probe"),
    }


# ---- secure --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_no_pod_runs_as_root_or_can_gain_rights(render, case):
    documents = render(CASES[case])
    pods = [server(documents), *by_kind(documents, "Pod")]
    for pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            for mount in container["volumeMounts"]:
                if mount["mountPath"] not in {"/tmp", "/dev/shm"}:
                    assert mount["readOnly"] is True


def test_clients_reach_grpc_alone(render):
    documents = render({})
    services = {d["metadata"]["name"]: d["spec"] for d in by_kind(documents, "Service")}
    assert [port["name"] for port in services["trial-dlild"]["ports"]] == ["grpc"]
    (policy,) = by_kind(documents, "NetworkPolicy")
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["ingress"]]
    assert ports == [["grpc"], ["metrics"]]
    assert policy["spec"]["ingress"][1]["from"]
    assert policy["spec"]["egress"] == []
    (closed,) = by_kind(render(CASES["pvc-tls-scaled"]), "NetworkPolicy")
    peers = closed["spec"]["ingress"][0]["from"]
    assert {"ipBlock": {"cidr": "192.0.2.0/24"}} in peers
    assert not any(peer == {} for peer in peers)


@pytest.mark.parametrize("case", CASES)
def test_no_secret_is_in_an_object(render, case):
    documents = render(CASES[case])
    assert by_kind(documents, "Secret") == []
    for name, value in variables(documents).items():
        assert "KEY_FILE" in name or value in {"on", "off"} or "KEY" not in name


@pytest.mark.parametrize("case", ["node", "node-mutual", "node-off"])
def test_the_node_is_one_hardened_pod_with_a_volume_of_its_own(render, case):
    documents = render(CASES[case])
    (node,) = by_kind(documents, "StatefulSet")
    assert node["spec"]["replicas"] == 1
    spec = node["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["terminationGracePeriodSeconds"] > 60  # --drain-s
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/spool", "/tmp"}
    assert "--peer=PACS@10.0.0.4:104" in container["args"]
    # Every option is one of the command.
    for word in container["args"]:
        assert f'"{word.partition("=")[0]}"' in options_of_listen(), word
    # The servers' selector does not find it.
    (service,) = [
        s for s in by_kind(documents, "Service") if s["metadata"]["name"] == "trial-dlild"
    ]
    labels = node["spec"]["template"]["metadata"]["labels"].items()
    assert not service["spec"]["selector"].items() <= labels


def test_the_node_is_watched_by_the_job_that_its_alerts_ask_for(render):
    assert by_kind(render(WATCHED), "PodMonitor") == []
    documents = render(WATCHED | NODE)
    (monitor,) = by_kind(documents, "PodMonitor")
    (node,) = by_kind(documents, "StatefulSet")
    labels = node["spec"]["template"]["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (container,) = node["spec"]["template"]["spec"]["containers"]
    assert {"name": endpoint["port"], "containerPort": 11113} in container["ports"]
    assert {"targetLabel": "job", "replacement": "dlild-node"} in endpoint["relabelings"]


def options_of_listen():
    """Options of `dlild listen`, in quotes."""
    names = inspect.signature(listen).parameters
    return {f'"--{name.replace("_", "-")}"' for name in names}


def test_a_node_without_a_destination_is_refused():
    done = run("helm", "template", "trial", CHART, "--set", "node.enabled=true")
    assert done.returncode != 0
    assert "node.destination" in done.stderr


# ---- alive, and drained --------------------------------------------------------------------------


def test_probes_ask_for_health(render):
    (container,) = server(render({}))["spec"]["containers"]
    paths = {
        name: (
            container[f"{name}Probe"]["httpGet"]["path"],
            container[f"{name}Probe"]["httpGet"]["port"],
        )
        for name in ("readiness", "liveness")
    }
    assert paths == {
        "readiness": ("/v2/health/ready", "health"),
        "liveness": ("/v2/health/live", "health"),
    }
    startup = container["startupProbe"]
    # It also has the server score a dummy box, which takes longer than a question.
    assert startup["exec"]["command"] == ["python3", "/opt/dlild/probe.py", "ready"]
    assert startup["timeoutSeconds"] >= 120
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


@pytest.mark.parametrize(("scan", "exit_s"), [(120, 30), (600, 60)])
def test_a_pod_is_given_the_time_that_its_scans_take(render, scan, exit_s):
    documents = render(
        {"drain": {"endpointSeconds": 7, "scanSeconds": scan, "exitSeconds": exit_s}}
    )
    spec = server(documents)["spec"]
    (container,) = spec["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:2] == ["sh", "-c"]
    assert command[2] == f"sleep 7; exec python3 /opt/dlild/probe.py drain --seconds {scan}"
    assert variables(documents)["DLILD_EXIT_TIMEOUT_S"] == str(exit_s)
    assert spec["terminationGracePeriodSeconds"] >= 7 + scan + exit_s + 10


def test_shared_memory_is_large_enough_and_within_the_limit(render):
    spec = server(render({}))["spec"]
    (shm,) = (volume for volume in spec["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]


def test_the_entrypoint_knows_every_setting(render):
    entrypoint = (DEPLOY / "docker/entrypoint.sh").read_text()
    for values in (MODELS["store"], TLS["mutual"], ENGINES["cpu"]):
        for name in variables(render(values)):
            assert f"${{{name}:-" in entrypoint
    assert variables(render(MODELS["store"]))["DLILD_MODEL_REPOSITORY"] == "s3://models/dlild"
    assert variables(render(TLS["mutual"]))["DLILD_TLS"] == "mutual"


def test_selectors_find_the_servers_and_not_the_test(render):
    documents = render(WATCHED)
    servers = server(documents)["metadata"]["labels"].items()
    (tester,) = by_kind(documents, "Pod")
    selectors = [
        *(service["spec"]["selector"] for service in by_kind(documents, "Service")),
        by_kind(documents, "Deployment")[0]["spec"]["selector"]["matchLabels"],
        by_kind(documents, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"],
        by_kind(documents, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= servers
        assert not selector.items() <= tester["metadata"]["labels"].items()
    (monitor,) = by_kind(documents, "ServiceMonitor")
    found = [
        service["metadata"]["name"]
        for service in by_kind(documents, "Service")
        if monitor["spec"]["selector"]["matchLabels"].items()
        <= service["metadata"]["labels"].items()
    ]
    assert found == ["trial-dlild-pods"]


def test_a_gpu_is_asked_for_where_there_is_one(render):
    def limits(case):
        return server(render(CASES[case]))["spec"]["containers"][0]["resources"]["limits"]

    assert limits("pvc-tls-gpu")["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in limits("pvc-tls-cpu")


def test_the_autoscaler_asks_for_metrics_that_the_adapter_makes(render):
    adapter = yaml.safe_load((DEPLOY / "monitoring/prometheus-adapter.yaml").read_text())
    made = {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
    asked = set()
    for metric in ("queueTime", "gpuDuty"):
        documents = render({"autoscaling": {"enabled": True, "metric": metric}})
        (scaler,) = by_kind(documents, "HorizontalPodAutoscaler")
        asked |= {entry["pods"]["metric"]["name"] for entry in scaler["spec"]["metrics"]}
        (deployment,) = by_kind(documents, "Deployment")
        assert "replicas" not in deployment["spec"]
    assert asked == made


def test_the_certificate_names_what_the_test_and_the_notes_connect_to(render):
    documents = render(TLS["certManager"])
    (certificate,) = by_kind(documents, "Certificate")
    (tester,) = by_kind(documents, "Pod")
    host = tester["spec"]["containers"][0]["command"][3].partition(":")[0]
    assert host == "trial-dlild.lungs.svc"
    assert host in certificate["spec"]["dnsNames"]
    assert "dlild.example.org" in certificate["spec"]["dnsNames"]


def test_the_rules_and_the_dashboard_of_the_chart_are_ours(render):
    documents = render(WATCHED)
    (rules,) = by_kind(documents, "PrometheusRule")
    ours = yaml.safe_load((DEPLOY / "monitoring/alerts.yml").read_text())["groups"]
    targets = yaml.safe_load((DEPLOY / "monitoring/targets.yml").read_text())["groups"][0]
    assert rules["spec"]["groups"][:-1] == ours
    made = {rule["record"]: rule["expr"] for rule in rules["spec"]["groups"][-1]["rules"]}
    assert made == {rule["record"]: rule["expr"] for rule in targets["rules"]}
    (board,) = by_kind(documents, "ConfigMap")
    kept = json.loads((DEPLOY / "monitoring/grafana/dashboards/dlild.json").read_text())
    assert json.loads(board["data"]["dlild.json"]) == kept


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("profile=openvino", "/profile"),
        ("profile=tensorrt,gpu.enabled=false", "/gpu/enabled"),
        ("shm.size=64Mi", "/shm/size"),
        ("modelRepository.kind=objectStore", "/modelRepository/objectStore/url"),
        ("modelRepository.kind=nfs", "/modelRepository/kind"),
        ("tls.mode=true", "/tls/mode"),
        ("tls.source=certManager", "/tls/certManager/issuerRef/name"),
        ("tls.secretName=", "/tls/secretName"),
        ("updateStrategy.maxSurge=0", "/updateStrategy"),
        ("resources.limits.memory=null", "/resources/limits"),
        ("drain.scanSeconds=0", "/drain/scanSeconds"),
        ("autoscaling.metric=cpu", "/autoscaling/metric"),
        ("image.digest=latest", "/image/digest"),
        ("replicas=3", "additional properties 'replicas'"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong, says):
    done = run("helm", "template", "trial", CHART, "--set", wrong)
    assert done.returncode != 0
    assert says in done.stderr


def leaves(values, path=""):
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        yield here, value
        if isinstance(value, dict):
            yield from leaves(value, here)


def test_the_readme_has_every_value_with_its_default():
    values = dict(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    rows = re.findall(
        r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$", (CHART / "README.md").read_text(), re.M
    )
    told = {path: json.loads(default) for path, default, _ in rows}
    assert {path: values[path] for path in told} == told
    untold = [
        p
        for p in values
        if not any(p == t or p.startswith(t + ".") or t.startswith(p + ".") for t in told)
    ]
    assert untold == []


def test_the_schema_knows_every_value_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part, node, path):
        known = node.get("properties")
        if known is None or not isinstance(part, dict):
            return
        assert set(part) == set(known) - {"global"}, path
        assert node["additionalProperties"] is False, path
        for name in part:
            compare(part[name], known[name], f"{path}.{name}")

    compare(values, schema, "values")
