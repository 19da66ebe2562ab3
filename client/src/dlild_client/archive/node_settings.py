"""Settings of a DICOM node."""

from __future__ import annotations

import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlild_client.address import is_host
from dlild_client.archive.addresses import Peer, WebAddress, check_title, parse_peer
from dlild_client.errors import BadSettingsError

GIB = 1 << 30
HOUR_S = 3600.0
LAST_PORT = 65535
OPTIONS: dict[str, tuple[str, float]] = {
    "host": ("--host", 1),
    "port": ("--port", 1),
    "quiet_s": ("--quiet-s", 1),
    "scans": ("--scans", 1),
    "keep_s": ("--keep-h", HOUR_S),
    "keep_failed_s": ("--keep-failed-h", HOUR_S),
    "give_up_s": ("--give-up-h", HOUR_S),
    "object_bytes": ("--object-gib", GIB),
    "spool_bytes": ("--spool-gib", GIB),
    "free_bytes": ("--free-gib", GIB),
    "associations": ("--associations", 1),
    "drain_s": ("--drain-s", 1),
    "http_host": ("--http-host", 1),
    "http_port": ("--http-port", 1),
}
"""Option of `dlild listen` that sets a field, and its unit: messages name what was given."""


@dataclass(frozen=True)
class NodeSettings:
    """Settings of `dlild listen`.

    Attributes
    ----------
    title : str
        AE title of the node; others must call it by it.
    host, port : str, int
        Where it listens; port 0 takes a free one.
    spool : Path
        Folder of the queue and of what is received.
    senders : tuple of str
        AE titles that may associate. Empty: any.
    peers : mapping of str to Peer
        Addresses of application entities, for reports of storage commitment.
    destination : Peer or WebAddress
        Where results are sent.
    quiet_s : float
        Seconds without a new object after which a study counts as complete.
    kinds : tuple of str
        Objects of a result, as of `make_objects`.
    anonymous : bool
        Whether identity is left out of them.
    request_commitment : bool
        Whether the destination (a DICOM node) is asked to commit itself to each result.
    report_commitment : bool
        Whether senders may ask this node for commitment.
    scans : int
        Studies scored at once.
    keep_s, keep_failed_s : float
        How long the files of a study are kept after it was answered, or has failed.
    remember_s : float
        How long it stays known that a study was answered.
    give_up_s : float
        Age at which a study that cannot be scored or sent has failed.
    first_wait_s, longest_wait_s : float
        Back-off between tries: doubled from the first to the longest.
    commitment_s : float
        How long a commitment is waited for.
    object_bytes, spool_bytes, free_bytes : int
        Largest object; most bytes of received objects; least free space of the disk.
    associations : int
        Most associations at once.
    silent_s : float
        Longest silence of a peer.
    drain_s : float
        How long a stop waits for scans and sends under way.
    tls : SSLContext or None
        For associations that peers open.
    destination_tls : SSLContext or None
        For associations that the node opens.
    http_host, http_port : str, int or None
        Where health and metrics are served; None for nowhere.
    """

    title: str
    host: str
    port: int
    spool: Path
    destination: Peer | WebAddress
    senders: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    quiet_s: float = 60.0
    kinds: tuple[str, ...] = ("seg", "sr", "capture")
    anonymous: bool = False
    request_commitment: bool = False
    report_commitment: bool = False
    scans: int = 1
    keep_s: float = 24 * 3600.0
    keep_failed_s: float = 7 * 24 * 3600.0
    remember_s: float = 90 * 24 * 3600.0
    give_up_s: float = 72 * 3600.0
    first_wait_s: float = 5.0
    longest_wait_s: float = 900.0
    commitment_s: float = 600.0
    object_bytes: int = GIB
    spool_bytes: int = 100 * GIB
    free_bytes: int = 2 * GIB
    associations: int = 16
    silent_s: float = 60.0
    drain_s: float = 60.0
    tls: ssl.SSLContext | None = None
    destination_tls: ssl.SSLContext | None = None
    http_host: str = "127.0.0.1"
    http_port: int | None = None

    def __post_init__(self) -> None:
        """Check limits and ports, and that the destination can do what is asked of it."""
        check_title(self.title)
        for name in (
            "quiet_s", "scans", "give_up_s", "first_wait_s", "longest_wait_s", "commitment_s",
            "object_bytes", "spool_bytes", "associations", "silent_s",
        ):  # fmt: skip
            if not 0 < getattr(self, name) < math.inf:
                raise self._bad(name, "positive and finite")
        for name in ("keep_s", "keep_failed_s", "remember_s", "free_bytes", "drain_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise self._bad(name, "0 or more, and finite")
        for name in ("port", "http_port"):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= LAST_PORT:
                raise self._bad(name, f"0 to {LAST_PORT}")
        for name in ("host", "http_host"):
            host = getattr(self, name)
            # Empty: all interfaces.
            if host and not is_host(host):
                option, _ = OPTIONS[name]
                raise BadSettingsError(f"{option} {host!r} is no host; give its name or number")
        if self.request_commitment and isinstance(self.destination, WebAddress):
            raise BadSettingsError(
                "a DICOMweb service offers no storage commitment; give a destination "
                "AET@host:port, or leave --request-commitment out"
            )

    def _bad(self, name: str, wanted: str) -> BadSettingsError:
        """Construct the error of a number, as it was given on the command line."""
        option, unit = OPTIONS.get(name, (name, 1))
        value = getattr(self, name) / unit
        return BadSettingsError(f"{option} must be {wanted}, not {value:.9g}")

    def address_of(self, title: str) -> Peer | None:
        """Return the address of an application entity, where it is known."""
        return next((peer for peer in self.peers if peer.title == title), None)


def gib_to_bytes(name: str, gib: float) -> int:
    """Convert GiB of an option to bytes.

    Raises
    ------
    BadSettingsError
        It is no finite number.
    """
    if not math.isfinite(gib):
        raise BadSettingsError(f"{name} must be a finite number of GiB, not {gib}")
    return int(gib * GIB)


def parse_senders(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[Peer, ...]]:
    """Parse the senders of `--peer`: titles, or addresses `AET@host:port`; commas separate them.

    Returns
    -------
    titles : tuple of str
    peers : tuple of Peer
        Those with an address.
    """
    single = [one.strip() for text in texts for one in text.split(",")]
    peers = tuple(parse_peer(text) for text in single if "@" in text)
    titles = tuple(check_title(text) for text in single if "@" not in text)
    return (*titles, *(peer.title for peer in peers)), peers


def server_tls(cert: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext | None:
    """Build the TLS context of associations that peers open; with `ca` they need a certificate.

    Raises
    ------
    BadSettingsError
        A file is missing, cannot be read, or does not belong to the others.
    """
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None:
        raise BadSettingsError("TLS of the node needs --listen-cert and --listen-key")
    context = _DeferredHandshake(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key, ca)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Build the TLS context of associations that the node opens; None without `ca`.

    Raises
    ------
    BadSettingsError
        As `server_tls`.
    """
    if ca is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key, ca)
    return context


class _DeferredHandshake(ssl.SSLContext):
    """Leaves the handshake to the thread of the association.

    pynetdicom wraps a connection in the thread that accepts all of them: there a peer that sends
    nothing would keep out every other one.
    """

    def wrap_socket(self, *arguments: object, **options: object) -> ssl.SSLSocket:
        """Wrap without a handshake; the first read performs it."""
        options["do_handshake_on_connect"] = False
        return super().wrap_socket(*arguments, **options)  # type: ignore[arg-type]


def _load(context: ssl.SSLContext, cert: Path | None, key: Path | None, ca: Path | None) -> None:
    try:
        if cert is not None and key is not None:
            context.load_cert_chain(cert, key, password=str)
        if ca is not None:
            context.load_verify_locations(ca)
    except ssl.SSLError:
        raise BadSettingsError(
            "certificate, key and authority of the node do not belong together, or are no PEM files"
        ) from None
    except OSError as error:
        names = ", ".join(p.name for p in (cert, key, ca) if p is not None)
        raise BadSettingsError(f"{names}: cannot be read: {error.strerror}") from None
