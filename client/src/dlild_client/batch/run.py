"""Runs a batch: finds the scans, scores them, writes the rows, counts the outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from dlild_client.report.cohort import READINGS, REPORTS, write_index, write_scan_report
from dlild_client.results.files import (
    OUTPUTS,
    Writer,
    is_of,
    is_ours,
    try_folder,
    write_result,
)
from dlild_client.results.result import Result
from dlild_client.settings import Retries
from dlild_client.transport.connection import ServerInfo
from dlild_client.volume import Volume

PATIENT = Retries(attempts=1000, longest_wait_s=30.0)
"""Retries of a batch: it waits for a busy or absent server up to the time limit of a scan."""

CONCURRENCY = 3
"""One scan in the network, one being sent, one being read."""

STOPPING = (
    BadSettingsError,
    BusyError,
    ConnectionFailedError,
    ContractError,
    KeyRefusedError,
    NotReadyError,
)
"""Errors that end the batch: not specific to a scan, every other would raise them, too."""

More = Callable[[Result], Mapping[str, Writer]]
JobProgress = Callable[[BatchScan, str, int, int], None]


@dataclass
class Summary:
    """Summary of a run.

    Attributes
    ----------
    counts : Counter of str
        `scored`, `rejected`, `failed` in this run.
    errors : Counter of str
        Errors of this run, by `kind`.
    before : int
        Scans done in earlier runs.
    seconds : float
        Of this run.
    """

    counts: Counter[Status] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    before: int = 0
    seconds: float = 0.0

    @property
    def scans_per_hour(self) -> float:
        """Scored scans per hour of this run."""
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
    """A scan with its key: a callable that returns a volume, as `Client.score` accepts."""

    scan: BatchScan
    key: str
    with_source: bool = False

    def __call__(self) -> Volume:
        """Read the volume, with its headers if asked to; raises `InputError`."""
        return self.scan.read(with_source=self.with_source)


class Scorer(Protocol):
    """Interface of `Client`, for scans on this machine, and `on_dask.DaskScorer`, for a cluster."""

    def info(self) -> ServerInfo:
        """Fetch the contract of the server."""

    def score_many(
        self, scans: Iterable[Job], *, concurrency: int, progress: ScanProgress | None = None
    ) -> Iterator[Outcome]:
        """Score jobs, and yield the outcome of each as it completes."""


def run_batch(
    scorer: Scorer,
    path: Path,
    out: Path,
    *,
    concurrency: int = CONCURRENCY,
    images: bool = False,
    report: str | None = None,
    more: More | None = None,
    anonymous: bool = False,
    again: bool = False,
    progress: JobProgress | None = None,
    finished: Callable[[BatchScan, Status], None] | None = None,
    notify: Notify = no_notice,
) -> Summary:
    """Score all scans of a path into a folder; resume an earlier run.

    Parameters
    ----------
    scorer : Scorer
        A client, or a cluster of them.
    path : Path
        Folder tree, CSV list or DICOMDIR.
    out : Path
        Folder for `results.csv` and the JSON files.
    concurrency : int
        Scans in progress at once; bounds the memory. On a cluster: submitted tasks.
    images : bool
        Write `labels.nii.gz` and `overlay.png` of each scan into `images/NAME`, too.
    report : {"en", "zh"}, optional
        Write a report of each scan into `reports/`, and the index of all, in this language.
    more : callable, optional
        Returns writers of further files of a result, by name, which are written into `images/NAME`,
        too. An error of one scan is a notice; the batch goes on.
    anonymous : bool
        Leave the path of a scan, which may name a patient, out of its row.
    again : bool
        Retry scans that failed in an earlier run; rejected ones stay rejected.
    progress : callable, optional
        Progress of a scan: ``progress(scan, stage, done, whole)``.
    finished : callable, optional
        Called with each scan that has its row, and its status.
    notify : callable, optional
        Called with a line about input that the user may not have meant.

    Returns
    -------
    Summary

    Raises
    ------
    DlildError
        An error not specific to a scan: no server, a wrong key, a folder that cannot be written.
        Rows written so far are kept; the next run resumes from there.
    """
    start = time.perf_counter()
    summary = Summary()
    # Both paths are checked before the server is contacted.
    scans = find_scans(path, leave_out=out, notify=notify)
    try_folder(out)
    contract = scorer.info().contract
    with (
        Record(out, contract, notify, anonymous=anonymous) as record,
        _indexed(out, record, report),
    ):
        if again:
            record.forget_failed()
        jobs = _open_jobs(scans, record, summary, finished, with_source=more is not None)
        for outcome in scorer.score_many(
            jobs, concurrency=concurrency, progress=None if progress is None else _adapt(progress)
        ):
            job = outcome.scan
            assert isinstance(job, Job)
            what = _settle(outcome, contract.model.weights_sha256)
            name = job.scan.id or job.key
            _remove_stale(out, name, what)
            if isinstance(what, Result):
                if images or more is not None:
                    files = _more_files(more, what, job, notify)
                    write_result(what, out / "images" / name, files, alone=anonymous)
                if report is not None:
                    write_scan_report(what, out, name, report)
            status = record.add(job.scan, job.key, what)
            summary.counts[status] += 1
            if isinstance(what, DlildError):
                summary.errors[what.kind] += 1
            if finished is not None:
                finished(job.scan, status)
        summary.seconds = time.perf_counter() - start
    return summary


def _remove_stale(out: Path, name: str, what: Result | DlildError) -> None:
    """Remove what an earlier run wrote under this name of another scan, or of another result."""
    scored = out / "scans" / f"{name}.json"
    if isinstance(what, Result) and is_of(scored, what.to_dict()):
        return
    images = out / "images" / name
    pages = (out / REPORTS / f"{name}.html", out / REPORTS / f"{name}.jpg")
    for path in (*pages, out / READINGS / f"{name}.html", *(images / one for one in OUTPUTS)):
        if is_ours(path):
            with suppress(OSError):
                path.unlink()
    with suppress(OSError):
        images.rmdir()


@contextmanager
def _indexed(out: Path, record: Record, language: str | None) -> Iterator[None]:
    """Write the index of the cohort when the run ends, also where an error has ended it."""
    try:
        yield
    except DlildError:
        if language is not None:
            with suppress(DlildError):
                write_index(out, record.rows.values(), language)
        raise
    if language is not None:
        write_index(out, record.rows.values(), language)


def _more_files(
    more: More | None, result: Result, job: Job, notify: Notify
) -> Mapping[str, Writer]:
    """Writers of further files; none, and a notice, where they cannot be made of this scan."""
    if more is None:
        return {}
    try:
        return more(result)
    except STOPPING:
        raise
    except DlildError as error:
        notify(f"{job.scan.id or job.key}: {error}")
        return {}


def _open_jobs(
    scans: Iterator[BatchScan],
    record: Record,
    summary: Summary,
    finished: Callable[[BatchScan, Status], None] | None,
    *,
    with_source: bool,
) -> Iterator[Job]:
    """Yield the scans without a row; each key once."""
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
            yield Job(scan, key, with_source)


def _settle(outcome: Outcome, weights: str) -> Result | DlildError:
    """Return result or error for the row; raise errors that end the batch."""
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
