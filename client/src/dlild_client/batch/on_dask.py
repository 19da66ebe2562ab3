"""Scorer for a Dask cluster: workers read and send the scans, this process writes the rows.

Every scan is one task, identified by its key, and only this process writes rows: a scan has exactly
one row whatever happens to workers. Dask reruns a task whose worker is lost on another one; a scan
that takes down several workers gets a row with `WorkerLostError`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from dlild_client import __version__
from dlild_client.batch.run import Job
from dlild_client.batch.worker import Task, make_task, score_task
from dlild_client.core import Outcome, ScanProgress
from dlild_client.errors import (
    BadSettingsError,
    ConnectionFailedError,
    DlildError,
    WorkerLostError,
)
from dlild_client.results.result import Result
from dlild_client.transport.connection import ServerInfo

TASKS_A_THREAD = 2
"""Tasks per worker thread: one running, one queued."""

FEWEST_TASKS = 8
"""Least number of submitted tasks, so that an adaptive cluster scales up from zero workers."""


class DaskScorer:
    """Scores scans on the workers of a Dask cluster.

    Parameters
    ----------
    client : Client
        Client of this process; fetches the contract of the server.
    url : str
        Address of the server, for workers without `DLILD_URL`.
    scheduler : str
        Address of the Dask scheduler, such as `tcp://scheduler:8786`.
    voxels : bool
        Also return label map and image.
    timeout_s : float
        Time limit for the scheduler to answer.

    Raises
    ------
    BadSettingsError
        The extra is not installed, or the address is malformed.
    ConnectionFailedError
        No scheduler answers.
    """

    def __init__(
        self, client: Any, url: str, scheduler: str, *, voxels: bool, timeout_s: float = 10.0
    ) -> None:
        self._client = client
        self._url = url
        self._voxels = voxels
        self._cluster = _connect(scheduler, timeout_s)
        self._scheduler = scheduler
        # Concurrent runs never share a task: their servers may differ.
        self._run = uuid.uuid4().hex[:8]

    def __enter__(self) -> DaskScorer:
        """Return the scorer itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Disconnect from the cluster, which keeps running."""
        with suppress(OSError, TimeoutError):
            self._cluster.close(timeout=5)

    @property
    def threads(self) -> int:
        """Total threads of the current workers."""
        return sum(self._cluster.nthreads().values())

    def info(self) -> ServerInfo:
        """Fetch the contract of the server."""
        info: ServerInfo = self._client.info()
        return info

    def score_many(
        self, scans: Iterable[Job], *, concurrency: int, progress: ScanProgress | None = None
    ) -> Iterator[Outcome]:
        """Score jobs, and yield the outcome of each as it completes.

        Parameters
        ----------
        scans : iterable of Job
            Consumed lazily.
        concurrency : int
            Submitted tasks; 0 means twice the current threads of the workers.
        progress : callable, optional
            As for `Client.score_many`.

        Yields
        ------
        Outcome

        Raises
        ------
        ConnectionFailedError
            The scheduler does not answer any more.
        DlildError
            The workers cannot run the tasks at all.
        """
        feed = iter(scans)
        jobs: dict[str, Job] = {}
        finished = _dask().as_completed(loop=self._cluster.loop)
        with self._cancel_on_exit(jobs), self._subscribed(jobs, progress) as topic:
            while True:
                with self._scheduler_errors():
                    free = (concurrency or self._default_concurrency()) - len(jobs)
                for job in islice(feed, max(0, free)):
                    with self._scheduler_errors():
                        finished.add(self._submit(job, jobs, topic))
                if not jobs:
                    return
                with self._scheduler_errors():
                    future = next(finished)
                    outcome = Outcome(jobs[future.key], **_settle(future))
                del jobs[future.key]
                yield outcome

    def _default_concurrency(self) -> int:
        return max(FEWEST_TASKS, TASKS_A_THREAD * self.threads)

    def _submit(self, job: Job, jobs: dict[str, Job], topic: str | None) -> Any:
        key = f"dlild-{job.key}-{self._run}"
        jobs[key] = job
        task = make_task(
            job.scan, job.key, self._url, voxels=self._voxels, with_source=job.with_source
        )
        return self._cluster.submit(score_on_worker, task, key, topic, key=key, pure=False)

    @contextmanager
    def _scheduler_errors(self) -> Iterator[None]:
        """Convert errors of a lost scheduler."""
        try:
            yield
        except (OSError, TimeoutError, _dask().CancelledError, _dask().client.ClosedClientError):
            raise ConnectionFailedError(
                f"the Dask scheduler at {self._scheduler} is gone; "
                "start it, and the same command goes on from here"
            ) from None

    @contextmanager
    def _cancel_on_exit(self, jobs: Mapping[str, Job]) -> Iterator[None]:
        """Cancel the submitted tasks on exit.

        A running task goes on to its end on the worker; its result is dropped.
        """
        dask = _dask()
        try:
            yield
        finally:
            if jobs:
                # A client that has given up on its scheduler is closed, and cancels nothing.
                closed = dask.client.ClosedClientError
                with suppress(OSError, TimeoutError, dask.CancelledError, closed):
                    left = [dask.Future(key, client=self._cluster) for key in jobs]
                    self._cluster.cancel(left, force=True)

    @contextmanager
    def _subscribed(
        self, jobs: Mapping[str, Job], progress: ScanProgress | None
    ) -> Iterator[str | None]:
        """Forward the progress of the workers; yield the topic on which they report it."""
        if progress is None:
            yield None
            return
        topic = f"dlild-{self._run}"

        def on_event(event: tuple[float, tuple[str, str, int, int]]) -> None:
            key, stage, done, whole = event[1]
            if job := jobs.get(key):
                progress(job, stage, done, whole)

        self._cluster.subscribe_topic(topic, on_event)
        try:
            yield topic
        finally:
            with suppress(OSError, TimeoutError):
                self._cluster.unsubscribe_topic(topic)


def score_on_worker(task: Task, key: str, topic: str | None) -> Result | DlildError:
    """Score a task on a worker; report progress if there is a topic."""
    if topic is None:
        return score_task(task)
    worker = _dask().get_worker()
    return score_task(task, lambda *progress: worker.log_event(topic, (key, *progress)))


def _settle(future: Any) -> dict[str, Any]:
    """Convert a finished task to arguments of `Outcome`; raise errors not specific to its scan."""
    try:
        value = future.result()
    except Exception as error:
        if future.status != "error":
            raise
        return {"error": _fault(error)}
    return {"error": value} if isinstance(value, DlildError) else {"result": value}


def _fault(error: Exception) -> DlildError:
    """Return the error for the row of a scan; raise errors that all scans would meet."""
    if isinstance(error, _dask().KilledWorker):
        return WorkerLostError(
            f"{error.allowed_failures + 1} workers were lost over this scan, the last one at it; "
            "look at their logs, and give them more memory"
        )
    if isinstance(error, ImportError) or "deserializ" in str(error):
        raise BadSettingsError(
            f"scheduler or workers cannot run the tasks ({type(error).__name__}); "
            f"install dlild-client[dask] {__version__} there, and the same versions of Dask"
        ) from None
    # Its message may contain a path: it stays in the log of the worker.
    return DlildError(f"{type(error).__name__} on a worker; its log says more")


def _connect(scheduler: str, timeout_s: float) -> Any:
    """Connect to a scheduler; TLS is configured through Dask."""
    dask = _dask()
    try:
        return dask.Client(scheduler, timeout=timeout_s, set_as_default=False)
    except (ValueError, TypeError) as error:
        raise BadSettingsError(
            f"--dask {scheduler}: {error}; give tcp://host:8786, or tls:// with Dask's own TLS"
        ) from None
    except (OSError, TimeoutError):
        raise ConnectionFailedError(
            f"--dask {scheduler}: no Dask scheduler answers within {timeout_s:g} s; "
            "check the address, and that it runs"
        ) from None


def _dask() -> Any:
    """Import Dask, an optional dependency, at first use."""
    try:
        import distributed  # noqa: PLC0415
    except ImportError:
        raise BadSettingsError(
            "--dask needs the extra: pip install 'dlild-client[dask]', here and on the workers"
        ) from None
    return distributed
