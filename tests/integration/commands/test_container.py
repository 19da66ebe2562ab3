"""The container's entrypoint and probes round the real server: mutual TLS, a key, one open port."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from deploy.certificates import make_authority, make_certificate
from deploy.checkers import DEPLOY, checker
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client.transport.wire import WindowRequest
from dlild_deploy.server.preflight import (
    check_port,
    default_server_python,
    find_environment,
    server_variables,
)

pytestmark = pytest.mark.server

ENTRYPOINT = DEPLOY / "docker" / "entrypoint.sh"
PROBE = DEPLOY / "src" / "dlild_deploy" / "container_probe.py"
KEY = "a-key-of-thirty-two-characters-x"
WITH_KEY = (("triton-grpc-protocol-x-ild-key", KEY),)


@pytest.fixture(scope="module")
def container(
    server_platform: None, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """The entrypoint with the embedded server in place of the container's."""
    folder = tmp_path_factory.mktemp("container")
    environment = find_environment(default_server_python())
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for path in (*(p for p in environment.backend.iterdir() if p.is_file()), environment.stub):
        (backend / path.name).symlink_to(path)
    (folder / "bin").mkdir()
    (folder / "bin" / "tritonserver").symlink_to(environment.tritonserver)
    make_authority(folder)
    for name in ("tls", "client"):
        make_certificate(folder, name)
    (folder / "api-key").write_text(KEY + "\n")
    ports = {name: check_port(name, 0) for name in ("grpc", "http", "metrics")}
    variables = server_variables(environment)
    variables |= {
        "PATH": f"{folder / 'bin'}{os.pathsep}{variables['PATH']}",
        "DLILD_PROFILE": "embedded",
        "DLILD_MODEL_REPOSITORY": str(tiny_repository),
        "DLILD_TLS": "mutual",
        "DLILD_TLS_FOLDER": str(folder),
        "DLILD_KEY_FILE": str(folder / "api-key"),
        "DLILD_GRPC_ADDRESS": "127.0.0.1",
        "DLILD_METRICS_ADDRESS": "127.0.0.1",
        "DLILD_STATE_FOLDER": str(folder),
        **{f"DLILD_{name.upper()}_PORT": str(port) for name, port in ports.items()},
    }
    log = folder / "log"
    with log.open("wb") as target:
        process = subprocess.Popen(
            [
                str(ENTRYPOINT),
                f"--backend-directory={backend.parent}",
                f"--backend-config=python,shm-region-prefix-name=dlild_container_{os.getpid()}_",
                "--allow-gpu-metrics=false",
            ],
            stdout=target,
            stderr=subprocess.STDOUT,
            env=variables,
        )
    server = SimpleNamespace(folder=folder, log=log, process=process, variables=variables, **ports)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for region in Path("/dev/shm").glob(f"dlild_container_{os.getpid()}_*"):
            region.unlink()


def _wait_until_ready(server: SimpleNamespace) -> None:
    deadline = time.monotonic() + 90
    while probe(server, "ready").returncode:
        assert server.process.poll() is None, server.log.read_text()[-2000:]
        assert time.monotonic() < deadline, server.log.read_text()[-2000:]
        time.sleep(0.3)


def probe(server: SimpleNamespace, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROBE), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=server.variables,
    )


@pytest.fixture
def stub(container: SimpleNamespace) -> Iterator[Any]:
    read = {name: (container.folder / name).read_bytes() for name in
            ("ca.crt", "client.key", "client.crt")}  # fmt: skip
    credentials = grpc.ssl_channel_credentials(
        read["ca.crt"], read["client.key"], read["client.crt"]
    )
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.secure_channel(f"localhost:{container.grpc}", credentials, limits) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def remote(container: SimpleNamespace, *more: object) -> subprocess.CompletedProcess[str]:
    address = f"localhost:{container.grpc}"
    return probe(container, "remote", address, "--ca", container.folder / "ca.crt", *more)


def test_a_client_with_a_certificate_is_answered_that_the_server_is_ready(
    container: SimpleNamespace,
) -> None:
    own = ("--cert", container.folder / "client.crt", "--key", container.folder / "client.key")
    done = remote(container, *own)
    assert done.returncode == 0, done.stderr


def test_a_server_has_scored_one_dummy_box_before_it_is_ready(container: SimpleNamespace) -> None:
    assert probe(container, "ready").returncode == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{container.metrics}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    assert 'dlild_scans_total{outcome="done"} 1' in lines


def test_a_client_without_certificate_gets_no_answer(container: SimpleNamespace) -> None:
    done = remote(container)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: localhost:{container.grpc}: curl: ")


