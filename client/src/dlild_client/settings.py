"""Settings of a client, by precedence: arguments, environment variables, defaults.

==========================  ======================  =======================================
variable                    argument                default
==========================  ======================  =======================================
``DLILD_URL``               ``url``                 ``grpc://127.0.0.1:8001``
``DLILD_API_KEY``           ``api_key``             none
``DLILD_API_KEY_FILE``      (a file with the key)   none
``DLILD_TLS_CA``            ``tls.ca``              the certificate authorities of gRPC
``DLILD_TLS_CERT``          ``tls.cert``            none
``DLILD_TLS_KEY``           ``tls.key``             none
``DLILD_TLS_SERVER_NAME``   ``tls.server_name``     the host of the address
``DLILD_CONNECT_S``         ``timeout.connect_s``   5
``DLILD_ANSWER_S``          ``timeout.answer_s``    60
``DLILD_SCAN_S``            ``timeout.scan_s``      900
``DLILD_SCANS``             ``limits.scans``        4
``DLILD_IN_FLIGHT``         ``limits.in_flight``    what the server's contract says
``DLILD_MESSAGE_BYTES``     ``limits.message_bytes``  2147483647
``DLILD_ATTEMPTS``          ``retries.attempts``    10 (1: never again)
``DLILD_FIRST_WAIT_S``      ``retries.first_wait_s``  0.5
``DLILD_LONGEST_WAIT_S``    ``retries.longest_wait_s``  15
==========================  ======================  =======================================

An argument replaces all variables of its group: with ``tls=TLS(ca=...)`` no ``DLILD_TLS_*`` is
read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlild_client.address import Address, parse_url
from dlild_client.errors import BadSettingsError
from dlild_client.tls import TLS

DEFAULT_URL = "grpc://127.0.0.1:8001"
LONGEST_MESSAGE = 2147483647
"""Largest message that gRPC can carry, in bytes."""


@dataclass(frozen=True)
class Timeout:
    """Time limits, in seconds.

    Attributes
    ----------
    connect_s : float
        For each call that fetches the contract.
    answer_s : float
        For the next answer on a stream; without one the attempt fails.
    scan_s : float
        For one scan, from its first window to its score, all attempts included.

    Raises
    ------
    BadSettingsError
        A time is not positive.
    """

    connect_s: float = 5.0
    answer_s: float = 60.0
    scan_s: float = 900.0

    def __post_init__(self) -> None:
        """Check the times."""
        _check_positive(self)


@dataclass(frozen=True)
class Limits:
    """Concurrency limits.

    Attributes
    ----------
    scans : int
        Scans that one client sends at the same time; further ones wait.
    in_flight : int or None
        Unanswered windows of a scan; capped by the server's contract.
    message_bytes : int
        Largest message that is sent or received.

    Raises
    ------
    BadSettingsError
        A limit is not positive, or messages are longer than gRPC can carry.
    """

    scans: int = 4
    in_flight: int | None = None
    message_bytes: int = LONGEST_MESSAGE

    def __post_init__(self) -> None:
        """Check the limits."""
        _check_positive(self)
        if self.message_bytes > LONGEST_MESSAGE:
            raise BadSettingsError(
                f"message_bytes is {self.message_bytes}; gRPC carries {LONGEST_MESSAGE} at most"
            )


@dataclass(frozen=True)
class Retries:
    """Retry policy for errors that may pass (`DlildError.retryable`).

    These are: the server is busy, starts, stops or was restarted, the connection broke, the scan
    was lost. Exponential backoff with up to a second of jitter; `Timeout.scan_s` bounds the total.
    A server that is busy is waited for as long as it asks for, and costs no attempt.

    Attributes
    ----------
    attempts : int
        Attempts in all; 1 disables retries.
    first_wait_s, longest_wait_s : float

    Raises
    ------
    BadSettingsError
        A number is not positive.
    """

    attempts: int = 10
    first_wait_s: float = 0.5
    longest_wait_s: float = 15.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_positive(self)


@dataclass(frozen=True)
class Settings:
    """All settings of a client. The API key is left out of `repr`.

    Attributes
    ----------
    address : Address
    tls : TLS
    api_key : str or None
    timeout : Timeout
    limits : Limits
    retries : Retries
    """

    address: Address
    tls: TLS = field(default_factory=TLS)
    api_key: str | None = field(default=None, repr=False)
    timeout: Timeout = field(default_factory=Timeout)
    limits: Limits = field(default_factory=Limits)
    retries: Retries = field(default_factory=Retries)


def find_settings(
    url: str | None = None,
    *,
    tls: TLS | None = None,
    api_key: str | None = None,
    timeout: Timeout | None = None,
    limits: Limits | None = None,
    retries: Retries | None = None,
    variables: Mapping[str, str] | None = None,
) -> Settings:
    """Resolve the settings by precedence, as in the table of the module.

    Parameters
    ----------
    url, tls, api_key, timeout, limits, retries : optional
        As of `Client`.
    variables : mapping of str to str, optional
        Default: `os.environ`.

    Returns
    -------
    Settings

    Raises
    ------
    BadSettingsError
        Names the argument or variable that is wrong; never quotes the key.
    """
    variables = os.environ if variables is None else variables
    address = parse_url(url if url is not None else variables.get("DLILD_URL") or DEFAULT_URL)
    if tls is not None and not address.secure:
        raise BadSettingsError(
            f"{address.url} does not use TLS, yet tls is given; use grpcs:// or leave tls out"
        )
    return Settings(
        address=address,
        tls=tls or TLS(**_group(variables, _TLS)),
        api_key=_check_key(api_key if api_key is not None else _find_key(variables), address),
        timeout=timeout or Timeout(**_group(variables, _TIMEOUT)),
        limits=limits or Limits(**_group(variables, _LIMITS)),
        retries=retries or Retries(**_group(variables, _RETRIES)),
    )


def read_key(path: str | os.PathLike[str]) -> str:
    """Read an API key from a file; surrounding white space is stripped.

    Raises
    ------
    BadSettingsError
        The file cannot be read or is empty.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise BadSettingsError(f"{path.name}: the API key cannot be read: {reason}") from None
    if not text:
        raise BadSettingsError(f"{path.name}: the file of the API key is empty")
    return text


