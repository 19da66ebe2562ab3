"""A DICOM node that scores what it receives: takes studies, scores them, sends the results.

Threads: associations (pynetdicom), scans, one that sends, one that removes what is done. What is to
do stands in the queue alone, so that a kill at any moment loses nothing: an object is acknowledged
when it lies on the disk; a study that was being scored is scored again; the objects of a result are
written before they are sent, and have derived UIDs, so that one that is sent twice is one object.
"""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlild_client.archive.addresses import Peer
from dlild_client.archive.audit import AuditLog
from dlild_client.archive.dicomweb import DicomWeb, find_web_settings
from dlild_client.archive.dimse import Requestor
from dlild_client.archive.listener import Listener
from dlild_client.archive.metrics import INPUT, OTHER, HealthServer, Metrics
from dlild_client.archive.node_settings import NodeSettings
from dlild_client.archive.queue import DONE, FAILED, RECEIVED, SCORING, SENDING, Queue, Study
from dlild_client.archive.spool import Spool
from dlild_client.errors import BadSettingsError, CancelledError, DlildError, InputError
from dlild_client.transport.cancel import CancelToken

if TYPE_CHECKING:
    from pydicom import Dataset

Scorer = Callable[[Path, CancelToken], "Sequence[Dataset]"]
"""Scores the study in a folder, and returns the objects to send; raises a `DlildError`."""

POLL_S = 0.25
STALLED_S = 3600.0
"""Without a sign of life for so long a thread counts as stalled: longer than the longest scan."""
UNEXPECTED_TRIES = 5
"""How often a study is tried that makes the program fail in a way that is a fault of ours."""
JANITOR_S = 2.0
INCOMPLETE = "Incomplete"
"""Kind of the error of a study that has objects which are gone."""


