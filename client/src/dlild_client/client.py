"""The client: a scan in, its result out."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from types import TracebackType

from tritonclient.grpc import service_pb2_grpc

from dlild_client.connection import ServerInfo, ask_server, open_channel, parse_url
from dlild_client.contract import Contract
from dlild_client.prepare import PreparedScan, Progress, prepare, silent
from dlild_client.read import read_volume
from dlild_client.result import Result, build_result
from dlild_client.stream import Timeout, send_scan
from dlild_client.volume import Volume
from dlild_client.wire import WindowRequest

DEFAULT_URL = "grpc://127.0.0.1:8001"


class Client:
    """A connection to a DL-ILD server.

    Parameters
    ----------
    url : str
        `grpc://host:port`, or `grpcs://host:port` for TLS.
    timeout : Timeout, optional

    Raises
    ------
    BadAddress
        `url` is no address. Nothing is sent yet; an absent server shows at the first call.

    Notes
    -----
    May be used from several threads at once; every scan has a stream of its own.

    Examples
    --------
    >>> with Client("grpc://127.0.0.1:8001") as client:  # doctest: +SKIP
    ...     print(client.score("scan/").dl_ild_percent)
    """

    def __init__(self, url: str = DEFAULT_URL, timeout: Timeout | None = None) -> None:
        self._address = parse_url(url)
        self._timeout = timeout or Timeout()
        self._channel = open_channel(self._address)

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls after this fail."""
        self._channel.close()

    def info(self) -> ServerInfo:
        """Ask the server for its contract, version and profile.

        Raises
        ------
        ConnectionFailed, ServerError, ContractError
        """
        return ask_server(self._channel, self._address.url, self._timeout)

    def score(
        self, scan: str | os.PathLike[str] | Volume, progress: Progress | None = None
    ) -> Result:
        """Score one scan.

        Parameters
        ----------
        scan : path or Volume
            What `read_volume` reads, or a volume in HU.
        progress : callable, optional
            Called as ``progress(stage, done, whole)``.

        Returns
        -------
        Result

        Raises
        ------
        DlildError
            Any branch of the tree in `dlild_client.errors`.
        """
        report = progress or silent
        start = time.perf_counter()
        # Before the scan is read: an absent server must not cost the time to read it.
        info = self.info()
        asked = time.perf_counter()
        report("read", 0, 1)
        volume = scan if isinstance(scan, Volume) else read_volume(scan)
        report("read", 1, 1)
        read = time.perf_counter()
        prepared = prepare(volume, info.contract, progress)
        sending = time.perf_counter()
        count = len(prepared.plan.origins)
        report("inference", 0, count)
        final, engine = send_scan(
            service_pb2_grpc.GRPCInferenceServiceStub(self._channel),
            window_requests(prepared, info.contract),
            count=count,
            in_flight=info.contract.windows.in_flight,
            timeout=self._timeout,
            on_answer=lambda done, whole: report("inference", done, whole),
        )
        end = time.perf_counter()
        timings = {
            "read": read - asked,
            **prepared.timings_s,
            "inference": end - sending,
            "total": end - start,
        }
        return build_result(prepared, final, engine, info, timings)


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