def test_an_authority_that_did_not_sign_is_not_believed(
    container: SimpleNamespace, tmp_path: Path
) -> None:
    make_authority(tmp_path)
    address = f"localhost:{container.grpc}"
    done = probe(container, "remote", address, "--ca", tmp_path / "ca.crt")
    assert done.returncode == 1
    assert "certificate" in done.stderr


def test_without_the_key_nothing_is_answered_but_health(stub: Any) -> None:
    assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=10).ready
    for call, request in (
        (stub.ServerMetadata, service_pb2.ServerMetadataRequest()),
        (stub.ModelConfig, service_pb2.ModelConfigRequest(name="dlild")),
        (stub.ModelInfer, service_pb2.ModelInferRequest(model_name="dlild")),
        (stub.ModelStatistics, service_pb2.ModelStatisticsRequest()),
    ):
        for key in ((), (("triton-grpc-protocol-x-ild-key", "a-wrong-key"),)):
            with pytest.raises(grpc.RpcError, match="restricted"):
                call(request, timeout=10, metadata=key)
    answer = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=10, metadata=WITH_KEY)
    assert answer.name == "triton"


def test_repository_and_shared_memory_are_closed_to_clients_with_the_key(stub: Any) -> None:
    for call, request in (
        (stub.RepositoryIndex, service_pb2.RepositoryIndexRequest()),
        (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="dlild")),
        (stub.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()),
        (stub.TraceSetting, service_pb2.TraceSettingRequest()),
        (stub.LogSettings, service_pb2.LogSettingsRequest()),
    ):
        with pytest.raises(grpc.RpcError, match="restricted"):
            call(request, timeout=10, metadata=WITH_KEY)


def test_http_answers_health_and_nothing_else(container: SimpleNamespace) -> None:
    base = f"http://127.0.0.1:{container.http}/v2"
    with urllib.request.urlopen(f"{base}/health/live", timeout=10) as answer:
        assert answer.status == 200
    for path, data in (
        ("", None),
        ("/models/dlild/config", None),
        ("/models/dlild_volume/infer", b"{}"),
        ("/repository/index", b""),
        ("/systemsharedmemory/status", None),
        ("/logging", None),
        ("/models/stats", None),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(base + path, data=data, timeout=10)
        assert refused.value.code == 403, path


def test_a_stop_waits_for_the_scan_that_is_open(
    container: SimpleNamespace, stub: Any, requests: list[WindowRequest]
) -> None:
    assert probe(container, "drain", "--seconds", 10, "--pause", 0.1).returncode == 0
    first, last = requests[0].message(), requests[0].message()
    first.parameters["sequence_start"].bool_param = True
    last.parameters["sequence_start"].bool_param = False
    last.parameters["sequence_end"].bool_param = True

    (begun,) = stub.ModelStreamInfer(iter([first]), timeout=60, metadata=WITH_KEY)
    assert not begun.error_message
    waited = probe(container, "drain", "--seconds", 1, "--pause", 0.1)
    list(stub.ModelStreamInfer(iter([last]), timeout=60, metadata=WITH_KEY))
    after = probe(container, "drain", "--seconds", 10, "--pause", 0.1)

    assert (waited.returncode, waited.stderr) == (1, "error: 1 scans are still open after 1 s\n")
    assert after.returncode == 0, after.stderr


def test_the_exporter_of_the_alerts_sees_when_the_certificate_ends(
    container: SimpleNamespace,
) -> None:
    """The very certificate that is served: a file's date would hide one that was not reloaded."""
    port = check_port("exporter", 0)
    with subprocess.Popen(
        [
            checker("prometheus-blackbox-exporter"),
            f"--config.file={DEPLOY / 'monitoring' / 'blackbox.yml'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as exporter:
        try:
            found = _ask(
                f"http://127.0.0.1:{port}/probe?module=tls&target=localhost:{container.grpc}"
            )
        finally:
            exporter.terminate()
    assert found["probe_success"] == 1
    left_s = found["probe_ssl_earliest_cert_expiry"] - time.time()
    assert 0.9 * 86400 < left_s <= 86400


def _ask(url: str) -> dict[str, float]:
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            assert time.monotonic() < deadline, url
            time.sleep(0.2)
            continue
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def test_the_key_is_nowhere_in_the_log(container: SimpleNamespace) -> None:
    log = container.log.read_text()
    assert "dlild: profile embedded" in log
    assert KEY not in log


def test_a_stop_ends_the_server_in_order(container: SimpleNamespace) -> None:
    """Last of this module: the server is gone after it."""
    container.process.terminate()
    assert container.process.wait(20) == 0
    assert probe(container, "ready").returncode == 1
