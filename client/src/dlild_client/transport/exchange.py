"""The stream of one scan as pure rules: what to send next, and what an answer means.

Every window is answered once, in order, and only the last answer carries a score. Anything else (an
error, a missing answer, an answer too many, the end of the stream) is an error of the tree.
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
    """Make the requests of one scan, in order, under a fresh id."""
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
    """One sending of one scan; it knows no network.

    Parameters
    ----------
    requests : iterator of WindowRequest
        In order; each is made when it is sent.
    contract : Contract
        That the scan was prepared for: its version of the model must answer.
    count : int
        How many windows there are.
    in_flight : int
        Windows that may be unanswered at any time.
    cautious : bool
        Wait for the answer to the first window before more are sent: for a server that was busy.

    Attributes
    ----------
    sent, answered : int
    engine : str or None
        Engine and precision, where the server tells.
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
        """Whether the next window goes out before another answer is waited for."""
        open_windows = self.sent - self.answered
        most = 1 if self._cautious and not self.answered else self._in_flight
        return self.sent < self.count and open_windows < most

    @property
    def is_answered(self) -> bool:
        """Whether as many answers came as there are windows."""
        return self.answered >= self.count

    def next_message(self) -> Any:
        """Make the protobuf message of the next window."""
        request = next(self._requests)
        self._first = self._first or request
        self.sent += 1
        return request.message()

    def take(self, response: Any) -> None:
        """Count what came on the stream; None is its end.

        Raises
        ------
        DlildError
            It says, or is, that the scan has failed.
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
        """Take what came after the last answer, which must be the stream's end, None."""
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
        """Message that frees an unfinished scan's place on the server; None where it holds none.

        Also where every window was sent: Triton drops those of a stream that ends between its
        steps, the last one with them.
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
