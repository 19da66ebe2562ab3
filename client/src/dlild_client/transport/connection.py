"""Connection to a server: its metadata, and diagnosis of failed connections."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any

import grpc

from dlild_client.address import DEFAULT_PORT, Address
from dlild_client.contract import Contract, ProfileSpec, parse_contract
from dlild_client.errors import (
    ConnectionFailedError,
    ContractError,
    DlildError,
    ModelNotFoundError,
    NotReadyError,
    TLSFailedError,
)
from dlild_client.settings import Settings
from dlild_client.tls import TLS, explain, shake_hands, speaks_tls
from dlild_client.transport.failures import from_rpc_error
from dlild_client.transport.wire import MODEL

_NO_MODEL = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
}
"""Status codes for a model or a service that the server does not have."""


@dataclass(frozen=True)
class ServerInfo:
    """Metadata of a server.

    Attributes
    ----------
    url : str
    server_version : str
        Version of Triton.
    profile : str
        Profile that the server was started with.
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

    def computed_by(self, named: str | None) -> tuple[str, str]:
        """Return engine and precision that an answer names, such as ``openvino bf16``.

        Those of the profile where it names none.
        """
        engine, _, precision = (named or "").partition(" ")
        return engine or self.engine.engine, precision or self.engine.precision


def read_info(url: str, server_version: str, config: Any) -> ServerInfo:
    """Parse the metadata of a server from its model configuration.

    Parameters
    ----------
    url : str
    server_version : str
    config : ModelConfig
        Protobuf message.

    Raises
    ------
    ContractError
        The contract is missing or not one that this client understands.
    """
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
    return ServerInfo(url, server_version, profile, contract)


def connect_error(error: Any, settings: Settings) -> DlildError:
    """Return the error for a call that failed before any scan was sent.

    May open sockets of its own to the server: gRPC hardly reports why a handshake fails.
    """
    code, url = error.code(), settings.address.url
    timeout_s = settings.timeout.connect_s
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ConnectionFailedError(
            f"no answer from {url} within {timeout_s:g} s; check the address and the firewall"
        )
    found = from_rpc_error(error)
    if isinstance(found, NotReadyError) and not isinstance(found, ModelNotFoundError):
        return NotReadyError(f"{url}: {found}")
    if isinstance(found, ModelNotFoundError) or code in _NO_MODEL:
        return ModelNotFoundError(
            f"{url}: the server has no model {MODEL}; is it a DL-ILD server? Look at its log"
        )
    if not isinstance(found, ConnectionFailedError):
        return found
    return diagnose_no_answer(settings.address, settings.tls, timeout_s)


def diagnose_no_answer(address: Address, tls: TLS, timeout_s: float) -> ConnectionFailedError:
    """Diagnose why no gRPC server answers at an address.

    Parameters
    ----------
    address : Address
    tls : TLS
    timeout_s : float
        Of each probe.

    Returns
    -------
    ConnectionFailedError
        Names what is there instead: nothing, an unknown host name, TLS, HTTP/1.
    """
    url = address.url
    try:
        socket.create_connection((address.host, address.port), timeout_s).close()
    except (socket.gaierror, UnicodeError):
        return ConnectionFailedError(
            f"{url}: the name {address.host} is not known; look for a typing error in the address"
        )
    except OSError:
        return ConnectionFailedError(
            f"no server answers at {url}; is it running, and are address, port and TLS right?"
        )
    mistrust = diagnose_tls(address, tls, timeout_s)
    if mistrust is not None:
        return mistrust
    if speaks_http1(address, timeout_s):
        return ConnectionFailedError(
            f"{url}: this port speaks HTTP/1, not gRPC; "
            f"give the server's gRPC port, mostly {DEFAULT_PORT} "
            "(8000 is Triton's HTTP port, 8002 that of its metrics)"
        )
    return ConnectionFailedError(
        f"{url} takes connections but does not answer gRPC; "
        "is it the server's gRPC port, and does the server run?"
    )


def speaks_http1(address: Address, timeout_s: float) -> bool:
    """Whether a server answers an HTTP/1 request, which no gRPC server does."""
    try:
        with socket.create_connection((address.host, address.port), timeout_s) as plain:
            plain.sendall(f"GET / HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
            return plain.recv(7) == b"HTTP/1."
    except OSError:
        return False


def diagnose_tls(address: Address, tls: TLS, timeout_s: float) -> TLSFailedError | None:
    """Diagnose TLS; None where it is not the cause."""
    url = address.url
    if not address.secure:
        if speaks_tls(address, timeout_s):
            return TLSFailedError(f"{url}: the server speaks TLS; use grpcs:// instead of grpc://")
        return None
    try:
        shake_hands(address, tls, timeout_s)
    except ssl.SSLError as error:
        finding, remedy = explain(error, address, tls)
        return TLSFailedError(f"{url}: {finding}; {remedy}")
    except (OSError, socket.gaierror):
        return None
    return None
