"""Diagnosis of the connection to a server: one check after the other, each with its remedy.

A check that depends on a failed one is left out. Throughput is measured with windows of air, sent
as a scan.
"""

from __future__ import annotations

import math
import socket
import ssl
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client.contract import Contract
from dlild_client.contract.schema import Shape
from dlild_client.contract.windows import WindowPlan, plan_windows
from dlild_client.core import run_exchange
from dlild_client.errors import DlildError, KeyRefusedError, NotReadyError
from dlild_client.settings import Settings
from dlild_client.tls import explain, shake_hands
from dlild_client.transport.base import call_metadata
from dlild_client.transport.blocking import BlockingTransport, Slots, open_channel, run
from dlild_client.transport.cancel import CancelToken
from dlild_client.transport.connection import ServerInfo, connect_error, read_info
from dlild_client.transport.exchange import Exchange
from dlild_client.transport.wire import MODEL, WindowRequest

Verdict = Literal["good", "doubtful", "bad", "left out"]

SOON_DAYS = 30
"""A certificate that expires sooner is `doubtful`."""

SLOW_MS = 100.0
PINGS = 5

SLOW_CHEST_S = 60.0


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    check : str
        `address`, `port`, `TLS`, `key`, `readiness`, `contract`, `profile`, `round trip` or
        `throughput`.
    verdict : str
        `good`, `doubtful`, `bad` or `left out`.
    finding : str
        What was found.
    remedy : str
        What to do; empty for `good`.
    """

    check: str
    verdict: Verdict
    finding: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Run all checks against a server.

    Parameters
    ----------
    settings : Settings

    Yields
    ------
    Finding
        As each check completes.
    """
    steps = _Steps(settings)
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("address", steps.address),
        ("port", steps.port),
        ("TLS", steps.tls),
        ("key", steps.key),
        ("readiness", steps.readiness),
        ("contract", steps.contract),
        ("profile", steps.profile),
        ("round trip", steps.round_trip),
        ("throughput", steps.throughput),
    )
    broken = ""
    for name, check in checks:
        if broken:
            yield Finding(name, "left out", f"cannot be checked: see {broken}")
            continue
        try:
            found = check()
        except DlildError as error:
            found = _from_error(name, error)
        if found.verdict == "bad":
            broken = name
        yield found
    steps.close()


