"""The Compose files: valid, closed by default, and every setting explained."""

import copy
import inspect
import json
import re
import shutil
import subprocess

import pytest
import yaml
from deploy.checkers import DEPLOY, passes, run

from dlild_client.cli.listen import listen
from dlild_client.settings import VARIABLES

COMPOSE = DEPLOY / "compose"
BASE, CPU, PROXY, NODE = (
    COMPOSE / f"compose{name}.yaml" for name in ("", ".cpu", ".proxy", ".node")
)
VARIABLE = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")


class Loader(yaml.SafeLoader):
    """YAML with the tags by which an override takes something away, or puts all of it anew."""


class Reset:
    """What stands in the place of ``!reset``."""


class Override(list):
    """A list behind ``!override``: it takes the place of the other, which else it would join."""


Loader.add_constructor("!reset", lambda loader, node: Reset)
Loader.add_constructor("!override", lambda loader, node: Override(loader.construct_sequence(node)))


def load(path):
    return yaml.load(path.read_text(), Loader)


def merged(base, override):
    """Merge as Compose does for what our overrides use.

    Mappings, lists that are new, the tags, and volumes, which are joined by their targets.
    """
    base = copy.deepcopy(base)
    for name, value in override.items():
        if value is Reset:
            base.pop(name, None)
        elif isinstance(value, dict) and isinstance(base.get(name), dict):
            base[name] = merged(base[name], value)
        elif name == "volumes" and isinstance(base.get(name), list) and type(value) is list:
            targets = {mount["target"] for mount in value}
            base[name] = [m for m in base[name] if m["target"] not in targets] + value
        elif isinstance(value, list) and isinstance(base.get(name), list):
            assert isinstance(value, Override), f"{name} would be joined to what is there"
            base[name] = list(value)
        else:
            base[name] = value
    return base


@pytest.fixture(scope="module")
def compose():
    return load(BASE)


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def with_proxy(compose):
    return merged(compose, load(PROXY))


def schema_check(documents, folder):
    paths = [folder / f"compose-{number}.json" for number in range(len(documents))]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document))
    return run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *paths)


def test_the_files_keep_the_schema_of_compose(compose, tmp_path):
    documents = [
        compose,
        merged(compose, load(CPU)),
        merged(compose, load(PROXY)),
        merged(compose, load(NODE)),
        merged(merged(compose, load(PROXY)), load(NODE)),
    ]
    done = schema_check(documents, tmp_path)
    assert done.returncode == 0, done.stdout
    compose = copy.deepcopy(compose)
    compose["services"]["server"]["shmsize"] = "2gb"
    assert schema_check([compose], tmp_path).returncode == 1


