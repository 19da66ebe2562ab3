"""One gRPC stream a scan: windows in flight are bounded, and nothing hangs or is believed blindly.

Every window is answered once, in order, and only the last answer carries a score. Anything else (an
error, a missing answer, an answer too many, the end of the stream) is an error of the tree, raised
at once or after `Timeout.answer_s`.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

from dlild_client.errors import (
    Busy,
    ConnectionFailed,
    DlildError,
    Refused,
    ScanLost,
    ServerError,
    TimedOut,
)
from dlild_client.wire import Answer, FinalAnswer, WindowRequest, parse_answer

_END = object()
_CLOSING_S = 2.0
_FAREWELL_S = 5.0


@dataclass(frozen=True)
class Timeout:
    """How long to wait, in seconds.

    Attributes
    ----------
    connect_s : float
        For the first words with a server.
    answer_s : float
        For the next answer on a stream: progress within this time, or the scan fails.
    scan_s : float
        For one whole scan.
    """

    connect_s: float = 5.0
    answer_s: float = 60.0
    scan_s: float = 900.0

    def __post_init__(self) -> None:
        """Raise ValueError unless every time is positive."""
        if not all(t > 0 for t in (self.connect_s, self.answer_s, self.scan_s)):
            raise ValueError(f"times must be positive: {self}")


def send_scan(
    stub: Any,
    requests: Iterable[WindowRequest],
    *,
    count: int,
    in_flight: int,
    timeout: Timeout,
    on_answer: Callable[[int, int], None] | None = None,
) -> tuple[FinalAnswer, str | None]:
    """Send the windows of one scan and wait for its score.

    Parameters
    ----------
    stub : GRPCInferenceServiceStub
    requests : iterable of WindowRequest
        In order; each is made when it is sent.
    count : int
        How many there are.
    in_flight : int
        Windows that may be unanswered at any time.
    timeout : Timeout
    on_answer : callable, optional
        Called with the number of answers and `count`.

    Returns
    -------
    final : FinalAnswer
    engine : str or None
        Engine and precision, where the server tells.

    Raises
    ------
    DlildError
        Any branch of the tree but `InputError` and `ContractError`.
    """
    report = on_answer or (_silent)
    tally = _Tally(count)
    first: WindowRequest | None = None
    sent = 0
    try:
        with _Stream(stub, timeout) as stream:
            for request in requests:
                while sent - tally.answered >= in_flight:
                    tally.add(stream.receive())
                    report(tally.answered, count)
                stream.send(request.message())
                sent += 1
                first = first or request
            while tally.answered < count:
                tally.add(stream.receive())
                report(tally.answered, count)
            final = tally.result()
            if stream.finish() is not None:
                raise ServerError(
                    f"the server answered more often than the {count} windows of the scan; "
                    "try again"
                )
    except BaseException:
        # Also when the caller cancels: the server holds the place until it hears of it.
        if first is not None and sent < count:
            _say_farewell(stub, first)
        raise
    return final, tally.engine


def _say_farewell(stub: Any, request: WindowRequest) -> None:
    """Free the place of an unfinished scan at once; what the server says to it does not matter.

    On a stream of its own, since the scan's may be broken. It waits for the answer, because Triton
    drops the requests of a stream that ends between its steps.
    """
    # ValueError: the channel was closed under the scan.
    with contextlib.suppress(grpc.RpcError, ValueError):
        for _ in stub.ModelStreamInfer(iter([request.farewell()]), timeout=_FAREWELL_S):
            return


def _silent(_done: int, _whole: int) -> None:
    pass


class _Tally:
    """Counts answers and refuses those that cannot be right."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.answered = 0
        self.engine: str | None = None
        self._final: FinalAnswer | None = None
        self._ids: set[str] = set()

    def add(self, answer: Answer) -> None:
        self.answered += 1
        if answer.request_id and answer.request_id in self._ids:
            raise ServerError(f"the server answered window {answer.request_id} twice; try again")
        self._ids.add(answer.request_id)
        if answer.final is not None and self.answered != self.count:
            raise ServerError(
                f"the server gave a score after {self.answered} of {self.count} answers; try again"
            )
        self.engine = answer.engine or self.engine
        if answer.final is not None:
            if answer.windows_received != self.count:
                raise ServerError(
                    f"the server gave a score from {answer.windows_received} of {self.count} "
                    "windows; try again"
                )
            self._final = answer.final

    def result(self) -> FinalAnswer:
        if self._final is None:
            raise ServerError(
                f"the server answered all {self.count} windows without a score; try again"
            )
        return self._final