_Row = tuple[str, Callable[[str], Any]]
_TLS: dict[str, _Row] = {
    "DLILD_TLS_CA": ("ca", str),
    "DLILD_TLS_CERT": ("cert", str),
    "DLILD_TLS_KEY": ("key", str),
    "DLILD_TLS_SERVER_NAME": ("server_name", str),
}
_TIMEOUT: dict[str, _Row] = {
    "DLILD_CONNECT_S": ("connect_s", float),
    "DLILD_ANSWER_S": ("answer_s", float),
    "DLILD_SCAN_S": ("scan_s", float),
}
_LIMITS: dict[str, _Row] = {
    "DLILD_SCANS": ("scans", int),
    "DLILD_IN_FLIGHT": ("in_flight", int),
    "DLILD_MESSAGE_BYTES": ("message_bytes", int),
}
_RETRIES: dict[str, _Row] = {
    "DLILD_ATTEMPTS": ("attempts", int),
    "DLILD_FIRST_WAIT_S": ("first_wait_s", float),
    "DLILD_LONGEST_WAIT_S": ("longest_wait_s", float),
}
VARIABLES = (
    "DLILD_URL",
    "DLILD_API_KEY",
    "DLILD_API_KEY_FILE",
    *_TLS,
    *_TIMEOUT,
    *_LIMITS,
    *_RETRIES,
)
"""Every variable that a client reads."""


def _group(variables: Mapping[str, str], rows: Mapping[str, _Row]) -> dict[str, Any]:
    """Parse the variables of one group; an empty one counts as unset."""
    values = {}
    for name, (argument, kind) in rows.items():
        if text := variables.get(name):
            try:
                values[argument] = kind(text)
            except ValueError:
                raise BadSettingsError(f"{name} is {text!r}, not a number") from None
            if kind is not str and not values[argument] > 0:
                raise BadSettingsError(f"{name} must be positive, not {text}")
    return values


def _find_key(variables: Mapping[str, str]) -> str | None:
    if key := variables.get("DLILD_API_KEY"):
        return key
    path = variables.get("DLILD_API_KEY_FILE")
    return read_key(path) if path else None


def _check_key(key: str | None, address: Address) -> str | None:
    """Reject a key that no header can carry, or that would be sent unencrypted."""
    if key is None:
        return None
    if not key or not all("!" <= character <= "~" for character in key):
        raise BadSettingsError(
            "the API key is empty or holds a space or a character beyond ASCII; "
            "look at where it comes from"
        )
    if not address.secure and not address.is_loopback:
        raise BadSettingsError(
            f"the API key would be sent to {address.url} without encryption; use grpcs://"
        )
    return key


def _check_positive(values: Any) -> None:
    for name, value in vars(values).items():
        if value is not None and not value > 0:
            raise BadSettingsError(f"{name} must be positive, not {value!r}")
