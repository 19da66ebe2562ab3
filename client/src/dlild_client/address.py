"""Addresses of servers: `grpc://host:port`, or `grpcs://host:port` for TLS."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from dlild_client.errors import BadAddress

DEFAULT_PORT = 8001

_LOOPBACK = {"localhost", "::1"}


@dataclass(frozen=True)
class Address:
    """Where a server is: `target` is host:port; `secure` asks for TLS."""

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
        """Whether what is sent there stays on this machine."""
        return self.host in _LOOPBACK or self.host.startswith("127.")


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
    if parts.username or parts.password:
        # What stands before the @ may be a secret.
        raise BadAddress("an address with a user is no address; use grpc://host:8001")
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or extra:
        raise BadAddress(f"{url}: not an address; use grpc://host:8001 or grpcs://host:8001 (TLS)")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(url, f"{host}:{port}", parts.scheme == "grpcs")
