"""The image's recipe, its entrypoint and its probes, as far as no container is needed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deploy.checkers import DEPLOY, ROOT, passes, run

DOCKER = DEPLOY / "docker"
ENTRYPOINT = DOCKER / "entrypoint.sh"
KEY = "a-key-of-thirty-two-characters-x"


def instructions(text):
    """The Dockerfile's instructions, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def dockerfile():
    return instructions((DOCKER / "Dockerfile").read_text())


def test_hadolint_is_content():
    passes("hadolint", "--failure-threshold", "info", DOCKER / "Dockerfile")


def test_hadolint_would_not_be_content_with_less(tmp_path):
    worse = tmp_path / "Dockerfile"
    worse.write_text("FROM nvcr.io/nvidia/tritonserver\nRUN cd /tmp && pip install numpy\n")
    assert run("hadolint", worse).returncode == 1


@pytest.mark.parametrize("script", ["docker/entrypoint.sh", "tools.sh"])
def test_shellcheck_is_content(script):
    passes("shellcheck", "--shell=sh", "--severity=style", DEPLOY / script)


def test_the_image_is_official_and_pinned_by_a_variable(dockerfile):
    tag = next(line for line in dockerfile if line.startswith("ARG TRITON_TAG="))
    assert re.fullmatch(r"ARG TRITON_TAG=\d\d\.\d\d-py3", tag)
    bases = [line.split()[1] for line in dockerfile if line.startswith("FROM")]
    assert bases == ["nvcr.io/nvidia/tritonserver:${TRITON_TAG}", "server"]
    assert f"`{tag.partition('=')[2]}`" in (DOCKER / "README.md").read_text()


def test_it_ends_as_another_user_than_root(dockerfile):
    users = [line.split()[1] for line in dockerfile if line.startswith("USER")]
    assert users[-1] == "1000:1000"


def test_python_packages_are_installed_by_hash(dockerfile):
    (install,) = (line for line in dockerfile if "pip install" in line)
    assert "--require-hashes" in install
    lock = (ROOT / "requirements/container.lock").read_text()
    server = (ROOT / "requirements/server.lock").read_text()
    numpy = re.search(r"^numpy==\S+", lock, re.MULTILINE)[0]
    assert numpy in server, "the container has another numpy than the tests run with"
    assert "--hash=sha256:" in lock


def test_no_secret_and_no_data_reach_the_builder():
    rules = (DOCKER / "Dockerfile.dockerignore").read_text().split("\n")
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    for path in allowed:
        assert (ROOT / path).exists(), path
    copied = [
        source
        for line in instructions((DOCKER / "Dockerfile").read_text())
        if line.startswith("COPY")
        for source in line.split()[2:-1]
    ]
    assert set(copied) <= set(allowed)


def test_health_is_asked_without_a_shell_or_curl(dockerfile):
    (check,) = (line for line in dockerfile if line.startswith("HEALTHCHECK"))
    command = json.loads(check.partition("CMD ")[2])
    assert command == ["python3", "/opt/dlild/probe.py", "ready"]


# ---- the entrypoint ------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, model_repository):
    """All that the entrypoint asks for, and a tritonserver that only tells its arguments."""
    tools = tmp_path / "bin"
    tools.mkdir()
    server = tools / "tritonserver"
    server.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    server.chmod(0o755)
    for name in ("dlild", "dlild_volume", "ild_unet"):
        (model_repository / name / "config.pbtxt").touch()
    tls = tmp_path / "tls"
    tls.mkdir()
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tls / name).touch()
    (tls / "api-key").write_text(KEY + "\n")
    return {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "DLILD_MODEL_REPOSITORY": str(model_repository),
        "DLILD_TLS_FOLDER": str(tls),
        "DLILD_KEY_FILE": str(tls / "api-key"),
        "DLILD_STATE_FOLDER": str(tls),
    }


