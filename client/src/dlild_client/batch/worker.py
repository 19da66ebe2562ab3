"""What a worker of a cluster does with one scan: read it, have it scored, and hand back the result.

A worker has settings of its own, its `DLILD_*` variables: a key or the path of a certificate never
travels with a task. Only the server's address does, for workers that are told no other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import stamina

from dlild_client import __version__
from dlild_client.batch.run import PATIENT, STOPPING
from dlild_client.batch.scans import BatchScan
from dlild_client.client import Client
from dlild_client.errors import BadSettingsError, ConnectionFailedError, DlildError, TLSFailedError
from dlild_client.preparation.prepare import Progress
from dlild_client.results.result import Result
from dlild_client.settings import Settings, find_settings

INTRODUCTION_S = 60.0
"""A worker that starts while the server restarts waits for it; a wrong address is told then."""


@dataclass(frozen=True, repr=False)
class Task:
    """One scan for a worker. What is shown of it names neither path nor patient.

    Attributes
    ----------
    scan : BatchScan
        With absolute paths: a worker's working folder is another one.
    key : str
    url : str
        Address of the server, for a worker that has no `DLILD_URL`.
    present : bool
        Whether the scan was there where the batch was started.
    voxels : bool
        Whether label map and image are wanted, which are a thousand times larger than the rest.
    version : str
        Of the client that asks.
    """

    scan: BatchScan
    key: str
    url: str
    present: bool
    voxels: bool
    version: str = __version__

    def __repr__(self) -> str:
        """Name the scan by its key."""
        return f"Task({self.key})"


def make_task(scan: BatchScan, key: str, url: str, *, voxels: bool) -> Task:
    """Make a task of a scan, for workers that see the same files under the same paths."""
    files = tuple(path.absolute() for path in scan.files)
    there = replace(scan, path=scan.path.absolute(), files=files)
    return Task(there, key, url, present=scan.path.exists(), voxels=voxels)


def score_task(task: Task, progress: Progress | None = None) -> Result | DlildError:
    """Score the scan of a task with the worker's own settings.

    Parameters
    ----------
    task : Task
    progress : callable, optional
        As of `Client.score`.

    Returns
    -------
    Result or DlildError
        The scan's own error is a value, too: a cluster would try it again.
    """
    try:
        _check(task)
        result = _client(_settings(task.url)).score(task.scan.read, progress)
    except STOPPING as error:
        # Every other scan would meet it as well, and the remedy lies with the worker.
        return type(error)(f"{error} (said by a worker, which reads its own DLILD_* variables)")
    except DlildError as error:
        return error
    return result if task.voxels else without_voxels(result)


def without_voxels(result: Result) -> Result:
    """Return a result whose label map and image are one voxel, to travel light."""
    labels, image = (
        replace(volume, array=np.zeros((1, 1, 1), volume.array.dtype))
        for volume in (result.labels, result.image)
    )
    return replace(result, labels=labels, image=image)


def _check(task: Task) -> None:
    if task.version != __version__:
        raise BadSettingsError(
            f"a worker has dlild-client {__version__}, the batch {task.version}; "
            "install the same on both"
        )
    if task.present and not task.scan.path.exists():
        raise BadSettingsError(
            "a scan that lies on the machine of the batch is not there for a worker; "
            "mount the folder of the scans under the same path on all workers"
        )


def _settings(url: str) -> Settings:
    """Find the settings anew for every scan, so that a new key counts from the next one on."""
    return find_settings(os.environ.get("DLILD_URL") or url, retries=PATIENT)


@lru_cache(maxsize=2)
def _client(settings: Settings) -> Client:
    """Return the client of this process. One that has met its server waits for it to come back."""
    client = Client.from_settings(settings)
    for attempt in stamina.retry_context(
        on=_may_pass, attempts=None, timeout=INTRODUCTION_S, wait_max=5.0
    ):
        with attempt:
            client.info()
    return client


def _may_pass(error: Exception) -> bool:
    return isinstance(error, ConnectionFailedError) and not isinstance(error, TLSFailedError)
