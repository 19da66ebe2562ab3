"""Addresses of servers: `grpc://host:port`, or `grpcs://host:port` for TLS."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from dlild_client.errors import BadAddressError

DEFAULT_PORT = 8001

_HOST = re.compile(r"\w([\w-]*\w)?(\.\w([\w-]*\w)?)*\.?")
"""Labels of letters, digits, hyphens and underscores, in any script."""


@dataclass(frozen=True)
class Address:
    """Address of a server: `target` is host:port; `secure` means TLS."""

    url: str
    target: str
    secure: bool

    @property
    def host(self) -> str:
        """Name or number of the host, without brackets."""
        return self.target.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port of the host."""
        return int(self.target.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or number of a host, without brackets, is this machine."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def parse_url(url: str) -> Address:
    """Parse `grpc://host:port` or `grpcs://host:port`.

    Raises
    ------
    BadAddressError
        Any other scheme, no host, a bad port, or more than host and port.
    """
    url = url.strip()
    if "@" in url:
        # The part before the @ may be a secret: do not quote it.
        raise BadAddressError("an address with a user is no address; use grpc://host:8001")
    try:
        parts = urlsplit(url)
        name = parts.hostname
    except ValueError:
        raise _not_an_address(url) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"grpc", "grpcs"} or not name or extra:
        raise _not_an_address(url)
    if not is_host(name):
        raise BadAddressError(
            f"{url}: {name!r} is no host; use grpc://host:8001, by name or number"
        )
    host = f"[{name}]" if ":" in name else name
    return Address(url, f"{host}:{_port(url, parts)}", parts.scheme == "grpcs")


def _not_an_address(url: str) -> BadAddressError:
    return BadAddressError(
        f"{url}: not an address; use grpc://host:8001 or grpcs://host:8001 (TLS)"
    )


def _port(url: str, parts: SplitResult) -> int:
    """Parse the port; `urlsplit` returns None for an empty one."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadAddressError(
            f"{url}: the port is no number from 1 to 65535; use grpc://host:{DEFAULT_PORT}, with "
            "the server's gRPC port"
        )
    return DEFAULT_PORT if port is None else port


def is_host(name: str) -> bool:
    """Whether a name can be a host name, or is a complete IP address."""
    address = name.partition("%")[0]
    if ":" in name or re.fullmatch(r"[\d.]+", name):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return False
        return True
    try:
        name.encode("idna")  # As the resolver does; a label is too long beyond 63 bytes.
    except UnicodeError:
        return False
    return bool(_HOST.fullmatch(name))