def start(variables, *arguments):
    done = subprocess.run(
        [str(ENTRYPOINT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
        timeout=30,
    )
    assert KEY not in done.stderr
    return done


def test_by_default_all_is_on(machine):
    done = start(machine, "--log-verbose=1")
    asked = done.stdout.splitlines()
    tls = machine["DLILD_TLS_FOLDER"]
    assert done.returncode == 0, done.stderr
    assert {
        "--model-config-name=tensorrt",
        "--model-control-mode=none",
        "--exit-timeout-secs=30",
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={tls}/tls.crt",
        f"--grpc-server-key={tls}/tls.key",
        "--http-address=127.0.0.1",
        f"--grpc-restricted-protocol=inference,metadata,model-config,statistics:x-ild-key={KEY}",
        "--log-verbose=1",
    } <= set(asked)
    assert not any(word.startswith("--grpc-use-ssl-mutual") for word in asked)
    locks = [re.fullmatch(r"--\S+:x-dlild-lock=([0-9a-f-]{36})", word) for word in asked]
    assert len([lock for lock in locks if lock]) == 2


def test_threads_are_those_of_every_engine_on_the_cpu(machine):
    asked = start(machine | {"DLILD_THREADS": "2"}).stdout.splitlines()
    assert "--backend-config=onnxruntime,intra_op_thread_count=2" in asked
    assert "intra_op_thread_count" not in start(machine).stdout


def test_what_is_locked_is_locked_anew_at_each_start(machine):
    told = [
        {line.rpartition("=")[2] for line in start(machine).stdout.splitlines() if "-lock" in line}
        for _ in range(2)
    ]
    assert len(told[0] | told[1]) == 2


def test_the_word_of_the_lock_is_left_to_the_probe_alone(machine):
    warm = Path(machine["DLILD_STATE_FOLDER"]) / "dlild-warm"
    warm.touch()
    done = start(machine)
    lock = warm.with_name("dlild-lock")
    assert f":x-dlild-lock={lock.read_text()}\n" in done.stdout
    assert lock.read_text() not in done.stderr
    assert lock.stat().st_mode & 0o077 == 0
    assert not warm.exists()  # a start without a score is not warm


def test_mutual_tls_names_the_authority_of_the_clients(machine):
    asked = start(machine | {"DLILD_TLS": "mutual"}).stdout.splitlines()
    assert "--grpc-use-ssl-mutual=true" in asked
    assert f"--grpc-root-cert={machine['DLILD_TLS_FOLDER']}/ca.crt" in asked


def test_tls_and_key_can_be_left_to_a_proxy(machine):
    asked = start(machine | {"DLILD_TLS": "off", "DLILD_KEY": "off"}).stdout
    assert "ssl" not in asked
    assert "x-ild-key" not in asked
    assert "model-repository,shared-memory,trace,logging" in asked


def test_an_object_store_is_not_looked_into(machine):
    done = start(machine | {"DLILD_MODEL_REPOSITORY": "s3://bucket/models"})
    assert "--model-repository=s3://bucket/models" in done.stdout.splitlines()


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def write_key(text):
    return write("tls/api-key", text)


@pytest.mark.parametrize(
    ("change", "break_it", "says"),
    [
        ({"DLILD_PROFILE": "Tensor RT"}, None, "DLILD_PROFILE is 'Tensor RT'"),
        ({"DLILD_PROFILE": "other"}, None, "profile other of model dlild is not there"),
        ({"DLILD_TLS": "yes"}, None, "DLILD_TLS is 'yes', it must be one of: on mutual off"),
        ({"DLILD_KEY": KEY}, None, "DLILD_KEY must be on or off; the key itself belongs in the"),
        ({"DLILD_GRPC_PORT": "80a"}, None, "DLILD_GRPC_PORT is '80a', it must be a whole number"),
        ({"DLILD_EXIT_TIMEOUT_S": ""}, None, None),
        ({"DLILD_THREADS": "two"}, None, "DLILD_THREADS is 'two', it must be a whole number"),
        ({"DLILD_MODEL_REPOSITORY": "/nowhere"}, None, "the model repository is not there"),
        ({}, remove("models/ild_unet/1/model.plan"), "the TensorRT plan is not there"),
        (
            {},
            remove("models/ild_unet/1/model.plan.json"),
            "does not say what model.plan was built from",
        ),
        (
            {},
            write("models/ild_unet/1/model.plan", "another plan"),
            "and lies under version 1; its record",
        ),
        (
            {"DLILD_PROFILE": "onnxruntime"},
            write("models/ild_unet/1/model.onnx", "v0"),
            "was released with",
        ),
        ({}, remove("models/ild_unet/contract/weights.py"), "weights.py"),
        (
            {},
            remove("models/dlild_volume/configs/tensorrt.pbtxt"),
            "profile tensorrt of model dlild_vol",
        ),
        ({}, lambda folder: (folder / "models/old").mkdir(), "models/old is no model, and Triton"),
        ({}, remove("tls/tls.crt"), "the server's certificate is not there"),
        ({}, remove("tls/tls.key"), "the certificate's key is not there"),
        ({"DLILD_TLS": "mutual"}, remove("tls/ca.crt"), "the authority of client certificates is"),
        ({}, remove("tls/api-key"), "the file with the API key is not there"),
        ({}, write_key("short"), "has 5 characters, it must have at least 24"),
        ({}, write_key(""), "has 0 characters, it must have at least 24"),
        ({}, write_key(KEY + " b:c=d"), "has a character that is not a letter"),
        ({}, write_key(KEY + "\nsecond line"), "has a character that is not a letter"),
    ],
)
def test_what_is_wrong_is_one_line(machine, tmp_path, change, break_it, says):
    if break_it:
        break_it(tmp_path)
    done = start(machine | change)
    if says is None:  # an empty variable means its default
        assert done.returncode == 0
        return
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_a_plan_is_asked_of_the_tensorrt_profile_alone(machine, tmp_path):
    (tmp_path / "models/ild_unet/1/model.plan").unlink()
    assert start(machine | {"DLILD_PROFILE": "onnxruntime"}).returncode == 0


def test_every_setting_is_documented():
    read = set(re.findall(r"DLILD_[A-Z_]+", ENTRYPOINT.read_text()))
    told = set(re.findall(r"`(DLILD_[A-Z_]+)`", (DOCKER / "README.md").read_text()))
    assert read == told


# ---- the probes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["ready", "live", "drain"])
def test_a_server_that_is_not_there_is_a_no_in_one_line(question):
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy/src/dlild_deploy/container_probe.py"), question],
        capture_output=True,
        text=True,
        check=False,
        env={"DLILD_HTTP_PORT": "1", "DLILD_METRICS_PORT": "1"},
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: http://127\.0\.0\.1:1/\S+: .*refused.*\n", done.stderr)


def test_the_tools_are_fetched_into_a_folder_that_git_ignores():
    ignored = (ROOT / ".gitignore").read_text().split()
    assert ".tools/" in ignored
    assert Path(ROOT / "deploy/tools.sh").stat().st_mode & 0o100


def test_the_image_of_the_node_is_pinned_small_and_not_root():
    passes("hadolint", "--failure-threshold", "info", DOCKER / "Dockerfile.node")
    lines = instructions((DOCKER / "Dockerfile.node").read_text())
    assert [line.split()[1] for line in lines if line.startswith("FROM")] == [
        "python:${PYTHON_TAG}"
    ]
    assert [line.split()[1] for line in lines if line.startswith("USER")] == ["1000:1000"]
    installs = [line for line in lines if "pip install" in line]
    assert "--require-hashes" in installs[0]
    assert all("--no-deps" in line for line in installs)
    lock = (ROOT / "requirements/node.lock").read_text()
    development = (ROOT / "requirements/dev.lock").read_text()
    # The versions that the tests run with.
    for pinned in re.findall(r"^([\w.-]+==\S+)", lock, re.MULTILINE):
        assert pinned in development, pinned
    for name in ("pynetdicom", "dicomweb-client", "highdicom", "prometheus-client"):
        assert f"\n{name}==" in lock
    allowed = (DOCKER / "Dockerfile.node.dockerignore").read_text().split("\n")
    assert "*" in allowed
    assert {rule for rule in allowed if rule.startswith("!")} == {
        "!LICENSE",
        "!VERSION",
        "!client",
        "!requirements/node.lock",
    }
    # Of the folder of the client alone, its links to both would lead nowhere.
    assert lines.index("COPY VERSION LICENSE /opt/dlild/") < lines.index(
        "COPY client /opt/dlild/client"
    )
