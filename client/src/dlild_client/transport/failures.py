"""Maps failed calls and messages of the server to the error tree."""

from __future__ import annotations

import re
from typing import Any

import grpc

from dlild_client.contract import refusals
from dlild_client.errors import (
    BusyError,
    ConnectionFailedError,
    DlildError,
    KeyRefusedError,
    ModelNotFoundError,
    NotReadyError,
    RefusedError,
    ScanLostError,
    ServerError,
    TimedOutError,
)

_KINDS: dict[str, tuple[type[DlildError], str]] = {
    refusals.BusyError.code: (BusyError, "try again later"),
    refusals.GoneError.code: (ScanLostError, "send the scan again"),
    refusals.RefusedError.code: (RefusedError, "sending the same again will not help"),
    refusals.IncompleteError.code: (ScanLostError, "send the scan again"),
    refusals.FailedError.code: (ServerError, "look at its log"),
    refusals.CancelledError.code: (ScanLostError, "send the scan again"),
}
_RETRY_AFTER = re.compile(r"\bsend it again in (\d+(?:\.\d+)?) s\b")
"""The server's estimate, in a BUSY, of when it can take the scan."""
_PREFIX = re.compile(rf"\b({'|'.join(_KINDS)}): .*", flags=re.DOTALL)

_TRITON_SAYS: tuple[tuple[str, type[DlildError], str], ...] = (
    # Triton does not hold the sequence: it never began, has ended, or timed out.
    ("must specify the start flag", ScanLostError, "send the scan again"),
    ("must specify a non-zero or non-empty correlation", RefusedError, "update the client"),
    ("maximum queue size", BusyError, "try again later"),
    ("request timeout expired", BusyError, "try again later"),
    # A stopping server refuses new requests and cuts off open ones.
    ("stopped accepting new inference requests", NotReadyError, "try again when it is back"),
    ("server is stopping", NotReadyError, "try again when it is back"),
    ("server exiting", NotReadyError, "try again when it is back"),
    ("server not ready", NotReadyError, "try again when it is"),
    ("is not ready", NotReadyError, "try again when it is"),
    ("not at ready state", NotReadyError, "try again when it is"),
    # The repository has the model, but it is not loaded (any more).
    ("has no available versions", NotReadyError, "try again when it is ready"),
    ("unloaded", NotReadyError, "try again when it is back"),
    ("unknown model", ModelNotFoundError, "look at its model repository and its log"),
    # The process of a Python model was killed, mostly out of memory; Triton restarts it.
    ("is not healthy", NotReadyError, "look at its memory and its log"),
)
_CUT_OFF = "Internal error from Core"
"""Details that grpc.aio reports for a stream that the server ended during a write."""

_BROKEN_LINE = re.compile(
    r"rst_stream|goaway|stream removed|socket closed|connection (reset|refused|aborted|timed out)"
    r"|broken pipe|transport is closing",
    flags=re.IGNORECASE,
)
"""How gRPC describes a broken connection; the codes UNKNOWN and INTERNAL occur, too."""

_PROXY_STATUS = re.compile(r"http2? header with status: (\d{3})", flags=re.IGNORECASE)
"""How gRPC describes an HTTP answer of a proxy."""
_PROXY_WAITS = {"429", "500", "502", "503", "504", "520", "521", "522", "523", "524"}
"""HTTP status of a proxy that has no healthy server, or is busy itself."""

_RESTRICTED = "this protocol is restricted"
"""Details, with the code UNAVAILABLE, of Triton for a call without the right key."""

SCAN_TIMED_OUT = (
    "the scan took longer than its time limit; look at the server, or give it more time"
)

_LINE_CODES = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}

_CODES: dict[grpc.StatusCode, tuple[type[DlildError], str]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (TimedOutError, SCAN_TIMED_OUT),
    grpc.StatusCode.UNAUTHENTICATED: (
        KeyRefusedError,
        "the server refuses the key: {}; check the API key",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        KeyRefusedError,
        "the server refuses the key: {}; check the API key",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        RefusedError,
        "a message is too large or too many are sent: {}; look at the limits on the way",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        RefusedError,
        "the server refuses the request: {}; check address and versions",
    ),
}


def from_server_message(message: str) -> DlildError:
    """Map a message of the server to an error, by its prefix (`docs/wire.md`).

    Triton puts words of its own before the prefix, so it is searched for.
    """
    match = _PREFIX.search(message)
    if match:
        kind, remedy = _KINDS[match.group(1)]
        text = f"the server answers {_short(match.group(0))}; {remedy}"
        if kind is BusyError and (estimate := _RETRY_AFTER.search(match.group(0))):
            return BusyError(text, retry_after_s=float(estimate.group(1)))
        return kind(text)
    for words, kind, remedy in _TRITON_SAYS:
        if words in message.lower():
            return kind(f"the server answers {_short(message)}; {remedy}")
    return ServerError(f"the server failed: {_short(message)}; look at its log")


def from_rpc_error(error: Any) -> DlildError:
    """Map a failed gRPC call to an error."""
    code, details = error.code(), str(error.details() or "no details")
    if _PREFIX.search(details):
        return from_server_message(details)
    if proxy := _PROXY_STATUS.search(details):
        return _from_proxy(proxy.group(1), code, details)
    if (
        code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        or details == _CUT_OFF
        or (code in _LINE_CODES and _BROKEN_LINE.search(details))
    ):
        return _from_unavailable(details)
    if code == grpc.StatusCode.NOT_FOUND:
        return from_server_message(details)
    return _from_code(code, details)


def _from_proxy(status: str, code: grpc.StatusCode, details: str) -> DlildError:
    """Map an HTTP status that came instead of a gRPC answer to an error."""
    if status in _PROXY_WAITS:
        return NotReadyError(
            f"a proxy on the way answers HTTP {status}: no server behind it is ready; "
            "try again when one is"
        )
    if status == "404":
        return ModelNotFoundError(
            "a proxy on the way answers HTTP 404: it knows no way to a server; "
            "look at the address and at its routes"
        )
    return _from_code(code, details)


def _from_code(code: grpc.StatusCode, details: str) -> DlildError:
    kind, text = _CODES.get(
        code, (ServerError, f"the server failed ({code.name}): {{}}; look at its log")
    )
    return kind(text.format(_short(details)))


def _from_unavailable(details: str) -> DlildError:
    """Map UNAVAILABLE to an error: a wrong key, a full queue, or a broken connection."""
    if _RESTRICTED in details.lower():
        return KeyRefusedError(
            "the server wants an API key, and there was none or a wrong one; "
            "give the right one with api_key=, --api-key-file or DLILD_API_KEY"
        )
    error = from_server_message(details)
    if isinstance(error, BusyError | NotReadyError):
        return error
    return ConnectionFailedError(
        f"the connection to the server broke: {_short(details)}; try again"
    )


def _short(message: str) -> str:
    text = " ".join(message.split()).rstrip(".;")
    return text if len(text) <= 300 else text[:297] + "..."
