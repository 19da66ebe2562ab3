"""TLS: certificates of the client, and diagnosis of failed handshakes."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlild_client.errors import BadSettingsError

if TYPE_CHECKING:
    import os

    from dlild_client.address import Address

HUNG_UP = "hung up after the handshake"
_SETTLING_S = 0.5
"""With TLS 1.3 a server rejects the client's certificate after the handshake, within this time."""


@dataclass(frozen=True)
class TLS:
    """Certificates of a connection, all in PEM files.

    Attributes
    ----------
    ca : path, optional
        Certificate authorities trusted to sign the server's certificate. Default: those of gRPC.
    cert, key : path, optional
        Client certificate and its key, for mutual TLS; both or neither.
    server_name : str, optional
        Name in the server's certificate, where it is not the host of the address.

    Raises
    ------
    BadSettingsError
        Only one of `cert` and `key` is given.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Check that certificate and key come together."""
        if (self.cert is None) != (self.key is None):
            raise BadSettingsError("TLS needs both cert and key to show a certificate, or neither")

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Read the files, in the order that gRPC wants: authorities, key, certificate.

        Raises
        ------
        BadSettingsError
            A file cannot be read, is not PEM, or certificate and key do not belong together.
        """
        self.context()
        ca, key, cert = (
            None if path is None else Path(path).read_bytes()
            for path in (self.ca, self.key, self.cert)
        )
        return ca, key, cert

    def context(self) -> ssl.SSLContext:
        """Build an `ssl.SSLContext` from these files.

        Raises
        ------
        BadSettingsError
            As `read`.
        """
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        if self.ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.set_alpn_protocols(["h2"])
            _load(self.ca, "no certificate in it", context.load_verify_locations)
        if self.cert is not None and self.key is not None:
            _load(self.cert, "no certificate in it", lambda path: _read_pem(path, "CERTIFICATE"))
            _load(self.key, "no private key in it", lambda path: _read_pem(path, "PRIVATE KEY"))
            _load(
                self.key,
                "it does not belong to the certificate, or is encrypted",
                lambda path: context.load_cert_chain(str(self.cert), path, password=str),
            )
        return context


@dataclass(frozen=True)
class Handshake:
    """Result of a handshake.

    Attributes
    ----------
    version : str
        Of TLS.
    names : tuple of str
        Names and addresses that the server's certificate is for.
    issuer : str
        Its issuer.
    expires : datetime
        End of its validity, UTC.
    """

    version: str
    names: tuple[str, ...]
    issuer: str
    expires: datetime

    @property
    def days_left(self) -> int:
        """Whole days until the certificate expires."""
        return (self.expires - datetime.now(UTC)).days


def shake_hands(address: Address, tls: TLS, timeout_s: float) -> Handshake:
    """Perform a handshake with the standard library: gRPC hardly reports why one fails.

    Raises
    ------
    ssl.SSLError
        The handshake failed; `explain` returns the cause.
    OSError
        No server answers.
    """
    name = tls.server_name or address.host
    with (
        socket.create_connection((address.host, address.port), timeout_s) as plain,
        tls.context().wrap_socket(plain, server_hostname=name) as secure,
    ):
        certificate: dict[str, Any] = secure.getpeercert() or {}
        version = secure.version() or "TLS"
        secure.settimeout(min(_SETTLING_S, timeout_s))
        # A server that rejects the client's certificate closes the connection now.
        try:
            said_nothing = secure.recv(1) == b""
        except TimeoutError:
            said_nothing = False
        except ConnectionResetError:
            said_nothing = True
        if said_nothing:
            raise ssl.SSLError(HUNG_UP)
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    return Handshake(
        version=version,
        names=tuple(value for _, value in certificate.get("subjectAltName", ())),
        issuer=issuer.get("commonName") or issuer.get("organizationName") or "nobody named",
        expires=datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC),
    )


def explain(error: ssl.SSLError, address: Address, tls: TLS) -> tuple[str, str]:
    """Return the cause of a failed handshake, and the remedy.

    Parameters
    ----------
    error : ssl.SSLError
    address : Address
    tls : TLS

    Returns
    -------
    finding, remedy : str
    """
    text = f"{getattr(error, 'verify_message', '')} {error}".lower()
    if HUNG_UP in text and tls.cert is None:
        text = "certificate required"
    for words, finding, remedy in _MEANINGS:
        if words in text:
            name = tls.server_name or address.host
            return finding.format(name=name), remedy
    return f"the TLS handshake fails ({error.reason or error})", "check both sides' certificates"


_OWN = ("of this client", "give another with TLS(cert=, key=) or --tls-cert and --tls-key")
_MEANINGS = (
    # Alerts are the server's verdict on the client's certificate: matched first.
    ("alert certificate expired", f"the certificate {_OWN[0]} has expired", _OWN[1]),
    ("certificate required", "the server wants a certificate of this client", _OWN[1]),
    ("alert unknown ca", f"the server does not trust the certificate {_OWN[0]}", _OWN[1]),
    ("alert bad certificate", f"the server refuses the certificate {_OWN[0]}", _OWN[1]),
    ("alert certificate", f"the server refuses the certificate {_OWN[0]}", _OWN[1]),
    ("alert handshake failure", "the server refuses the handshake", _OWN[1]),
    (
        HUNG_UP,
        f"the server refuses the certificate {_OWN[0]} (expired, or of an unknown authority)",
        _OWN[1],
    ),
    (
        "certificate has expired",
        "the server's certificate has expired",
        "renew it on the server",
    ),
    (
        "not yet valid",
        "the server's certificate is not valid yet",
        "compare the clocks of both machines",
    ),
    (
        "mismatch",
        "the server's certificate is not for {name}",
        "use a name that it is for, or give it with TLS(server_name=) or --tls-server-name",
    ),
    (
        "unable to get",
        "the server's certificate comes from an authority that this client does not know",
        "give the authority's file with TLS(ca=) or --tls-ca",
    ),
    (
        "self-signed",
        "the server's certificate comes from an authority that this client does not know",
        "give the authority's file with TLS(ca=) or --tls-ca",
    ),
    (
        "certificate signature failure",
        "the server's certificate comes from an authority that this client does not know",
        "give the authority's file with TLS(ca=) or --tls-ca",
    ),
    ("wrong version number", "the server speaks no TLS", "use grpc://, or turn TLS on there"),
    ("eof occurred", "the server hangs up during the handshake", "use grpc://, or turn TLS on"),
)


def speaks_tls(address: Address, timeout_s: float) -> bool:
    """Whether a server completes a TLS handshake, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host),
        ):
            return True
    except OSError:
        return False


def _read_pem(path: str, kind: str) -> None:
    if kind.encode() not in Path(path).read_bytes():
        raise ssl.SSLError(f"no {kind}")


def _load(path: str | os.PathLike[str], fault: str, load: Any) -> None:
    name = Path(path).name
    try:
        load(str(path))
    except ssl.SSLError:
        raise BadSettingsError(f"{name}: {fault}; give a PEM file") from None
    except OSError as error:
        raise BadSettingsError(f"{name}: cannot be read: {error.strerror}") from None
