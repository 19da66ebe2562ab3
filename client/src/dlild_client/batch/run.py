"""A batch from its first scan to its summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dlild_client.batch.record import Record, Status
from dlild_client.batch.scans import BatchScan, Notify, find_scans, no_notice
from dlild_client.core import Outcome, Scan, ScanProgress
from dlild_client.errors import (
    BadSettingsError,
    BusyError,
    ConnectionFailedError,
    ContractError,
    DlildError,
    KeyRefusedError,
    NotReadyError,
)
from dlild_client.results.files import try_folder, write_result
from dlild_client.results.result import Result
from dlild_client.settings import Retries
from dlild_client.transport.connection import ServerInfo
from dlild_client.volume import Volume

PATIENT = Retries(attempts=1000, longest_wait_s=30.0)
"""A batch has time: it waits for a busy or absent server as long as a scan may take."""

CONCURRENCY = 3
"""One scan in the network, one on its way, one being read."""

STOPPING = (
    BadSettingsError,
    BusyError,
    ConnectionFailedError,
    ContractError,
    KeyRefusedError,
    NotReadyError,
)
"""Errors that are no scan's own: every other scan would meet them as well."""

JobProgress = Callable[[BatchScan, str, int, int], None]


@dataclass
class Summary:
    """What became of the scans.

    Attributes
    ----------
    counts : Counter of str
        `scored`, `rejected`, `failed` in this run.
    errors : Counter of str
        Kinds of errors in this run.
    before : int
        Scans that had their row from earlier runs.
    seconds : float
        Of this run.
    """

    counts: Counter[Status] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    before: int = 0
    seconds: float = 0.0

    @property
    def scans_per_hour(self) -> float:
        """Throughput of this run, by scored scans."""
        return 3600 * self.counts["scored"] / self.seconds if self.seconds else 0.0

    @property
    def exit_code(self) -> int:
        """1 where a scan failed, 3 where one was rejected, 0 where all were scored."""
        if self.counts["failed"]:
            return 1
        return 3 if self.counts["rejected"] else 0

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            **{name: self.counts[name] for name in ("scored", "rejected", "failed")},
            "errors": dict(self.errors),
            "done_before": self.before,
            "seconds": round(self.seconds, 1),
            "scans_per_hour": round(self.scans_per_hour, 1),
        }


@dataclass(frozen=True)
class Job:
    """A scan with its key, as the client takes it: something that returns a volume."""

    scan: BatchScan
    key: str

    def __call__(self) -> Volume:
        """Read the volume; raises `InputError`."""
        return self.scan.read()


class Scorer(Protocol):
    """What scores the scans: a `Client` on this machine, or a cluster (`on_dask.DaskScorer`)."""

    def info(self) -> ServerInfo:
        """Ask the server for its contract."""

    def score_many(
        self, scans: Iterable[Job], *, concurrency: int, progress: ScanProgress | None = None
    ) -> Iterator[Outcome]:
        """Score jobs, and yield what comes of each as it comes."""


def run_batch(
    scorer: Scorer,
    path: Path,
    out: Path,
    *,
    concurrency: int = CONCURRENCY,
    images: bool = False,
    again: bool = False,
    progress: JobProgress | None = None,
    finished: Callable[[BatchScan, Status], None] | None = None,
    notify: Notify = no_notice,
) -> Summary:
    """Score all scans of a place into a folder; go on where an earlier run was cut off.

    Parameters
    ----------
    scorer : Scorer
        A client, or a cluster of them.
    path : Path
        Folder tree, CSV list or DICOMDIR.
    out : Path
        Folder for `results.csv` and the JSON files.
    concurrency : int
        Scans read, sent or waited for at once; bounds the memory. On a cluster: tasks handed out.
    images : bool
        Write `labels.nii.gz` and `overlay.png` of each scan into `images/NAME`, too.
    again : bool
        Try scans again that failed in an earlier run; rejected ones stay rejected.
    progress : callable, optional
        Progress of a scan: ``progress(scan, stage, done, whole)``.
    finished : callable, optional
        Called with each scan that has its row now, and its status.
    notify : callable, optional
        Told, in a line, of what a user may not have meant.

    Returns
    -------
    Summary

    Raises
    ------
    DlildError
        Something that is no scan's own fault: the server is gone, the key is wrong, the folder
        cannot be written. What has its row keeps it; the next run goes on from there.
    """
    start = time.perf_counter()
    summary = Summary()
    # What is wrong with either place shows before anything is asked of the server.
    scans = find_scans(path, leave_out=out, notify=notify)
    try_folder(out)
    contract = scorer.info().contract
    with Record(out, contract, notify) as record:
        if again:
            record.forget_failed()
        jobs = _open_jobs(scans, record, summary, finished)
        for outcome in scorer.score_many(
            jobs, concurrency=concurrency, progress=None if progress is None else _adapt(progress)
        ):
            job = outcome.scan
            assert isinstance(job, Job)
            what = _settle(outcome, contract.model.weights_sha256)
            if images and isinstance(what, Result):
                write_result(what, out / "images" / (job.scan.id or job.key))
            status = record.add(job.scan, job.key, what)
            summary.counts[status] += 1
            if isinstance(what, DlildError):
                summary.errors[what.kind] += 1
            if finished is not None:
                finished(job.scan, status)
        summary.seconds = time.perf_counter() - start
    return summary


def _open_jobs(
    scans: Iterator[BatchScan],
    record: Record,
    summary: Summary,
    finished: Callable[[BatchScan, Status], None] | None,
) -> Iterator[Job]:
    """Yield the scans that still need their row; each key once."""
    seen: set[str] = set()
    for scan in scans:
        key = scan.key()
        if key in seen:
            continue
        seen.add(key)
        if record.is_done(key) or record.adopt(scan, key):
            summary.before += 1
            if finished is not None:
                finished(scan, record.status(key))
        else:
            yield Job(scan, key)


def _settle(outcome: Outcome, weights: str) -> Result | DlildError:
    """Return what the row is about; raise what would be every scan's fate."""
    if isinstance(outcome.error, STOPPING):
        raise outcome.error
    if outcome.result is None:
        assert outcome.error is not None
        return outcome.error
    if outcome.result.contract.model.weights_sha256 != weights:
        raise ContractError(
            "the server runs another model now than when the batch began; "
            "choose another folder for its scores, so that they do not mix"
        )
    return outcome.result


def _adapt(progress: JobProgress) -> ScanProgress:
    def report(job: Scan, stage: str, done: int, whole: int) -> None:
        assert isinstance(job, Job)
        progress(job.scan, stage, done, whole)

    return report