class _Stream:
    """A gRPC stream whose answers arrive in a queue, so that waiting for one has a time limit."""

    def __init__(self, stub: Any, timeout: Timeout) -> None:
        self._timeout = timeout
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = stub.ModelStreamInfer(iter(self._outgoing.get, None), timeout=timeout.scan_s)
        self._reader = threading.Thread(target=self._read, daemon=True, name="dlild-answers")

    def __enter__(self) -> _Stream:
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In this order: the sender's iterator ends, the call ends whatever the server does, the
        # reader ends.
        self._outgoing.put(None)
        self._call.cancel()
        self._reader.join(_CLOSING_S)

    def send(self, message: Any) -> None:
        self._outgoing.put(message)

    def receive(self) -> Answer:
        """Wait for the next answer; the end of the stream and the end of patience are errors."""
        try:
            item = self._incoming.get(timeout=self._timeout.answer_s)
        except queue.Empty:
            raise TimedOut(
                f"no answer from the server for {self._timeout.answer_s:g} s; look at the server, "
                "or give it "
                "more time"
            ) from None
        if item is _END:
            raise ConnectionFailed(
                "the server closed the stream before the scan was done; try again"
            )
        if isinstance(item, grpc.RpcError):
            raise from_rpc_error(item)
        if item.error_message:
            raise from_server_message(item.error_message)
        return parse_answer(item.infer_response)

    def finish(self) -> Any:
        """Say that nothing more is sent; return an answer that still comes, or None."""
        self._outgoing.put(None)
        with contextlib.suppress(queue.Empty):
            item = self._incoming.get(timeout=_CLOSING_S)
            return None if item is _END or isinstance(item, grpc.RpcError) else item
        return None

    def _read(self) -> None:
        try:
            for response in self._call:
                self._incoming.put(response)
        except grpc.RpcError as error:
            self._incoming.put(error)
        finally:
            self._incoming.put(_END)


_KINDS: dict[str, tuple[type[DlildError], str]] = {
    "BUSY": (Busy, "try again later"),
    "GONE": (ScanLost, "send the scan again"),
    "REFUSED": (Refused, "sending the same again will not help"),
    "INCOMPLETE": (ScanLost, "send the scan again"),
    "FAILED": (ServerError, "look at its log"),
}
_PREFIX = re.compile(r"\b(BUSY|GONE|REFUSED|INCOMPLETE|FAILED)\b.*", flags=re.DOTALL)

_TRITON_SAYS: tuple[tuple[str, type[DlildError], str], ...] = (
    # Triton itself does not hold the sequence: it never began there, was ended, or fell silent.
    ("must specify the start flag", ScanLost, "send the scan again"),
    ("must specify a non-zero or non-empty correlation", Refused, "update the client"),
    ("maximum queue size", Busy, "try again later"),
)


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
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(
            "the scan took longer than its time limit; look at the server, or give it more time"
        )
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        if "queue" in details.lower():
            return from_server_message(details)
        return ConnectionFailed(f"the connection to the server broke: {_short(details)}; try again")
    if code in {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }:
        return Refused(
            f"the server refuses the request: {_short(details)}; check address, key and versions"
        )
    return ServerError(f"the server failed ({code.name}): {_short(details)}; look at its log")


def _short(message: str) -> str:
    text = " ".join(message.split()).rstrip(".;")
    return text if len(text) <= 300 else text[:297] + "..."
