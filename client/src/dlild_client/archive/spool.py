"""Spool of a node: the folder with the queue, the received objects and the results to send.

::

    spool/
      lock                     held while a node uses the folder
      queue.sqlite3            `dlild_client.archive.queue`
      audit.jsonl              `dlild_client.archive.audit`
      incoming/                objects while they arrive; emptied at start
      studies/<study>/<object>.dcm
      results/<study>/<number>.dcm

Names are digests of UIDs: none identifies a patient, and none is taken from a data set.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dlild_client.archive.queue import Queue
from dlild_client.errors import BadSettingsError, DlildError
from dlild_client.results.files import write_fault

if TYPE_CHECKING:
    from pydicom import Dataset


class Spool:
    """The folder of one node; its owner alone can read it.

    Parameters
    ----------
    folder : Path
        Created if missing.

    Raises
    ------
    BadSettingsError
        Another node uses the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self._studies, self._results = folder / "studies", folder / "results"
        try:
            for path in (folder, self.incoming, self._studies, self._results):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: TextIO = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSettingsError(
                f"{folder.name}: another node uses this spool folder; stop it, or give another "
                "with --spool"
            ) from None
        except OSError as error:
            raise BadSettingsError(
                f"{folder.name}: cannot be used as spool folder: {error.strerror}; give another "
                "with --spool"
            ) from None
        self._moves = threading.Lock()
        self.clear_incoming(0.0)

    def close(self) -> None:
        """Let another node use the folder."""
        self._lock.close()

    def clear_incoming(self, older_s: float) -> None:
        """Remove what has arrived in part, and was not written to for a while."""
        for leftover in self.incoming.iterdir():
            with suppress(OSError):
                if leftover.is_dir() and older_s == 0:
                    shutil.rmtree(leftover, ignore_errors=True)
                elif leftover.is_file() and time.time() - leftover.stat().st_mtime >= older_s:
                    leftover.unlink()

    def study(self, study: str) -> Path:
        """Return the folder with the objects of a study."""
        return self._studies / study

    def put(self, arrived: Path, study: str, instance: str, record: Callable[[], object]) -> None:
        """Move an object that has arrived to its study; it is on the disk when this returns.

        Parameters
        ----------
        arrived : Path
        study, instance : str
            Digests of their UIDs.
        record : callable
            Records it in the queue, before `remove` may look whether the study is still ended.
        """
        folder = self.study(study)
        _sync(arrived)
        with self._moves:
            fresh = not folder.is_dir()
            folder.mkdir(mode=0o700, exist_ok=True)
            arrived.replace(folder / f"{instance}.dcm")
            _sync(folder)
            if fresh:
                _sync(self._studies)
            record()

    def instances(self, study: str) -> set[str]:
        """Return the digests of the objects of a study that are on the disk."""
        return {path.stem for path in self.study(study).glob("*.dcm")}

    def put_result(self, study: str, objects: Sequence[Dataset]) -> None:
        """Write the objects of a result, in place of an earlier one, all of them or none."""
        target, stage = self._results / study, self.incoming / f"result-{study}"
        try:
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(mode=0o700)
            for number, dataset in enumerate(objects):
                path = stage / f"{number:02d}.dcm"
                dataset.save_as(path, enforce_file_format=True)
                _sync(path)
            _sync(stage)
            shutil.rmtree(target, ignore_errors=True)
            stage.replace(target)
            _sync(self._results)
        except OSError as error:
            raise DlildError(
                f"the result cannot be written: {write_fault(error)}; look at the disk of the spool"
            ) from None
        finally:
            # What was written before a disk was full would keep it full.
            shutil.rmtree(stage, ignore_errors=True)

    def result(self, study: str) -> list[Path]:
        """Return the files of a result, in the order in which they are sent."""
        return sorted((self._results / study).glob("*.dcm"))

    def remove(self, study: str, record: Callable[[], bool]) -> bool:
        """Remove the files of a study and of its result.

        Parameters
        ----------
        study : str
        record : callable
            Records it in the queue; returns False where the study is no longer ended: an object
            of it has come.

        Returns
        -------
        bool
            What `record` has returned.
        """
        aside = []
        with self._moves:
            if not record():
                return False
            for number, folder in enumerate((self.study(study), self._results / study)):
                target = self.incoming / f"removed-{number}-{study}"
                shutil.rmtree(target, ignore_errors=True)
                with suppress(FileNotFoundError):
                    folder.replace(target)
                    aside.append(target)
        for target in aside:
            shutil.rmtree(target, ignore_errors=True)
        return True

    def remove_unknown(self, queue: Queue) -> int:
        """Remove folders that the queue does not know: left by a kill before their first entry."""
        removed = 0
        for parent in (self._studies, self._results):
            for folder in parent.iterdir():
                if queue.get(folder.name) is None:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed

    def free_bytes(self) -> int:
        """Return the free space of the file system."""
        return shutil.disk_usage(self.folder).free


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
