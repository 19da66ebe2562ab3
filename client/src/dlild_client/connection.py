"""Addresses, channels and the first words with a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client.contract import Contract, ProfileSpec, parse_contract
from dlild_client.errors import BadAddress, ConnectionFailed, ContractError, DlildError, ServerError
from dlild_client.stream import Timeout, from_rpc_error
from dlild_client.wire import MODEL

DEFAULT_PORT = 8001

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", 2147483647),
    ("grpc.max_receive_message_length", 2147483647),
    # A peer that vanishes without a word (a cable, a firewall) is noticed within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]


@dataclass(frozen=True)
class Address:
    """Where a server is: `target` is host:port; `secure` asks for TLS."""

    url: str
    target: str
    secure: bool


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself.

    Attributes
    ----------
    url : str
    server_version : str
        Of Triton.
    profile : str
        Name of the profile it was started with.
    contract : Contract
    """

    url: str
    server_version: str
    profile: str
    contract: Contract

    @property
    def model_version(self) -> int:
        """Version of the model."""
        return self.contract.model.version

    @property
    def engine(self) -> ProfileSpec:
        """Engine and precision of the profile, as the contract states them."""
        return self.contract.profiles[self.profile]


def parse_url(url: str) -> Address:
    """Read `grpc://host:port` or `grpcs://host:port`.

    Raises
    ------
    BadAddress
        Any other scheme, no host, a bad port, or more than host and port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise BadAddress(
            f"{url}: not an address; use grpc://host:8001 or grpcs://host:8001"
        ) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or extra:
        raise BadAddress(f"{url}: not an address; use grpc://host:8001 or grpcs://host:8001 (TLS)")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(url, f"{host}:{port}", parts.scheme == "grpcs")


def open_channel(address: Address) -> Any:
    """Open a gRPC channel; with TLS it trusts the default roots."""
    if address.secure:
        return grpc.secure_channel(
            address.target, grpc.ssl_channel_credentials(), options=CHANNEL_OPTIONS
        )
    return grpc.insecure_channel(address.target, options=CHANNEL_OPTIONS)


def ask_server(channel: Any, url: str, timeout: Timeout) -> ServerInfo:
    """Ask whether the model is ready, and for its contract.

    Raises
    ------
    ConnectionFailed
        Nobody answers at `url`.
    ServerError
        The model is not there or not ready.
    ContractError
        The contract is missing or not one that this client understands.
    """
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    try:
        metadata = stub.ServerMetadata(
            service_pb2.ServerMetadataRequest(), timeout=timeout.connect_s
        )
        ready = stub.ModelReady(
            service_pb2.ModelReadyRequest(name=MODEL), timeout=timeout.connect_s
        )
        if not ready.ready:
            raise ServerError(f"{url}: the model {MODEL} is not ready; look at the server's log")
        request = service_pb2.ModelConfigRequest(name=MODEL)
        config = stub.ModelConfig(request, timeout=timeout.connect_s).config
    except grpc.RpcError as error:
        raise _first_words_failed(error, url, timeout) from None
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    if "contract" not in parameters or "profile" not in parameters:
        raise ContractError(
            f"{url}: the model {MODEL} carries no contract; this is no DL-ILD server"
        )
    contract = parse_contract(parameters["contract"])
    profile = parameters["profile"]
    if profile not in contract.profiles:
        known = ", ".join(contract.profiles)
        raise ContractError(
            f"{url}: the server runs the profile {profile!r}, its contract has {known}"
        )
    return ServerInfo(url, metadata.version, profile, contract)


def _first_words_failed(error: Any, url: str, timeout: Timeout) -> DlildError:
    code = error.code()
    if code == grpc.StatusCode.UNAVAILABLE:
        return ConnectionFailed(
            f"nobody answers at {url}; is the server running, and are address, port and TLS right?"
        )
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ConnectionFailed(
            f"no answer from {url} within {timeout.connect_s:g} s; check the address and the "
            "firewall"
        )
    if code in {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }:
        return ServerError(f"{url}: the server has no model {MODEL} that is ready; look at its log")
    return from_rpc_error(error)
