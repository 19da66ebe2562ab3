"""Addresses of archives: `dicomweb+https://host/path` over HTTP, `AET@host:port` over DIMSE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from dlild_client.address import is_host, is_loopback
from dlild_client.errors import BadAddressError, BadSettingsError

SCHEMES = ("dicomweb+https://", "dicomweb+http://")
"""Beginnings of the address of a DICOMweb service."""

LONGEST_UID = 64
"""Characters of a UID (DICOM PS3.5, 9.1)."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_PEER = re.compile(
    r"(?P<title>[^@\\]{1,16})@(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+):(?P<port>\d{1,5})"
)
_EXTRAS = {
    "dicomweb_client": "dicomweb",
    "requests": "dicomweb",
    "pynetdicom": "node",
    "prometheus_client": "node",
    "highdicom": "dicom",
}


@dataclass(frozen=True)
class WebAddress:
    """Base URL of a DICOMweb service (DICOM PS3.18), such as `https://pacs.example/dicom-web`."""

    url: str

    @property
    def host(self) -> str:
        """Name or number of the host."""
        return urlsplit(self.url).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""
        return self.url.startswith("https://")

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        """Return the address as the user gives it."""
        return f"dicomweb+{self.url}"


@dataclass(frozen=True)
class Peer:
    """A DICOM application entity: its AE title, host and port."""

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as the user gives it."""
        return f"{self.title}@{self.host}:{self.port}"


def is_web_address(text: str) -> bool:
    """Whether a text is meant as the address of a DICOMweb service, and not as a path."""
    return text.lower().startswith(("dicomweb+", "http://", "https://"))


def parse_web_address(text: str) -> WebAddress:
    """Parse `dicomweb+https://host[:port][/path]` (or `dicomweb+http://`).

    Raises
    ------
    BadAddressError
        Another scheme, no host, a bad port, a user in the address, or a query.
    """
    if "@" in text:
        # The part before the @ may be a password: do not quote it.
        raise BadAddressError(
            "an address with a user is no address; give user and password by "
            "DLILD_DICOMWEB_USER and DLILD_DICOMWEB_PASSWORD_FILE"
        )
    usage = "use dicomweb+https://pacs.example/dicom-web"
    if not text.lower().startswith(SCHEMES):
        raise BadAddressError(f"{text}: not the address of a DICOMweb service; {usage}")
    url = text[len("dicomweb+") :].rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadAddressError(f"{text}: the port is no number from 1 to 65535; {usage}") from None
    path = parts.path
    if not parts.hostname or port == 0 or not is_host(parts.hostname):
        raise BadAddressError(f"{text}: no host in this address; {usage}")
    if parts.query or parts.fragment or not re.fullmatch(r"[\w/.~-]*", path) or ".." in path:
        raise BadAddressError(f"{text}: more than host, port and path; {usage}")
    return WebAddress(f"{parts.scheme.lower()}://{parts.netloc}{path}")


def parse_peer(text: str) -> Peer:
    """Parse `AET@host:port`.

    Raises
    ------
    BadAddressError
        It has another form, the title is no AE title, or the port is no port.
    """
    found = _PEER.fullmatch(text.strip())
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise BadAddressError(f"{text}: not the address of a DICOM node; use AET@host:104")
    host = found["host"].strip("[]")
    if not is_host(host):
        raise BadAddressError(f"{text}: {host!r} is no host; use AET@host:104, by name or number")
    return Peer(check_title(found["title"]), host, int(found["port"]))


def parse_destination(text: str) -> WebAddress | Peer:
    """Parse an address that results are sent to: a DICOMweb service or a DICOM node.

    Raises
    ------
    BadAddressError
        It is neither.
    """
    if is_web_address(text):
        return parse_web_address(text)
    if "@" not in text:
        raise BadAddressError(
            f"{text}: not a destination; use AET@host:104 or dicomweb+https://pacs.example/dicom-web"
        )
    return parse_peer(text)


def check_title(title: str) -> str:
    """Return an AE title without surrounding spaces.

    Raises
    ------
    BadAddressError
        Longer than 16 characters, empty, or with a character beyond printable ASCII
        (DICOM PS3.5, 6.2).
    """
    title = title.strip(" ")
    if not 1 <= len(title) <= 16 or "\\" in title or not all(" " <= c <= "~" for c in title):
        raise BadAddressError(
            f"{title!r} is no AE title; use 1 to 16 characters of ASCII, without a backslash"
        )
    return title


def check_uid(text: str, option: str) -> str:
    """Return a UID as it was given.

    Raises
    ------
    BadSettingsError
        It is no UID; the message names the option, not the value, which may identify a patient.
    """
    if len(text) > LONGEST_UID or not _UID.fullmatch(text):
        raise BadSettingsError(
            f"{option} is no UID; a UID has at most {LONGEST_UID} digits and dots, such as "
            "1.2.840.10008"
        )
    return text


def load_extra(name: str) -> Any:
    """Import a module of an extra.

    Raises
    ------
    BadSettingsError
        It is not installed; the message names the extra.
    """
    try:
        module: ModuleType = import_module(name)
    except ImportError:
        top = name.partition(".")[0]
        raise BadSettingsError(
            f"{top} is not installed; run: pip install 'dlild-client[{_EXTRAS[top]}]'"
        ) from None
    return module
