"""Queue of studies on disk: what a node has received, and how far each study has come.

A study goes through the states::

    received -> scoring -> sending -> committing -> done
       ^           |          |            |
       |           v          v            v
       +------- (again, with back-off) ---+--------> failed

SQLite in WAL mode with ``synchronous=FULL``: a transaction that has returned outlives a kill and a
power failure. Every change of state is one transaction, so that a process that is killed leaves
each study in one state, from which `recover` lets the next process go on.

Nothing here identifies a patient: studies and objects are known by digests of their UIDs.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlild_client.errors import DlildError

RECEIVED, SCORING, SENDING, COMMITTING, DONE, FAILED = STATES = (
    "received",
    "scoring",
    "sending",
    "committing",
    "done",
    "failed",
)

SCHEMA_VERSION = 1

MAXIMUM_CRASHES = 8
"""A study during whose scoring the process has ended so often is given up."""

_SCHEMA = """
CREATE TABLE studies (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    received_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    last_object_at REAL NOT NULL,
    next_try_at REAL NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    scored_generation INTEGER NOT NULL DEFAULT -1,
    answer TEXT NOT NULL DEFAULT '',
    answered TEXT NOT NULL DEFAULT '',
    answers INTEGER NOT NULL DEFAULT 0,
    transaction_uid TEXT NOT NULL DEFAULT '',
    sender TEXT NOT NULL DEFAULT '',
    error_kind TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    files INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX studies_by_state ON studies (state, next_try_at);
CREATE TABLE objects (
    study TEXT NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    instance TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    stored INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (study, instance)
) STRICT;
CREATE INDEX objects_by_instance ON objects (instance);
CREATE INDEX objects_on_disk ON objects (stored, bytes);
"""


def digest_of(uid: str) -> str:
    """Return the digest by which a study or an object is known: 32 hexadecimal digits.

    It is the beginning of the SHA-256 of the UID, so that an operator who has the UID can find the
    study; nobody can compute the UID from it.
    """
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True)
class Study:
    """One study of the queue.

    Attributes
    ----------
    id : str
        Digest of its UID.
    state : str
        One of `STATES`.
    received_at, changed_at, last_object_at, next_try_at : float
        Seconds since 1970: first object, last change of state, last object, and before when it is
        not tried again.
    tries : int
        Failed tries of the present state.
    crashes : int
        How often the process has ended while it scored this study.
    generation : int
        Grows with every new object.
    answer : str
        Digest of the result that is being sent; of the one that was sent last, in `answered`.
    answers : int
        Results that were sent.
    transaction_uid : str
        Of the storage commitment that is awaited.
    sender : str
        AE title of who sent it.
    error_kind, error : str
        Last error: name of its class, and message.
    objects, bytes : int
        Received, also those that are removed by now.
    """

    id: str
    state: str
    received_at: float
    changed_at: float
    last_object_at: float
    next_try_at: float
    tries: int
    crashes: int
    generation: int
    scored_generation: int
    answer: str
    answered: str
    answers: int
    transaction_uid: str
    sender: str
    error_kind: str
    error: str
    files: int
    objects: int
    bytes: int


_STUDY = (
    "SELECT studies.*, (SELECT COUNT(*) FROM objects WHERE study = studies.id) AS objects, "
    "(SELECT COALESCE(SUM(bytes), 0) FROM objects WHERE study = studies.id) AS bytes FROM studies "
)


class Queue:
    """Studies of a node, in one SQLite file. Thread-safe.

    Parameters
    ----------
    path : Path
        Created if missing.
    clock : callable, optional
        Seconds since 1970.

    Raises
    ------
    DlildError
        The file cannot be opened, is no queue, or of another version.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._name = path.name
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.execute("PRAGMA busy_timeout=10000")
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version == 0:
                with self._change():
                    for statement in _SCHEMA.split(";")[:-1]:
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise DlildError(
                f"{path.name}: the queue cannot be opened: {error}; look at the spool folder"
            ) from None
        if version not in {0, SCHEMA_VERSION}:
            raise DlildError(
                f"{path.name}: a queue of version {version}, this program has {SCHEMA_VERSION}; "
                "use the program that made it, or another spool folder"
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # ---- receiving ---------------------------------------------------------------------------

    def add(self, study: str, instance: str, size: int, sender: str = "") -> bool:
        """Record an object that lies on the disk.

        A new object of a study that is done lets it be scored again, when it is quiet: the answer
        may be the same, and is not sent again then. One that was removed, and is there again, does
        not: it is kept for objects that may follow.

        Parameters
        ----------
        study, instance : str
            Digests of the UIDs of study and object.
        size : int
            In bytes.
        sender : str
            AE title of the sender.

        Returns
        -------
        bool
            False where this object was received before.
        """
        now = self._clock()
        with self._change():
            if self.has(study, instance):
                self._repeated(study, instance, size, now)
                return False
            self._db.execute(
                "INSERT INTO studies (id, state, received_at, changed_at, last_object_at, sender) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "last_object_at = excluded.last_object_at, generation = generation + 1, files = 1",
                (study, RECEIVED, now, now, now, sender),
            )
            self._db.execute(
                "INSERT INTO objects (study, instance, bytes) VALUES (?, ?, ?)",
                (study, instance, size),
            )
            self._db.execute(
                "UPDATE studies SET state = ?, received_at = ?, changed_at = ?, tries = 0, "
                "next_try_at = 0, error = '', error_kind = '' WHERE id = ? AND state IN (?, ?)",
                (RECEIVED, now, now, study, DONE, FAILED),
            )
        return True

    def _repeated(self, study: str, instance: str, size: int, now: float) -> None:
        """Record an object that was received before, and may have been removed since."""
        there_again = self._db.execute(
            "UPDATE objects SET stored = 1, bytes = ? "
            "WHERE study = ? AND instance = ? AND stored = 0",
            (size, study, instance),
        ).rowcount
        if there_again:
            self._db.execute(
                "UPDATE studies SET files = 1, last_object_at = ?, "
                "generation = generation + (state = ?) WHERE id = ?",
                (now, SCORING, study),
            )
        self._db.execute(
            "UPDATE studies SET last_object_at = ?, next_try_at = 0, tries = 0, crashes = 0 "
            "WHERE id = ? AND state = ?",
            (now, study, RECEIVED),
        )
        # A failed study that is sent again is tried again.
        self._db.execute(
            "UPDATE studies SET state = ?, received_at = ?, changed_at = ?, last_object_at = ?, "
            "next_try_at = 0, tries = 0, crashes = 0 "
            "WHERE id = ? AND state = ?",
            (RECEIVED, now, now, now, study, FAILED),
        )

    def has(self, study: str, instance: str) -> bool:
        """Whether an object was received, also one that is removed by now."""
        with self._lock:
            row = self._db.execute(
                "SELECT 1 FROM objects WHERE study = ? AND instance = ?", (study, instance)
            ).fetchone()
        return row is not None

    def is_stored(self, study: str, instance: str) -> bool:
        """Whether an object was received, and is not removed."""
        with self._lock:
            row = self._db.execute(
                "SELECT stored FROM objects WHERE study = ? AND instance = ?", (study, instance)
            ).fetchone()
        return row is not None and bool(row["stored"])

    def instances(self, study: str) -> set[str]:
        """Return the digests of all objects of a study that were received, also removed ones."""
        with self._lock:
            rows = self._db.execute("SELECT instance FROM objects WHERE study = ?", (study,))
            return {str(row["instance"]) for row in rows}

    def holds(self, instances: Sequence[str]) -> list[bool]:
        """Whether each object lies on the disk now, in whichever study."""
        with self._lock:
            return [
                self._db.execute(
                    "SELECT 1 FROM objects WHERE instance = ? AND stored = 1", (one,)
                ).fetchone()
                is not None
                for one in instances
            ]

    # ---- work --------------------------------------------------------------------------------

    def recover(self) -> int:
        """Let a new process go on where the last one ended; called once, before all else.

        Studies that were being scored are received ones again.

        Returns
        -------
        int
            Studies that are not finished.
        """
        now = self._clock()
        with self._change():
            self._db.execute(
                "UPDATE studies SET state = ?, crashes = crashes + 1, changed_at = ?, "
                "error_kind = 'Interrupted', "
                "error = 'the node ended while it scored this study; it is scored again' "
                "WHERE state = ?",
                (RECEIVED, now, SCORING),
            )
            self._db.execute(
                "UPDATE studies SET state = ?, changed_at = ?, error_kind = 'Crashed', error = "
                "'the node ended ' || crashes || ' times while it scored this study; look at its "
                "memory, then let it be tried again' WHERE state = ? AND crashes >= ?",
                (FAILED, now, RECEIVED, MAXIMUM_CRASHES),
            )
            # The destination may be back, and a changed clock may have moved the next try far away.
            self._db.execute("UPDATE studies SET next_try_at = 0 WHERE state = ?", (SENDING,))
            row = self._db.execute(
                "SELECT COUNT(*) FROM studies WHERE state NOT IN (?, ?)", (DONE, FAILED)
            ).fetchone()
        return int(row[0])

    def wait_for_senders(self, wait_s: float, studies: Collection[str] | None = None) -> None:
        """Let the quiet time of studies begin after a wait: their senders were cut off.

        Parameters
        ----------
        wait_s : float
            Not more than the quiet time.
        studies : collection of str, optional
            Default: all that are received.
        """
        later = self._clock() + wait_s
        with self._change():
            for study in [s.id for s in self.studies()] if studies is None else studies:
                self._db.execute(
                    "UPDATE studies SET last_object_at = ? WHERE id = ? AND state = ?",
                    (later, study, RECEIVED),
                )

    def claim(self, quiet_s: float) -> Study | None:
        """Take the study to score that has waited longest, among those that are quiet.

        Parameters
        ----------
        quiet_s : float
            Seconds without a new object after which a study counts as complete.
        """
        now = self._clock()
        with self._change():
            row = self._db.execute(
                "SELECT id FROM studies WHERE state = ? AND next_try_at <= ? "
                "AND (last_object_at <= ? OR last_object_at > ?) ORDER BY received_at LIMIT 1",
                (RECEIVED, now, now - quiet_s, now + quiet_s),
            ).fetchone()
            if row is None:
                return None
            self._db.execute(
                "UPDATE studies SET state = ?, changed_at = ?, scored_generation = generation "
                "WHERE id = ?",
                (SCORING, now, row["id"]),
            )
            return self.get(row["id"])

    def scored(self, study: str, answer: str) -> str:
        """Record that the result of a study lies on the disk, ready to be sent.

        Parameters
        ----------
        study : str
        answer : str
            Digest of the result.

        Returns
        -------
        str
            The new state: `sending`; `received` where objects came meanwhile; `done` where this
            very result was sent before.
        """
        now = self._clock()
        with self._change():
            row = self._db.execute(
                "SELECT generation, scored_generation, answered FROM studies "
                "WHERE id = ? AND state = ?",
                (study, SCORING),
            ).fetchone()
            if row is None:
                return ""
            if row["generation"] != row["scored_generation"]:
                state = RECEIVED
            else:
                state = DONE if row["answered"] == answer else SENDING
            self._db.execute(
                "UPDATE studies SET state = ?, changed_at = ?, answer = ?, tries = 0, crashes = 0, "
                "next_try_at = 0, error = '', error_kind = '' WHERE id = ?",
                (state, now, answer, study),
            )
        return state

    def incomplete(self, study: str, missing: Collection[str], error: str) -> str:
        """Give up a study that is being scored, and of which objects are no longer on the disk.

        What is left of it is no study: it would have another score. It is tried again when one of
        them is sent again.

        Parameters
        ----------
        study : str
        missing : collection of str
            Digests of the objects.
        error : str

        Returns
        -------
        str
            The new state: `failed`, or `received` where objects came meanwhile.
        """
        with self._change():
            self._db.executemany(
                "UPDATE objects SET stored = 0 WHERE study = ? AND instance = ?",
                [(study, instance) for instance in missing],
            )
            self._db.execute(
                "UPDATE studies SET state = CASE WHEN generation = scored_generation THEN ? "
                "ELSE ? END, changed_at = ?, answer = '', "
                "error_kind = 'Incomplete', error = ? WHERE id = ? AND state = ?",
                (FAILED, RECEIVED, self._clock(), error, study, SCORING),
            )
            found = self.get(study)
        return "" if found is None else found.state

    def next_to_send(self) -> Study | None:
        """Return the study to send that has waited longest, or None; its state stays."""
        with self._lock:
            row = self._db.execute(
                _STUDY + "WHERE state = ? AND next_try_at <= ? ORDER BY changed_at LIMIT 1",
                (SENDING, self._clock()),
            ).fetchone()
        return None if row is None else Study(**dict(row))

    def sent(self, study: str, transaction_uid: str = "", wait_s: float = 0.0) -> str:
        """Record that the destination has taken every object of a result.

        Parameters
        ----------
        study : str
        transaction_uid : str, optional
            Of the storage commitment that was asked for; without one the study is answered.
        wait_s : float
            How long the commitment is waited for, before the result is sent again.
        """
        now = self._clock()
        with self._change():
            if transaction_uid:
                self._db.execute(
                    "UPDATE studies SET state = ?, changed_at = ?, transaction_uid = ?, "
                    "next_try_at = ? WHERE id = ? AND state = ?",
                    (COMMITTING, now, transaction_uid, now + wait_s, study, SENDING),
                )
                return COMMITTING
            return self._answered(study, now)

    def committed(self, transaction_uid: str) -> str | None:
        """Record a commitment of the destination; return its study, or None for an unknown one."""
        with self._change():
            row = self._db.execute(
                "SELECT id FROM studies WHERE transaction_uid = ? AND state = ?",
                (transaction_uid, COMMITTING),
            ).fetchone()
            if row is None:
                return None
            self._answered(row["id"], self._clock())
            return str(row["id"])

    def not_committed(self, transaction_uid: str) -> str | None:
        """Return the study whose commitment the destination has denied, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT id FROM studies WHERE transaction_uid = ? AND state = ?",
                (transaction_uid, COMMITTING),
            ).fetchone()
        return None if row is None else str(row["id"])

    def commitments_overdue(self) -> list[str]:
        """Return the studies whose commitment did not come in time."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM studies WHERE state = ? AND next_try_at <= ?",
                (COMMITTING, self._clock()),
            ).fetchall()
        return [str(row["id"]) for row in rows]

    def _answered(self, study: str, now: float) -> str:
        """End a study; objects that came while it was sent let it be scored again."""
        row = self._db.execute(
            "SELECT generation, scored_generation FROM studies WHERE id = ?", (study,)
        ).fetchone()
        state = DONE if row["generation"] == row["scored_generation"] else RECEIVED
        self._db.execute(
            "UPDATE studies SET state = ?, changed_at = ?, answered = answer, "
            "answers = answers + 1, transaction_uid = '', tries = 0, next_try_at = 0, error = '', "
            "error_kind = '' WHERE id = ?",
            (state, now, study),
        )
        return state

    def again(self, study: str, state: str, wait_s: float, kind: str, error: str) -> None:
        """Put a study back into `received` or `sending`, to be tried after a wait."""
        now = self._clock()
        with self._change():
            self._db.execute(
                "UPDATE studies SET state = ?, changed_at = ?, next_try_at = ?, tries = tries + 1, "
                "transaction_uid = '', error_kind = ?, error = ? WHERE id = ?",
                (state, now, now + wait_s, kind, error, study),
            )

    def fail(self, study: str, kind: str, error: str) -> None:
        """Give a study up; its files stay for a while, so that it can be tried again."""
        with self._change():
            self._db.execute(
                "UPDATE studies SET state = ?, changed_at = ?, tries = tries + 1, "
                "error_kind = ?, error = ? WHERE id = ?",
                (FAILED, self._clock(), kind, error, study),
            )

    def retry(self, study: str | None = None) -> int:
        """Let failed studies be tried again: one, or all of them.

        A study whose result was made is sent again; the others are scored again, but those whose
        objects are removed: they must be sent again.

        Returns
        -------
        int
            How many.
        """
        now = self._clock()
        with self._change():
            return self._db.execute(
                "UPDATE studies SET state = CASE WHEN answer != '' AND "
                "generation = scored_generation THEN ? ELSE ? END, tries = 0, crashes = 0, "
                "next_try_at = 0, received_at = ?, changed_at = ? WHERE state = ? AND files = 1 "
                "AND (? IS NULL OR id = ?)",
                (SENDING, RECEIVED, now, now, FAILED, study, study),
            ).rowcount

    # ---- space -------------------------------------------------------------------------------

    def removable(self, state: str, keep_s: float) -> Study | None:
        """Return the study that has been done, or failed, for longest, and for over `keep_s`.

        Objects of an answered study that were sent again are kept as long.
        """
        with self._lock:
            row = self._db.execute(
                _STUDY + "WHERE state = ? AND files = 1 AND changed_at <= ? "
                "AND last_object_at <= ? ORDER BY changed_at LIMIT 1",
                (state, self._clock() - keep_s, self._clock() - keep_s),
            ).fetchone()
        return None if row is None else Study(**dict(row))

    def removed(self, study: str) -> bool:
        """Record that the files of a study are removed; return whether they may be.

        That it was received stays known: an answered study is not answered again, and late
        objects are not taken for the whole study.
        """
        with self._change():
            ended = self._db.execute(
                "UPDATE studies SET files = 0 WHERE id = ? AND state IN (?, ?)",
                (study, DONE, FAILED),
            ).rowcount
            if ended:
                self._db.execute("UPDATE objects SET stored = 0 WHERE study = ?", (study,))
        return bool(ended)

    def forget(self, older_s: float) -> int:
        """Forget ended studies without files that are older; a repeat is scored anew then."""
        before = self._clock() - older_s
        with self._change():
            return self._db.execute(
                "DELETE FROM studies WHERE state IN (?, ?) AND files = 0 AND changed_at <= ? "
                "AND last_object_at <= ?",
                (DONE, FAILED, before, before),
            ).rowcount

    # ---- reading -----------------------------------------------------------------------------

    def get(self, study: str) -> Study | None:
        """Return a study, or None."""
        with self._lock:
            row = self._db.execute(_STUDY + "WHERE id = ?", (study,)).fetchone()
        return None if row is None else Study(**dict(row))

    def studies(self) -> list[Study]:
        """Return all studies, in the order in which they came."""
        with self._lock:
            rows = self._db.execute(_STUDY + "ORDER BY received_at").fetchall()
        return [Study(**dict(row)) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return the number of studies in each state; a failed one until its files are removed."""
        with self._lock:
            rows = self._db.execute(
                "SELECT state, COUNT(*) FROM studies WHERE NOT (state = ? AND files = 0) "
                "GROUP BY state",
                (FAILED,),
            ).fetchall()
        return dict.fromkeys(STATES, 0) | {str(row[0]): int(row[1]) for row in rows}

    def stored_bytes(self) -> int:
        """Return the bytes of the objects that lie on the disk."""
        with self._lock:
            row = self._db.execute(
                "SELECT COALESCE(SUM(bytes), 0) FROM objects WHERE stored = 1"
            ).fetchone()
        return int(row[0])

    def oldest_s(self) -> float:
        """Return the age of the oldest study that is not finished, in seconds; 0 without one."""
        with self._lock:
            row = self._db.execute(
                "SELECT MIN(received_at) FROM studies WHERE state NOT IN (?, ?)", (DONE, FAILED)
            ).fetchone()
        return 0.0 if row[0] is None else max(0.0, self._clock() - float(row[0]))

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Run a transaction; an error of the disk is one of the tree."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise DlildError(
                    f"{self._name}: the queue cannot be written: {error}; look at the disk"
                ) from None
