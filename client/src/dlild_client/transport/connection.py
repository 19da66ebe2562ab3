"""The first words with a server: what it says of itself, and why it does not answer."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any

import grpc

from dlild_client.address import Address
from dlild_client.contract import Contract, ProfileSpec, parse_contract
from dlild_client.errors import (
    ConnectionFailed,
    ContractError,
    DlildError,
    ServerError,
    TLSFailed,
)
from dlild_client.settings import Settings
from dlild_client.tls import TLS, explain, shake_hands, speaks_tls
from dlild_client.transport.failures import from_rpc_error
from dlild_client.transport.wire import MODEL


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


def read_info(url: str, server_version: str, config: Any) -> ServerInfo:
    """Read what a server says of itself from the configuration of its model.

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


def first_words_failed(error: Any, settings: Settings) -> DlildError:
    """Find the error for a call that failed before any scan was sent.

    It may speak to the server again, apart from gRPC, which hardly says why a handshake fails.
    """
    code, url = error.code(), settings.address.url
    patience = settings.timeout.connect_s
    if code in {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }:
        return ServerError(f"{url}: the server has no model {MODEL} that is ready; look at its log")
    if code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return from_rpc_error(error)
    told = from_rpc_error(error)
    if code == grpc.StatusCode.UNAVAILABLE and not isinstance(told, ConnectionFailed):
        return told
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ConnectionFailed(
            f"no answer from {url} within {patience:g} s; check the address and the firewall"
        )
    return why_no_trust(settings.address, settings.tls, patience) or ConnectionFailed(
        f"nobody answers at {url}; is the server running, and are address, port and TLS right?"
    )


def why_no_trust(address: Address, tls: TLS, timeout_s: float) -> TLSFailed | None:
    """Find out whether it is TLS that keeps the two sides apart."""
    url = address.url
    if not address.secure:
        if speaks_tls(address, timeout_s):
            return TLSFailed(f"{url}: the server speaks TLS; use grpcs:// instead of grpc://")
        return None
    try:
        shake_hands(address, tls, timeout_s)
    except ssl.SSLError as error:
        finding, remedy = explain(error, address, tls)
        return TLSFailed(f"{url}: {finding}; {remedy}")
    except (OSError, socket.gaierror):
        return None
    return None
