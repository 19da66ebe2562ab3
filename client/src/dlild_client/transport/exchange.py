"""Protocol state machine of one scan, without I/O: what to send next, what an answer means.

Every window is answered once, in order, and only the last answer carries a score. Anything else (an
error, a missing or surplus answer, the end of the stream) raises an error of the tree.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from dlild_client.contract import Contract
from dlild_client.errors import ConnectionFailedError, ContractError, ServerError
from dlild_client.preparation.prepare import PreparedScan
from dlild_client.transport.failures import from_server_message
from dlild_client.transport.wire import Answer, FinalAnswer, WindowRequest, parse_answer


def window_requests(prepared: PreparedScan, contract: Contract) -> Iterator[WindowRequest]:
    """Yield the requests of one scan, in order, under a fresh id."""
    sequence_id = str(uuid.uuid4())
    count = len(prepared.plan.origins)
    for index, (origin, window) in enumerate(prepared.windows(contract.hu.padding)):
        yield WindowRequest(
            sequence_id=sequence_id,
            window=window,
            origin=origin,
            box_shape=prepared.box.shape,
            index=index,
            count=count,
            voxel_volume_mm3=contract.grid.voxel_volume_mm3,
        )


class Exchange:
    """State of one attempt to send a scan; performs no I/O.

    Parameters
    ----------
    requests : iterator of WindowRequest
        In order; consumed lazily.
    contract : Contract
        The scan was prepared for it; answers of another model version are an error.
    count : int
        Number of windows.
    in_flight : int
        Most unanswered windows.
    cautious : bool
        Wait for the first answer before the second window is sent: for a server that was busy.

    Attributes
    ----------
    sent, answered : int
    engine : str or None
        Engine and precision, where the server reports them.
    """

    def __init__(
        self,
        requests: Iterator[WindowRequest],
        contract: Contract,
        *,
        count: int,
        in_flight: int,
        cautious: bool = False,
    ) -> None:
        self.count = count
        self.sent = 0
        self.answered = 0
        self.engine: str | None = None
        self._requests = requests
        self._smallest = contract.windows.minimum
        self._version = str(contract.model.version)
        self._in_flight = in_flight
        self._cautious = cautious
        self._first: WindowRequest | None = None
        self._final: FinalAnswer | None = None
        self._ids: set[str] = set()
        self._responses = 0

    @property
    def may_send(self) -> bool:
        """Whether to send the next window before waiting for an answer."""
        open_windows = self.sent - self.answered
        most = 1 if self._cautious and not self.answered else self._in_flight
        return self.sent < self.count and open_windows < most

    @property
    def is_answered(self) -> bool:
        """Whether every window is answered."""
        return self.answered >= self.count

    def next_message(self) -> Any:
        """Build the protobuf message of the next window."""
        request = next(self._requests)
        self._first = self._first or request
        self.sent += 1
        return request.message()

    def take(self, response: Any) -> None:
        """Process a response of the stream; None is its end.

        Raises
        ------
        DlildError
            The response is an error, or breaks the protocol.
        """
        if response is None:
            raise ConnectionFailedError(
                "the server closed the stream before the scan was done; try again"
            )
        self._responses += 1
        if response.error_message:
            raise from_server_message(response.error_message)
        answer = parse_answer(response.infer_response)
        self._check_version(answer.model_version)
        self._count(answer)

    def take_after_end(self, response: Any) -> None:
        """Process what follows the last answer: it must be the end of the stream, None."""
        if response is not None:
            raise ServerError(
                f"the server answered more often than the {self.count} windows of the scan; "
                "try again"
            )

    def result(self) -> FinalAnswer:
        """Return the last answer, once all windows are answered.

        Raises
        ------
        ServerError
            None of them carried a score.
        """
        if self._final is None:
            raise ServerError(
                f"the server answered all {self.count} windows without a score; try again"
            )
        return self._final

    def abort_request(self) -> Any | None:
        """Request that frees the slot of an unfinished scan on the server; None if it holds none.

        Needed also where every window was sent: a server of version 0.1 drops the requests of a
        stream that ended between its models, the last window included.
        """
        if self._first is None or self._responses >= self.count:
            return None
        return self._first.abort_request(self._smallest)

    def _check_version(self, version: str) -> None:
        if version != self._version:
            raise ContractError(
                f"version {version or 'unknown'} of the model answered, the server's contract is "
                f"of version {self._version}; look at the server's model repository"
            )

    def _count(self, answer: Answer) -> None:
        self.answered += 1
        if answer.request_id and answer.request_id in self._ids:
            raise ServerError(f"the server answered window {answer.request_id} twice; try again")
        self._ids.add(answer.request_id)
        if self.answered > self.sent:
            raise ServerError(
                f"the server gave {self.answered} answers to {self.sent} windows; try again"
            )
        self.engine = answer.engine or self.engine
        if answer.final is not None:
            self._check_final(answer)
            self._final = answer.final

    def _check_final(self, answer: Answer) -> None:
        if self.answered != self.count:
            raise ServerError(
                f"the server gave a score after {self.answered} of {self.count} answers; try again"
            )
        if answer.windows_received != self.count:
            raise ServerError(
                f"the server gave a score from {answer.windows_received} of {self.count} "
                "windows; try again"
            )
