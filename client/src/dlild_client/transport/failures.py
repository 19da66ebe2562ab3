"""What a failed call or a message of the server means: pure, from words to the error tree."""

from __future__ import annotations

import re
from typing import Any

import grpc

from dlild_client.errors import (
    Busy,
    ConnectionFailed,
    DlildError,
    KeyRefused,
    NotReady,
    Refused,
    ScanLost,
    ServerError,
    TimedOut,
)

_KINDS: dict[str, tuple[type[DlildError], str]] = {
    "BUSY": (Busy, "try again later"),
    "GONE": (ScanLost, "send the scan again"),
    "REFUSED": (Refused, "sending the same again will not help"),
    "INCOMPLETE": (ScanLost, "send the scan again"),
    "FAILED": (ServerError, "look at its log"),
    "CANCELLED": (ScanLost, "send the scan again"),
}
_PREFIX = re.compile(rf"\b({'|'.join(_KINDS)}): .*", flags=re.DOTALL)

_TRITON_SAYS: tuple[tuple[str, type[DlildError], str], ...] = (
    # Triton itself does not hold the sequence: it never began there, was ended, or fell silent.
    ("must specify the start flag", ScanLost, "send the scan again"),
    ("must specify a non-zero or non-empty correlation", Refused, "update the client"),
    ("maximum queue size", Busy, "try again later"),
    # A server that stops refuses what is new and cuts off what is open.
    ("stopped accepting new inference requests", NotReady, "try again when it is back"),
    ("server is stopping", NotReady, "try again when it is back"),
    ("server exiting", NotReady, "try again when it is back"),
    ("is not ready", NotReady, "try again when it is"),
    ("unloaded", NotReady, "try again when it is back"),
)
_CUT_OFF = "Internal error from Core"
"""What gRPC's event loop makes of a stream that the server ended while a window was written."""

_RESTRICTED = "this protocol is restricted"
"""With these words, as UNAVAILABLE, Triton refuses a call without the right key."""

_CODES: dict[grpc.StatusCode, tuple[type[DlildError], str]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        TimedOut,
        "the scan took longer than its time limit; look at the server, or give it more time",
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        KeyRefused,
        "the server refuses the key: {}; check the API key",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        KeyRefused,
        "the server refuses the key: {}; check the API key",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        Refused,
        "a message is too large or too many are sent: {}; look at the limits on the way",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        Refused,
        "the server refuses the request: {}; check address and versions",
    ),
}


def from_server_message(message: str) -> DlildError:
    """Find the error for a message of the server, by its prefix, as `docs/wire.md` has them.

    Triton puts words of its own before the prefix, so it is looked for, not expected at the start.
    """
    match = _PREFIX.search(message)
    if match:
        kind, remedy = _KINDS[match.group(1)]
        return kind(f"the server answers {_short(match.group(0))}; {remedy}")
    for words, kind, remedy in _TRITON_SAYS:
        if words in message.lower():
            return kind(f"the server answers {_short(message)}; {remedy}")
    return ServerError(f"the server failed: {_short(message)}; look at its log")


def from_rpc_error(error: Any) -> DlildError:
    """Find the error for a failed gRPC call."""
    code, details = error.code(), str(error.details() or "no details")
    if _PREFIX.search(details):
        return from_server_message(details)
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED} or details == _CUT_OFF:
        return _from_unavailable(details)
    kind, text = _CODES.get(
        code, (ServerError, f"the server failed ({code.name}): {{}}; look at its log")
    )
    return kind(text.format(_short(details)))


def _from_unavailable(details: str) -> DlildError:
    """Tell apart what all comes as UNAVAILABLE: a wrong key, a full queue, a broken line."""
    if _RESTRICTED in details.lower():
        return KeyRefused(
            "the server wants an API key, and there was none or a wrong one; "
            "give the right one with api_key=, --api-key-file or DLILD_API_KEY"
        )
    told = from_server_message(details)
    if isinstance(told, Busy | NotReady):
        return told
    return ConnectionFailed(f"the connection to the server broke: {_short(details)}; try again")


def _short(message: str) -> str:
    text = " ".join(message.split()).rstrip(".;")
    return text if len(text) <= 300 else text[:297] + "..."