class _Steps:
    """The checks, with the state that one passes on to the next."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = settings.address
        self._timeout_s = settings.timeout.connect_s
        self._channel: Any = None
        self._version = ""
        self._info: ServerInfo | None = None

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def address(self) -> Finding:
        host = self._address.host
        try:
            found = socket.getaddrinfo(host, self._address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return Finding(
                "address",
                "bad",
                f"the name {host} is not known",
                "look for a typing error in the address, or ask for the name in the DNS",
            )
        numbers = sorted({str(entry[4][0]) for entry in found})
        return Finding("address", "good", f"{host} is {', '.join(numbers)}")

    def port(self) -> Finding:
        target = self._address.target
        start = time.perf_counter()
        try:
            host, port = self._address.host, self._address.port
            socket.create_connection((host, port), self._timeout_s).close()
        except TimeoutError:
            return Finding(
                "port",
                "bad",
                f"{target} does not answer within {self._timeout_s:g} s",
                "ask for a way through the firewall, and look whether the machine runs",
            )
        except OSError as error:
            return Finding(
                "port",
                "bad",
                f"{target} takes no connection: {error.strerror or error}",
                "start the server, and look at its port (gRPC, mostly 8001)",
            )
        return Finding("port", "good", f"{target} takes connections ({_ms(start):.1f} ms)")

    def tls(self) -> Finding:
        if not self._address.secure:
            if self._address.is_loopback:
                return Finding("TLS", "good", "none, and none is needed on this machine")
            return Finding(
                "TLS",
                "doubtful",
                "none: everybody on the way can read the scans",
                "turn TLS on at the server and use grpcs://",
            )
        try:
            hands = shake_hands(self._address, self._settings.tls, self._timeout_s)
        except ssl.SSLError as error:
            return Finding("TLS", "bad", *explain(error, self._address, self._settings.tls))
        except OSError as error:
            return Finding(
                "TLS", "bad", f"the handshake breaks: {error.strerror or error}", "try again"
            )
        text = (
            f"{hands.version}, for {', '.join(hands.names)}, by {hands.issuer}, "
            f"{hands.days_left} days left"
        )
        if hands.days_left < SOON_DAYS:
            return Finding("TLS", "doubtful", text, "renew the server's certificate soon")
        return Finding("TLS", "good", text)

    def key(self) -> Finding:
        self._channel = open_channel(self._settings)
        self._version = self._call("ServerMetadata", service_pb2.ServerMetadataRequest()).version
        if self._settings.api_key is None:
            return Finding("key", "good", "none, and the server wants none")
        try:
            self._call("ServerMetadata", service_pb2.ServerMetadataRequest(), metadata=())
        except KeyRefusedError:
            return Finding("key", "good", "the server takes it")
        return Finding(
            "key",
            "doubtful",
            "the server takes calls without a key as well",
            "restrict its protocols (--grpc-restricted-protocol), or leave the key out",
        )

    def readiness(self) -> Finding:
        ready = self._call("ModelReady", service_pb2.ModelReadyRequest(name=MODEL)).ready
        if not ready:
            raise NotReadyError(
                f"the model {MODEL} is not ready; wait, or look at the server's log"
            )
        return Finding("readiness", "good", f"Triton {self._version} is ready with {MODEL}")

    def contract(self) -> Finding:
        answer = self._call("ModelConfig", service_pb2.ModelConfigRequest(name=MODEL))
        self._info = read_info(self._address.url, self._version, answer.config)
        contract = self._info.contract
        return Finding(
            "contract",
            "good",
            f"schema {contract.schema_version}, model {contract.model.name} version "
            f"{contract.model.version}, weights {contract.model.weights_sha256[:12]}",
        )

    def profile(self) -> Finding:
        assert self._info is not None
        named = find_engine(self._settings, self._info.contract)
        text = f"{self._info.profile}: {' '.join(self._info.computed_by(named))}"
        if self._info.profile == "embedded":
            return Finding(
                "profile",
                "doubtful",
                f"{text}, on the CPU",
                "good for trials; serve the tensorrt or onnxruntime profile on a GPU for more",
            )
        return Finding("profile", "good", text)

    def round_trip(self) -> Finding:
        times = []
        for _ in range(PINGS):
            start = time.perf_counter()
            self._call("ModelReady", service_pb2.ModelReadyRequest(name=MODEL))
            times.append(_ms(start))
        middle = statistics.median(times)
        text = f"{middle:.1f} ms (median of {PINGS}, worst {max(times):.1f})"
        if middle > SLOW_MS:
            return Finding(
                "round trip", "doubtful", text, "look at the network between here and the server"
            )
        return Finding("round trip", "good", text)

    def throughput(self) -> Finding:
        assert self._info is not None
        seen = measure_throughput(self._settings, self._info.contract)
        text = (
            f"{seen.windows_per_s:.1f} windows/s of {'x'.join(map(str, seen.shape))}, "
            f"{seen.mb_per_s:.1f} MB/s; a chest takes about {seen.chest_s:.1f} s"
        )
        if seen.chest_s > SLOW_CHEST_S:
            return Finding(
                "throughput",
                "doubtful",
                text,
                "look at the load of the server and at the network; a GPU is faster by far",
            )
        return Finding("throughput", "good", text)

    def _call(self, method: str, request: Any, metadata: Any = None) -> Any:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        sent = call_metadata(self._settings) if metadata is None else metadata
        try:
            return getattr(stub, method)(request, timeout=self._timeout_s, metadata=sent)
        except grpc.RpcError as error:
            raise connect_error(error, self._settings) from None


def _from_error(check: str, error: DlildError) -> Finding:
    """Convert an error to a finding: its remedy follows the last semicolon."""
    finding, _, remedy = str(error).rpartition("; ")
    return Finding(check, "bad", finding or remedy, remedy if finding else "look at the server")


def _ms(start: float) -> float:
    return 1000 * (time.perf_counter() - start)


BOX_SHAPE = (160, 112, 112)
"""Box of air that is sent, in voxels (z, y, x)."""

CHEST_VOXELS = 4_000_000
"""Voxels in the windows of an adult's lungs at 1.5 mm."""