class Node:
    """A running node; `close` stops it.

    Parameters
    ----------
    settings : NodeSettings
    score : callable
        See `Scorer`.
    audit : AuditLog, optional
        Default: the file `audit.jsonl` in the spool, and standard error.

    Raises
    ------
    BadSettingsError
        The spool is in use, a port is taken, or an extra is missing.
    """

    def __init__(
        self, settings: NodeSettings, score: Scorer, audit: AuditLog | None = None
    ) -> None:
        self.settings, self._score = settings, score
        self._stop, self._cancel = threading.Event(), CancelToken()
        self._web = (
            None
            if isinstance(settings.destination, Peer)
            else DicomWeb(find_web_settings(settings.destination))
        )
        self.spool = Spool(settings.spool)
        self.queue = Queue(settings.spool / "queue.sqlite3")
        self.audit = audit or AuditLog(settings.spool / "audit.jsonl")
        self.metrics = Metrics(self._measure)
        removed, open_studies = self.spool.remove_unknown(self.queue), self.queue.recover()
        self._listener: Listener | None = None
        self.http: HealthServer | None = None
        self._alive: dict[str, float] = {}
        try:
            self._listener = Listener(
                settings, self.spool, self.queue, self.metrics, self.audit, self._committed
            )
            self.port = self._listener.port
            self.queue.wait_for_senders(settings.quiet_s)
            if settings.http_port is not None:
                self.http = HealthServer(
                    settings.http_host, settings.http_port, self.metrics, self.what_is_wrong
                )
        except BaseException:
            self._close_files()
            raise
        loops: list[tuple[str, Callable[[], bool]]] = [
            *((f"score-{i}", self._score_next) for i in range(settings.scans)),
            ("send", self._send_next),
            ("janitor", self._clean),
        ]
        self._threads = [
            threading.Thread(
                target=self._loop, args=(name, work), name=f"dlild-{name}", daemon=True
            )
            for name, work in loops
        ]
        for thread in self._threads:
            thread.start()
        self.audit.write(
            "started",
            title=settings.title,
            port=self.port,
            http_port=self.http.port if self.http is not None else None,
            open_studies=open_studies,
            removed_folders=removed,
        )

    def close(self) -> None:
        """Stop: no more associations; scans and sends under way end, for `drain_s` at most."""
        assert self._listener is not None
        if self._stop.is_set():
            return
        deadline = time.monotonic() + self.settings.drain_s
        self._listener.close()
        while self._listener.associations and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self._listener.abort()
        self._stop.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._cancel.cancel()
        for thread in self._threads:
            thread.join(5.0)
        if self.http is not None:
            self.http.close()
        self.audit.write("stopped", studies=self.queue.counts())
        self._close_files()

    def _close_files(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.queue.close()
        self.spool.close()

    # ---- health ------------------------------------------------------------------------------

    def what_is_wrong(self) -> str:
        """Return why the node is not healthy, in a line, or an empty text."""
        assert self._listener is not None
        if self._stop.is_set() or self._listener.closing:
            return "stopping"
        if not self._listener.alive:
            return "the DICOM port is not served"
        for thread in self._threads:
            if not thread.is_alive():
                return f"the thread {thread.name} has ended"
        now = time.monotonic()
        for name, seen in list(self._alive.items()):
            if now - seen > STALLED_S:
                return f"the thread {name} has stalled for {now - seen:.0f} s"
        if self.spool.free_bytes() < self.settings.free_bytes:
            return "the disk of the spool is full"
        return ""

    def _measure(self) -> dict[str, Any]:
        return {
            "studies": self.queue.counts(),
            "oldest_seconds": self.queue.oldest_s(),
            "spool_bytes": self.queue.stored_bytes(),
            "free_bytes": self.spool.free_bytes(),
            "associations": self._listener.associations if self._listener else 0,
            "ready": float(self._listener is not None and not self.what_is_wrong()),
        }

    # ---- threads -----------------------------------------------------------------------------

    def _loop(self, name: str, work: Callable[[], bool]) -> None:
        """Repeat work until the node stops; wait where there was none."""
        while not self._stop.is_set():
            self._alive[name] = time.monotonic()
            try:
                busy = work()
            except Exception as error:
                busy = False
                self.audit.write("fault", where=name, error=f"{type(error).__name__}: {error}")
                self._stop.wait(1.0)
            if not busy:
                self._stop.wait(POLL_S)

    def _score_next(self) -> bool:
        """Score the next study that is quiet; returns whether there was one."""
        study = self.queue.claim(self.settings.quiet_s)
        if study is None:
            return False
        if self._is_incomplete(study):
            return True
        began = time.monotonic()
        self.audit.write("scoring", study.id, objects=study.objects, tries=study.tries)
        try:
            objects = self._score(self.spool.study(study.id), self._cancel)
            self.spool.put_result(study.id, objects)
        except CancelledError:
            self.queue.again(study.id, RECEIVED, 0.0, "Cancelled", "the node stopped")
            return True
        except Exception as error:
            self._failed_try(study, SCORING, error)
            return True
        seconds = time.monotonic() - began
        self.metrics.scoring.observe(seconds)
        state = self.queue.scored(study.id, _digest(objects))
        self.audit.write("scored", study.id, state=state, seconds=round(seconds, 3))
        return True

    def _is_incomplete(self, study: Study) -> bool:
        """Give a study up of which objects are gone: the others alone have another score."""
        known = self.queue.instances(study.id)
        missing = known - self.spool.instances(study.id)
        if not missing:
            return False
        text = (
            f"{len(missing)} of its {len(known)} objects are no longer here (they are removed "
            "after --keep-h); send the whole study again"
        )
        state = self.queue.incomplete(study.id, missing, text)
        if state == FAILED:
            self.metrics.failures.labels("score", INCOMPLETE).inc()
            self.metrics.given_up.labels(OTHER).inc()
            self.audit.write("failed", study.id, stage="score", kind=INCOMPLETE, error=text)
        return True

    def _send_next(self) -> bool:
        """Send the next result; returns whether there was one."""
        for overdue in self.queue.commitments_overdue():
            self._not_committed(overdue, "no report of commitment came in time")
        study = self.queue.next_to_send()
        if study is None:
            return False
        began = time.monotonic()
        try:
            state, count = self._send(study)
        except Exception as error:
            self._failed_try(study, SENDING, error)
            return True
        seconds = time.monotonic() - began
        self.metrics.sending.observe(seconds)
        if self._web is not None or not self.settings.request_commitment:
            self.metrics.answers.inc()
        self.audit.write("sent", study.id, state=state, objects=count, seconds=round(seconds, 3))
        return True

    def _send(self, study: Study) -> tuple[str, int]:
        files = self.spool.result(study.id)
        if not files:
            self.queue.again(study.id, RECEIVED, 0.0, "Lost", "the result is not on the disk")
            return RECEIVED, 0
        destination = self.settings.destination
        if self._web is not None:
            from pydicom import dcmread  # noqa: PLC0415

            self._web.store([dcmread(path) for path in files])
            return self.queue.sent(study.id), len(files)
        assert isinstance(destination, Peer)
        requestor = Requestor(
            self.settings.title, self.settings.destination_tls, self.settings.silent_s
        )
        references = requestor.store(destination, files)
        if not self.settings.request_commitment:
            return self.queue.sent(study.id), len(files)
        from pydicom.uid import generate_uid  # noqa: PLC0415

        # Recorded first: the report may come before the response to the request.
        transaction = str(generate_uid())
        state = self.queue.sent(study.id, transaction, self.settings.commitment_s)
        requestor.request_commitment(destination, transaction, references)
        return state, len(files)

    def _committed(self, transaction: str, whole: bool) -> None:
        """Take a report of the destination."""
        if not whole:
            study = self.queue.not_committed(transaction)
            if study is not None:
                self._not_committed(study, "the destination denied its commitment")
            return
        study = self.queue.committed(transaction)
        if study is None:
            self.audit.write("unknown_commitment")
            return
        self.metrics.answers.inc()
        self.audit.write("committed", study)

    def _not_committed(self, study_id: str, reason: str) -> None:
        study = self.queue.get(study_id)
        if study is not None:
            self._failed_try(study, SENDING, DlildError(reason))

    def _failed_try(self, study: Study, stage: str, error: Exception) -> None:
        """Try a study again after a wait, or give it up."""
        known = isinstance(error, DlildError)
        kind = error.kind if isinstance(error, DlildError) else type(error).__name__
        text = str(error) if known else f"{kind}, a fault of this program; report it"
        stage_name = "score" if stage == SCORING else "send"
        self.metrics.failures.labels(stage_name, kind).inc()
        old = time.time() - study.received_at > self.settings.give_up_s
        hopeless = isinstance(error, InputError | BadSettingsError) and stage == SCORING
        if hopeless or old or (not known and study.tries + 1 >= UNEXPECTED_TRIES):
            self.queue.fail(study.id, kind, text)
            self.metrics.given_up.labels(INPUT if isinstance(error, InputError) else OTHER).inc()
            self.audit.write("failed", study.id, stage=stage_name, kind=kind, error=text)
            return
        wait_s = back_off_s(study.tries, self.settings.first_wait_s, self.settings.longest_wait_s)
        self.queue.again(study.id, RECEIVED if stage == SCORING else SENDING, wait_s, kind, text)
        self.audit.write(
            "again", study.id, stage=stage_name, kind=kind, error=text, wait_s=round(wait_s, 1)
        )

    def _clean(self) -> bool:
        """Remove files that were kept long enough, or whose space is needed."""
        settings = self.settings
        short = (
            self.spool.free_bytes() < 2 * settings.free_bytes
            or self.queue.stored_bytes() > 0.9 * settings.spool_bytes
        )
        study = self.queue.removable(DONE, 0.0 if short else settings.keep_s)
        study = study or self.queue.removable(FAILED, settings.keep_failed_s)
        if study is not None:
            # The queue first: a folder that it no longer counts is harmless.
            if self.spool.remove(study.id, partial(self.queue.removed, study.id)):
                self.audit.write("removed", study.id, state=study.state, bytes=study.bytes)
            return True
        self.queue.forget(settings.remember_s)
        self.spool.clear_incoming(10 * settings.silent_s)
        self._stop.wait(JANITOR_S)
        return False


def run_until_stopped(node: Node) -> None:
    """Wait for SIGTERM or SIGINT, then close the node; called in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):
        pass
    node.close()


def back_off_s(tries: int, first_s: float, longest_s: float) -> float:
    """Return the wait after a failed try: doubled each time, capped, with jitter of 20 %."""
    doubled = min(longest_s, first_s * 2.0 ** min(tries, 60))
    return doubled * random.uniform(0.8, 1.0)  # noqa: S311  (no secret)


def _digest(objects: Sequence[Dataset]) -> str:
    """Digest of a result: its UIDs are derived from scan and model."""
    uids = sorted(str(o.SOPInstanceUID) for o in objects)
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()
