"""The blocking client."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

from dlild_client.core import (
    ABORT_TIMEOUT_S,
    DEFAULT_CONCURRENCY,
    Core,
    Outcome,
    Scan,
    ScanProgress,
    bind,
)
from dlild_client.errors import DlildError
from dlild_client.preparation.prepare import Progress
from dlild_client.results.result import Result
from dlild_client.settings import Limits, Retries, Settings, Timeout, find_settings
from dlild_client.tls import TLS
from dlild_client.transport.blocking import BlockingTransport, Slots, run
from dlild_client.transport.cancel import CancelToken, poll
from dlild_client.transport.connection import ServerInfo


class Client:
    """Blocking client of a DL-ILD server.

    Parameters
    ----------
    url : str, optional
        `grpc://host:port`, or `grpcs://host:port` for TLS.
    tls : TLS, optional
        Certificates; without them the server's must be signed by a public authority.
    api_key : str, optional
        It shows in no message, log or representation.
    timeout : Timeout, optional
    limits : Limits, optional
    retries : Retries, optional

    Raises
    ------
    BadSettingsError
        An argument or a `DLILD_*` variable is wrong. The constructor does not connect: an absent
        server raises at the first call.

    Notes
    -----
    Arguments left out come from `DLILD_*` variables, then from defaults (table in
    `dlild_client.settings`). Thread-safe.

    Examples
    --------
    >>> with Client("grpc://127.0.0.1:8001") as client:  # doctest: +SKIP
    ...     print(client.score("scan/").dl_ild_percent)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tls: TLS | None = None,
        api_key: str | None = None,
        timeout: Timeout | None = None,
        limits: Limits | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._open(
            find_settings(
                url, tls=tls, api_key=api_key, timeout=timeout, limits=limits, retries=retries
            )
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Client:
        """Construct a client from the settings that `settings.find_settings` returns."""
        client = cls.__new__(cls)
        client._open(settings)
        return client

    def _open(self, settings: Settings) -> None:
        self._settings = settings
        if self._settings.address.secure:
            self._settings.tls.read()
        self._core = Core()
        self._slots = Slots.of(self._settings)
        self._closed = CancelToken()

    def __repr__(self) -> str:
        """Name the server, and nothing secret."""
        return f"Client({self._settings.address.url!r})"

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Cancel the scans in progress; later calls raise `CancelledError`."""
        self._closed.cancel()

    def info(self, cancel: CancelToken | None = None) -> ServerInfo:
        """Fetch the server's contract, version and profile.

        Raises
        ------
        ConnectionFailedError, RefusedError, ServerError, ContractError, CancelledError
        """
        with linked_token(self._closed, cancel) as token:
            return run(self._core.info(self._transport(token)))

    def score(
        self, scan: Scan, progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> Result:
        """Score one scan.

        Errors that may pass are retried under a new id (`Retries`). An interruption, an exception
        of `progress` and `cancel` abort the scan on the server, too.

        Parameters
        ----------
        scan : path, Volume or callable
            What `read_volume` reads, a volume in HU, or a function that returns one, such as
            ``lambda: read_volume(path, series=uid)``.
        progress : callable, optional
            Called as ``progress(stage, done, whole)``; the stage of a retry is `again`.
        cancel : CancelToken, optional
            Cancels the scan from another thread.

        Returns
        -------
        Result

        Raises
        ------
        DlildError
            Any branch of the tree in `dlild_client.errors`.
        """
        with linked_token(self._closed, cancel) as token:
            return run(self._core.score(self._transport(token), scan, progress))

    def score_many(
        self,
        scans: Iterable[Scan],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: ScanProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Outcome]:
        """Score scans concurrently, and yield the outcome of each as it completes.

        Parameters
        ----------
        scans : iterable of path or Volume
            Consumed lazily: may be a generator.
        concurrency : int
            Scans in progress at once; bounds the memory.
        progress : callable, optional
            Called as ``progress(scan, stage, done, whole)``, from several threads.
        cancel : CancelToken, optional
            Cancels all of them.

        Yields
        ------
        Outcome
            In the order of completion. The error of a scan is in its outcome; the others go on.

        Raises
        ------
        CancelledError
        """
        with linked_token(self._closed, cancel) as token:
            pool = _WorkerPool(lambda scan: self.score(scan, bind(progress, scan), token))
            feed = iter(scans)
            try:
                for scan in islice(feed, max(1, concurrency)):
                    pool.start(scan)
                while pool.running:
                    outcome = pool.next_outcome()
                    token.check()
                    # The next scan starts before the caller handles this outcome.
                    for scan in islice(feed, 1):
                        pool.start(scan)
                    yield outcome
            finally:
                token.cancel()
                pool.join()

    def _transport(self, token: CancelToken) -> BlockingTransport:
        return BlockingTransport(self._settings, self._slots, token)


@contextmanager
def linked_token(*tokens: CancelToken | None) -> Iterator[CancelToken]:
    """Yield a token that is cancelled when any of the others is."""
    own = CancelToken()
    with ExitStack() as stack:
        for token in tokens:
            if token is not None:
                stack.enter_context(token.on_cancel(own.cancel))
        yield own


class _WorkerPool:
    """One daemon thread per scan: none keeps the interpreter from exiting."""

    def __init__(self, score: Callable[[Scan], Result]) -> None:
        self._score = score
        self._threads: set[threading.Thread] = set()
        self._done: queue.SimpleQueue[tuple[threading.Thread, Outcome | BaseException]] = (
            queue.SimpleQueue()
        )

    @property
    def running(self) -> bool:
        return bool(self._threads)

    def start(self, scan: Scan) -> None:
        thread = threading.Thread(target=self._run, args=(scan,), daemon=True, name="dlild-scan")
        self._threads.add(thread)
        thread.start()

    def next_outcome(self) -> Outcome:
        thread, outcome = poll(lambda poll_s: self._done.get(timeout=poll_s), math.inf)
        self._threads.discard(thread)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def join(self) -> None:
        """Wait until the threads have sent their abort requests."""
        deadline = time.monotonic() + ABORT_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, scan: Scan) -> None:
        outcome: Outcome | BaseException
        try:
            outcome = Outcome(scan, result=self._score(scan))
        except DlildError as error:
            outcome = Outcome(scan, error=error)
        except BaseException as error:
            outcome = error
        self._done.put((threading.current_thread(), outcome))