@pytest.mark.parametrize(
    "files", [[BASE], [BASE, CPU], [BASE, PROXY], [BASE, NODE], [BASE, PROXY, NODE]]
)
def test_docker_reads_the_files(files, tmp_path):
    docker = shutil.which("docker")
    asked = [docker or "false", "compose", "version"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no docker with compose here: the schema alone was checked")
    options = [option for path in files for option in ("-f", str(path))]
    command = [docker, "compose", *options, "--profile", "monitoring", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_yamllint_is_content():
    passes("yamllint", "--strict", "deploy", cwd=DEPLOY.parent)


def test_every_service_is_hardened_and_bounded(services, with_proxy):
    node = load(NODE)["services"]["node"]
    more = (("proxy", with_proxy["services"]["proxy"]), ("node", node))
    for name, service in (*services.items(), *more):
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["read_only"] is True, name
        assert service["restart"] == "unless-stopped", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name
        assert not service["user"].startswith(("0", "root")), name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service), name


def test_only_grpc_is_published_and_grafana_to_this_machine_alone(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "server": ["${DLILD_BIND:-0.0.0.0}:${DLILD_PORT:-8001}:8001"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
    }


def test_with_the_proxy_it_alone_is_published(with_proxy):
    services = with_proxy["services"]
    assert "ports" not in services["server"]
    assert services["proxy"]["ports"] == ["${DLILD_BIND:-0.0.0.0}:${DLILD_PORT:-8001}:8001"]
    # No network of the server has a way in or out; its certificate and key are not asked for.
    assert all(with_proxy["networks"][name]["internal"] for name in services["server"]["networks"])
    environment = services["server"]["environment"]
    assert (environment["DLILD_TLS"], environment["DLILD_KEY"]) == ("off", "off")
    assert "secrets" not in services["server"]
    # What the proxy reads of the environment is in its table.
    table = (DEPLOY / "proxy/README.md").read_text()
    assert all(f"`{name}`" in table for name in services["proxy"]["environment"])


def test_what_is_mounted_cannot_be_written_and_is_there(services, with_proxy):
    for name, service in (*services.items(), ("proxy", with_proxy["services"]["proxy"])):
        for mount in service.get("volumes", []):
            if mount["type"] == "volume":
                continue
            assert mount["read_only"] is True, (name, mount)
            source = VARIABLE.sub(lambda found: found[2], mount["source"])
            if not source.startswith("./"):  # those are the hospital's own
                assert (COMPOSE / source).exists(), (name, mount)


def test_the_monitoring_is_a_profile_in_a_network_without_a_way_out(compose, services):
    watching = {name for name, service in services.items() if service.get("profiles")}
    assert watching == {"prometheus", "blackbox", "alertmanager", "grafana"}
    assert compose["networks"]["monitoring"] == {"internal": True}
    for name in ("prometheus", "blackbox"):
        assert services[name]["networks"] == ["monitoring"]


def test_the_server_has_shared_memory_a_gpu_and_time_to_end(services):
    server = services["server"]
    assert re.fullmatch(r"\$\{DLILD_SHM:-[2-9]gb\}", server["shm_size"])
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    exit_s = int(server["environment"]["DLILD_EXIT_TIMEOUT_S"])
    assert int(server["stop_grace_period"].rstrip("s")) > exit_s
    assert server["pre_stop"][0]["command"][2] == "drain"


def test_the_cpu_override_takes_the_gpu_away_and_nothing_else(compose):
    changed = merged(compose, load(CPU))["services"]["server"]
    assert changed["deploy"]["resources"]["reservations"] == {}
    assert changed["environment"]["DLILD_PROFILE"] == "onnxruntime"
    before = compose["services"]["server"]
    changed["deploy"]["resources"]["reservations"] = before["deploy"]["resources"]["reservations"]
    changed["environment"]["DLILD_PROFILE"] = before["environment"]["DLILD_PROFILE"]
    assert changed == before


def test_secrets_are_files_and_the_entrypoint_knows_the_settings(compose, services):
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    entrypoint = (DEPLOY / "docker/entrypoint.sh").read_text()
    for name in services["server"]["environment"]:
        assert f"${{{name}:-" in entrypoint, name
    assert "/run/secrets/api-key" in entrypoint
    assert services["server"]["secrets"] == [{"source": "api-key", "target": "api-key"}]


def test_every_setting_has_a_line_with_its_default_and_a_word_above_it():
    used = dict(VARIABLE.findall(BASE.read_text() + PROXY.read_text() + NODE.read_text()))
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    explained, above = {}, False
    for line in lines:
        if not line:
            above = False
        elif line.startswith("#"):
            above = True
        else:
            name, _, value = line.partition("=")
            assert above, f"{name} is not explained"
            explained[name] = value
    assert explained == used


def test_versions_agree():
    used = dict(VARIABLE.findall(BASE.read_text()))
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    assert f"ARG TRITON_TAG={used['TRITON_TAG']}\n" in dockerfile
    assert f"ARG DLILD_VERSION={used['DLILD_VERSION']}\n" in dockerfile
    chart = yaml.safe_load((DEPLOY / "helm/dlild/Chart.yaml").read_text())
    assert chart["appVersion"] == used["DLILD_VERSION"]


@pytest.mark.parametrize("proxy", [False, True])
def test_with_the_node_prometheus_reads_its_job_besides(compose, with_proxy, proxy):
    before = with_proxy if proxy else compose
    after = merged(before, load(NODE))
    old, new = (d["services"]["prometheus"]["volumes"] for d in (before, after))
    assert new[:-1] == old
    assert new[-1]["target"] == "/etc/prometheus/node/node.yml"
    assert (COMPOSE / new[-1]["source"]).is_file()
    assert new[-1]["read_only"] is True
    assert {**after["services"]["prometheus"], "volumes": old} == before["services"]["prometheus"]
    assert "monitoring" in after["services"]["node"]["networks"]


def test_the_node_publishes_dicom_alone_and_writes_to_its_volume_alone(compose):
    node = merged(compose, load(NODE))["services"]["node"]
    assert node["ports"] == ["${DLILD_NODE_BIND:-0.0.0.0}:${DLILD_NODE_PORT:-11112}:11112"]
    assert [m["target"] for m in node["volumes"] if not m.get("read_only")] == ["/spool"]
    assert int(node["stop_grace_period"].rstrip("s")) > 60  # --drain-s
    names = inspect.signature(listen).parameters
    known = {f"--{name.replace('_', '-')}" for name in names}
    assert {word for word in node["command"] if word.startswith("--")} <= known
    assert set(node["environment"]) <= set(VARIABLES)
