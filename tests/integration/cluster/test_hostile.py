"""Hostile clients at the proxy: each is refused or bounded, and the next scan is scored as ever."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from bench.support.memory import server_memory
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from integration.cluster.cluster_case import (
    Papers,
    make_papers,
    running,
    small_tiny_repository,
    small_volumes,
)
from integration.cluster.raw_http2 import (
    HEADERS,
    RST_STREAM,
    STREAM_CALL,
    UNARY_CALL,
    RawConnection,
    message_prefix,
)
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client import TLS, Client
from dlild_client.errors import KeyRefusedError, TLSFailedError
from dlild_client.volume import Volume
from dlild_deploy.proxy.cluster import Cluster

pytestmark = pytest.mark.server

SILENT_S = 4
THREE_GB = 3_000_000_000
MIB = 2**20
STREAMS = 10_000
CONNECTIONS, CALLS = 64, 64
ADDRESSES = itertools.count(66)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def attacker() -> str:
    """Another address of loopback for every test: limits on one are not limits on all."""
    return f"127.0.0.{next(ADDRESSES)}"


@pytest.fixture(scope="module")
def cluster(
    papers: Papers, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hostile")
    tiny = small_tiny_repository(folder / "model_repository", repository)
    settings = {"DLILD_SILENT_S": str(SILENT_S)}
    with running(1, papers, tiny, folder / "logs", settings) as cluster:
        yield cluster


@dataclass(frozen=True)
class Scan:
    """A scan and its score, as the server gave it before anybody was hostile."""

    volume: Volume
    score: float


@pytest.fixture(scope="module")
def scan(cluster: Cluster) -> Scan:
    (volume,) = small_volumes(1)
    with Client(cluster.servers[0].grpc_url) as client:
        return Scan(volume, client.score(volume).dl_ild_percent)


@pytest.fixture(autouse=True)
def serves_right_after(cluster: Cluster, papers: Papers, scan: Scan) -> Iterator[None]:
    """Whatever a test has done: the next scan is scored, at the first attempt."""
    pid = cluster.servers[0].pid
    yield
    assert_serves(cluster, papers, scan)
    assert cluster.servers[0].pid == pid
    cluster.servers[0].check_alive()


def assert_serves(cluster: Cluster, papers: Papers, scan: Scan) -> None:
    with papers.client(cluster.proxy, attempts=1) as client:
        found = client.score(scan.volume).dl_ild_percent
    assert found == pytest.approx(scan.score, abs=0.01)


def memory_mib(cluster: Cluster) -> float:
    """Resident memory of the server with its models, and of the proxy."""
    pids = (cluster.servers[0].pid, cluster.proxy.pid)
    assert None not in pids
    return sum(held.rss for pid in pids if pid for held in server_memory(pid).values()) / MIB


def expired(papers: Papers, folder: Path) -> TLS:
    """Make a certificate of the proxy's own authority that ended yesterday."""
    ca = x509.load_pem_x509_certificate((papers.folder / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((papers.folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "late")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now - timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "late.crt").write_bytes(certificate.public_bytes(encoding))
    (folder / "late.key").write_bytes(
        key.private_bytes(encoding, private, serialization.NoEncryption())
    )
    return TLS(papers.folder / "ca.crt", folder / "late.crt", folder / "late.key")


def test_certificates_missing_expired_or_of_a_stranger(
    cluster: Cluster, papers: Papers, tmp_path: Path
) -> None:
    stranger = make_papers(tmp_path / "stranger")
    mine = stranger.tls
    for tls in (
        TLS(papers.folder / "ca.crt"),
        expired(papers, tmp_path),
        TLS(papers.folder / "ca.crt", mine.cert, mine.key),
    ):
        with (
            Client(cluster.proxy.url, tls=tls, api_key=papers.key) as client,
            pytest.raises(TLSFailedError, match="certificate of this client"),
        ):
            client.info()


def test_keys_missing_or_wrong(cluster: Cluster, papers: Papers, scan: Scan) -> None:
    for key in (None, "wrong", "0" * 64):
        with (
            Client(cluster.proxy.url, tls=papers.tls, api_key=key) as client,
            pytest.raises(KeyRefusedError, match="API key"),
        ):
            client.score(scan.volume)


CLOSED = {
    "SystemSharedMemoryStatus": service_pb2.SystemSharedMemoryStatusRequest(),
    "SystemSharedMemoryRegister": service_pb2.SystemSharedMemoryRegisterRequest(
        name="a", key="/a", byte_size=8
    ),
    "CudaSharedMemoryStatus": service_pb2.CudaSharedMemoryStatusRequest(),
    "RepositoryIndex": service_pb2.RepositoryIndexRequest(),
    "RepositoryModelLoad": service_pb2.RepositoryModelLoadRequest(model_name="dlild"),
    "RepositoryModelUnload": service_pb2.RepositoryModelUnloadRequest(model_name="dlild"),
    "TraceSetting": service_pb2.TraceSettingRequest(),
    "LogSettings": service_pb2.LogSettingsRequest(),
}


def test_methods_that_no_client_needs_are_closed_with_the_right_key_too(
    cluster: Cluster, papers: Papers
) -> None:
    ca, key, cert = papers.tls.read()
    target = f"localhost:{cluster.proxy.port}"
    metadata = (("triton-grpc-protocol-x-ild-key", papers.key),)
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for method, request in CLOSED.items():
            with pytest.raises(grpc.RpcError) as error:
                getattr(stub, method)(request, metadata=metadata, timeout=10)
            assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED, method
            assert "closed to clients" in error.value.details(), method


@pytest.mark.parametrize("path", [STREAM_CALL, UNARY_CALL])
def test_a_message_of_3_gb_ends_at_its_first_bytes(
    cluster: Cluster, papers: Papers, path: str
) -> None:
    before = memory_mib(cluster)
    with RawConnection(cluster.proxy.port, papers.tls) as line:
        line.open_stream(1, path, papers.key)
        line.send_data(1, message_prefix(THREE_GB) + bytes(16000))
        assert line.ends(1, 5) == HEADERS
    assert cluster.proxy.log_path is not None
    assert f"a message of {THREE_GB} bytes" in cluster.proxy.log_path.read_text("utf-8", "replace")
    assert memory_mib(cluster) - before < 50


def test_a_later_message_of_3_gb_ends_the_stream_as_well(cluster: Cluster, papers: Papers) -> None:
    before = memory_mib(cluster)
    with RawConnection(cluster.proxy.port, papers.tls) as line:
        line.open_stream(1, STREAM_CALL, papers.key)
        # An empty request, and the prefix of the next in two pieces.
        prefix = message_prefix(THREE_GB)
        line.send_data(1, message_prefix(0) + prefix[:2])
        line.send_data(1, prefix[2:] + bytes(16000))
        # What was answered of the first message may end it, too.
        assert line.ends(1, 5) is not None
    assert memory_mib(cluster) - before < 50


def test_ten_thousand_streams(cluster: Cluster, papers: Papers, scan: Scan, attacker: str) -> None:
    before = memory_mib(cluster)
    each = 50
    lines: list[RawConnection] = []
    refused = opened = 0
    with contextlib.ExitStack() as stack:
        for _ in range(STREAMS // each):
            try:
                line = RawConnection(cluster.proxy.port, papers.tls, source=attacker)
            except OSError:
                refused += 1
                continue
            stack.callback(line.close)
            lines.append(line)
            with contextlib.suppress(OSError):
                for number in range(each):
                    line.open_stream(2 * number + 1, STREAM_CALL, papers.key)
                    opened += 1
        held = cluster.proxy.streams()["server1"]
        during = memory_mib(cluster)
        assert_serves(cluster, papers, scan)
    print(
        f"{len(lines)} connections and {opened} streams opened, {refused} connections refused, "
        f"{held} streams at the server; memory {before:.0f} to {during:.0f} MiB"
    )
    assert len(lines) <= CONNECTIONS
    assert refused >= STREAMS // each - CONNECTIONS
    assert held <= CALLS
    assert during - before < 300


@pytest.mark.slow
def test_ten_thousand_streams_one_after_the_other_on_one_connection(
    cluster: Cluster, papers: Papers, scan: Scan, attacker: str
) -> None:
    """Opened and reset at once, as in the attack called rapid reset."""
    before = memory_mib(cluster)
    with RawConnection(cluster.proxy.port, papers.tls, source=attacker) as line:
        with contextlib.suppress(OSError):
            for number in range(STREAMS):
                line.open_stream(2 * number + 1, UNARY_CALL, papers.key)
                line.reset(2 * number + 1)
        assert_serves(cluster, papers, scan)
        during = memory_mib(cluster)
    print(f"memory {before:.0f} to {during:.0f} MiB")
    assert during - before < 300


def test_half_open_connections_are_dropped(
    cluster: Cluster, papers: Papers, scan: Scan, attacker: str
) -> None:
    port = cluster.proxy.port
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 5, (attacker, 0)))
            for _ in range(20)
        ]
        half = stack.enter_context(RawConnection(port, papers.tls, source=attacker))
        half.line.sendall(b"\x00\x00\x80\x01\x04\x00\x00\x00\x01")  # headers announced, not sent
        stalled = stack.enter_context(RawConnection(port, papers.tls, source=attacker))
        stalled.open_stream(1, STREAM_CALL, papers.key)
        stalled.send_data(1, message_prefix(1000) + bytes(10))
        assert_serves(cluster, papers, scan)
        start = time.monotonic()
        for end in silent:
            end.settimeout(3 * SILENT_S)
            assert end.recv(1) == b""
        print(f"without a word: dropped after {time.monotonic() - start:.1f} s")
        assert stalled.ends(1, 3 * SILENT_S) in {HEADERS, RST_STREAM}
        print(f"half a message: dropped after {time.monotonic() - start:.1f} s")
        assert half.is_hung_up(15)
        print(f"half of the headers: dropped after {time.monotonic() - start:.1f} s")