@dataclass(frozen=True)
class Throughput:
    """Measured throughput.

    Attributes
    ----------
    shape : tuple of int
        Of the windows (z, y, x), in voxels.
    windows : int
    seconds : float
        For all windows.
    """

    shape: Shape
    windows: int
    seconds: float

    @property
    def windows_per_s(self) -> float:
        """Windows per second."""
        return self.windows / self.seconds

    @property
    def mb_per_s(self) -> float:
        """Megabytes sent per second; a voxel takes two bytes."""
        return 2e-6 * self.windows * math.prod(self.shape) / self.seconds

    @property
    def chest_s(self) -> float:
        """Estimated seconds for the windows of a chest."""
        return self.seconds * CHEST_VOXELS / (self.windows * math.prod(self.shape))


def measure_throughput(settings: Settings, contract: Contract) -> Throughput:
    """Send windows of air as a scan, and time them.

    Raises
    ------
    DlildError
        As for a scan.
    """
    plan = plan_windows(_box_shape(contract), contract)
    _send(settings, contract, plan, count=1)  # warm-up: first-use initialisation
    start = time.perf_counter()
    _send(settings, contract, plan, count=len(plan.origins))
    return Throughput(plan.shape, len(plan.origins), time.perf_counter() - start)


def _box_shape(contract: Contract) -> Shape:
    """Return the shape of a small box that the server accepts."""
    edges = zip(contract.windows.minimum, BOX_SHAPE, strict=True)
    z, y, x = (max(low, n) for low, n in edges)
    return z, y, x


def find_engine(settings: Settings, contract: Contract) -> str | None:
    """Return engine and precision that a server computes in, such as ``openvino bf16``.

    The server says it with a score alone, so the smallest window of air is sent.

    Returns
    -------
    str or None
        None where the server cannot score now, or its engine does not say.
    """
    try:
        return _send(settings, contract, plan_windows(contract.windows.minimum, contract), count=1)
    except DlildError:
        return None


def _send(settings: Settings, contract: Contract, plan: WindowPlan, count: int) -> str | None:
    """Send windows of air as one scan; with a one-window box where `count` is 1.

    Returns engine and precision, where the server says them.
    """
    air = np.full(plan.shape, contract.hu.padding, dtype=np.float16)
    sequence_id = str(uuid.uuid4())
    whole = plan.shape if count == 1 else _extent(plan)
    requests = (
        WindowRequest(sequence_id, air, origin, whole, index, count, contract.grid.voxel_volume_mm3)
        for index, origin in enumerate(plan.origins[:count])
    )
    transport = BlockingTransport(settings, Slots.of(settings), CancelToken())

    async def send() -> str | None:
        exchange = Exchange(requests, contract, count=count, in_flight=contract.windows.in_flight)
        async with transport.connect() as connection:
            await run_exchange(transport, connection, exchange, settings.timeout.scan_s)
        return exchange.engine

    return run(send())


def _extent(plan: WindowPlan) -> Shape:
    """Return the shape of the box that the windows of a plan cover."""
    z, y, x = (max(origin[axis] for origin in plan.origins) + plan.shape[axis] for axis in range(3))
    return z, y, x
