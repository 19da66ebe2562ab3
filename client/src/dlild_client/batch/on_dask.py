"""A batch on a Dask cluster: workers read and send the scans, this process keeps the record.

Every scan is one task of one attempt, known by the scan's key, and only this process writes rows:
whatever happens to workers, a scan has one row. A task whose worker is lost is run again on another
one, by Dask itself; a scan that takes worker after worker down becomes a row that says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from types import TracebackType
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
"""Tasks handed out for each thread of the workers: one at work, one ready."""

FEWEST_TASKS = 8
"""Handed out whatever there is of workers: a cluster that grows with its work must see some."""


class DaskScorer:
    """Scores scans on the workers of a Dask cluster.

    Parameters
    ----------
    client : Client
        Of this process; asks the server for its contract.
    url : str
        Address of the server, for workers without a `DLILD_URL`.
    scheduler : str
        Address of the Dask scheduler, such as `tcp://scheduler:8786`.
    voxels : bool
        Have label map and image sent back, too.
    patience_s : float
        Time for the scheduler to answer.

    Raises
    ------
    BadSettingsError
        The extra is not installed, or the address is none.
    ConnectionFailedError
        No scheduler answers there.
    """

    def __init__(
        self, client: Any, url: str, scheduler: str, *, voxels: bool, patience_s: float = 10.0
    ) -> None:
        self._client = client
        self._url = url
        self._voxels = voxels
        self._cluster = _connect(scheduler, patience_s)
        self._scheduler = scheduler
        # Two runs at once never share a task: their servers may differ.
        self._run = uuid.uuid4().hex[:8]

    def __enter__(self) -> DaskScorer:
        """Return the scorer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the cluster, which goes on for others."""
        with suppress(OSError, TimeoutError):
            self._cluster.close(timeout=5)

    @property
    def threads(self) -> int:
        """Threads of all workers there are now."""
        return sum(self._cluster.nthreads().values())

    def info(self) -> ServerInfo:
        """Ask the server for its contract."""
        info: ServerInfo = self._client.info()
        return info

    def score_many(
        self, scans: Iterable[Job], *, concurrency: int, progress: ScanProgress | None = None
    ) -> Iterator[Outcome]:
        """Score jobs, and yield what comes of each as it comes.

        Parameters
        ----------
        scans : iterable of Job
            Taken one at a time, as there is room.
        concurrency : int
            Tasks handed out at once; 0 for twice the threads of the workers, as they come and go.
        progress : callable, optional
            As of `Client.score_many`.

        Yields
        ------
        Outcome

        Raises
        ------
        ConnectionFailedError
            The scheduler is gone.
        DlildError
            The workers cannot run the tasks at all.
        """
        feed = iter(scans)
        jobs: dict[str, Job] = {}
        finished = _dask().as_completed(loop=self._cluster.loop)
        with self._taking_back(jobs), self._listening(jobs, progress) as topic:
            while True:
                with self._reached():
                    free = (concurrency or self._enough()) - len(jobs)
                for job in islice(feed, max(0, free)):
                    with self._reached():
                        finished.add(self._submit(job, jobs, topic))
                if not jobs:
                    return
                with self._reached():
                    future = next(finished)
                    outcome = Outcome(jobs[future.key], **_settle(future))
                del jobs[future.key]
                yield outcome

    def _enough(self) -> int:
        return max(FEWEST_TASKS, TASKS_A_THREAD * self.threads)

    def _submit(self, job: Job, jobs: dict[str, Job], topic: str | None) -> Any:
        key = f"dlild-{job.key}-{self._run}"
        jobs[key] = job
        task = make_task(job.scan, job.key, self._url, voxels=self._voxels)
        return self._cluster.submit(score_on_worker, task, key, topic, key=key, pure=False)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Say in one line that the scheduler is gone."""
        try:
            yield
        except (OSError, TimeoutError, _dask().CancelledError):
            raise ConnectionFailedError(
                f"the Dask scheduler at {self._scheduler} is gone; "
                "start it, and the same command goes on from here"
            ) from None

    @contextmanager
    def _taking_back(self, jobs: Mapping[str, Job]) -> Iterator[None]:
        """Take back, at the end, what is still handed out.

        A scan that a worker is at work on goes on to its end there, and is not looked at.
        """
        dask = _dask()
        try:
            yield
        finally:
            if jobs:
                with suppress(OSError, TimeoutError, dask.CancelledError):
                    left = [dask.Future(key, client=self._cluster) for key in jobs]
                    self._cluster.cancel(left, force=True)

    @contextmanager
    def _listening(
        self, jobs: Mapping[str, Job], progress: ScanProgress | None
    ) -> Iterator[str | None]:
        """Pass on what workers tell of their scans; yield the topic under which they tell it."""
        if progress is None:
            yield None
            return
        topic = f"dlild-{self._run}"

        def heard(event: tuple[float, tuple[str, str, int, int]]) -> None:
            key, stage, done, whole = event[1]
            if job := jobs.get(key):
                progress(job, stage, done, whole)

        self._cluster.subscribe_topic(topic, heard)
        try:
            yield topic
        finally:
            with suppress(OSError, TimeoutError):
                self._cluster.unsubscribe_topic(topic)


def score_on_worker(task: Task, key: str, topic: str | None) -> Result | DlildError:
    """Score a task on a worker, which tells of its progress where somebody listens."""
    if topic is None:
        return score_task(task)
    worker = _dask().get_worker()
    return score_task(task, lambda *progress: worker.log_event(topic, (key, *progress)))


def _settle(future: Any) -> dict[str, Any]:
    """Return what came of a task, as arguments of `Outcome`; raise what is no scan's own fault."""
    try:
        value = future.result()
    except Exception as error:
        if future.status != "error":
            raise
        return {"error": _fault(error)}
    return {"error": value} if isinstance(value, DlildError) else {"result": value}


def _fault(error: Exception) -> DlildError:
    """Return the error that a scan's row will bear; raise what all scans would meet."""
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
    # Its words may name a path: they stay in the worker's log.
    return DlildError(f"{type(error).__name__} on a worker; its log says more")


def _connect(scheduler: str, patience_s: float) -> Any:
    """Connect to a scheduler; its TLS is Dask's own configuration."""
    dask = _dask()
    try:
        return dask.Client(scheduler, timeout=patience_s, set_as_default=False)
    except (ValueError, TypeError) as error:
        raise BadSettingsError(
            f"--dask {scheduler}: {error}; give tcp://host:8786, or tls:// with Dask's own TLS"
        ) from None
    except (OSError, TimeoutError):
        raise ConnectionFailedError(
            f"--dask {scheduler}: no Dask scheduler answers within {patience_s:g} s; "
            "check the address, and that it runs"
        ) from None


def _dask() -> Any:
    """Import Dask when it is needed; it comes with the extra only."""
    try:
        import distributed  # noqa: PLC0415
    except ImportError:
        raise BadSettingsError(
            "--dask needs the extra: pip install 'dlild-client[dask]', here and on the workers"
        ) from None
    return distributed
