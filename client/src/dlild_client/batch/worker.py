"""Task of a Dask worker: reads a scan, scores it, and returns the result.

A worker uses its own `DLILD_*` variables: neither the API key nor paths of certificates are part of
a task. Only the address of the server is, for workers without `DLILD_URL`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache, partial

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

FIRST_CONNECTION_S = 60.0
"""Time limit of the first connection of a worker, which may start while the server restarts."""


@dataclass(frozen=True, repr=False)
class Task:
    """One scan for a worker. Its `repr` contains neither path nor patient.

    Attributes
    ----------
    scan : BatchScan
        With absolute paths: a worker has another working directory.
    key : str
    url : str
        Address of the server, for a worker without `DLILD_URL`.
    present : bool
        Whether the scan exists on the machine of the batch.
    voxels : bool
        Whether to return label map and image, a thousand times larger than the rest.
    with_source : bool
        Whether to return the headers of the series, which identify the patient.
    version : str
        Version of the client that submits the task.
    """

    scan: BatchScan
    key: str
    url: str
    present: bool
    voxels: bool
    with_source: bool = False
    version: str = __version__

    def __repr__(self) -> str:
        """Identify the scan by its key."""
        return f"Task({self.key})"


def make_task(
    scan: BatchScan, key: str, url: str, *, voxels: bool, with_source: bool = False
) -> Task:
    """Construct the task of a scan, for workers that mount the files under the same paths."""
    files = tuple(path.absolute() for path in scan.files)
    there = replace(scan, path=scan.path.absolute(), files=files)
    return Task(there, key, url, present=scan.path.exists(), voxels=voxels, with_source=with_source)


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
        Errors are returned, not raised: Dask would retry the task.
    """
    try:
        _check(task)
        result = _client(_settings(task.url)).score(
            partial(task.scan.read, with_source=task.with_source), progress
        )
    except STOPPING as error:
        # Not specific to the scan: to be fixed in the environment of the worker.
        return type(error)(f"{error} (said by a worker, which reads its own DLILD_* variables)")
    except DlildError as error:
        return error
    return result if task.voxels else without_voxels(result)


def without_voxels(result: Result) -> Result:
    """Return a copy whose label map and image are one voxel, small to transfer."""
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
    """Resolve the settings for every scan, so that a new key takes effect at the next one."""
    return find_settings(os.environ.get("DLILD_URL") or url, retries=PATIENT)


@lru_cache(maxsize=2)
def _client(settings: Settings) -> Client:
    """Return the client of this process, connected once: such a client waits for its server."""
    client = Client.from_settings(settings)
    for attempt in stamina.retry_context(
        on=_may_pass, attempts=None, timeout=FIRST_CONNECTION_S, wait_max=5.0
    ):
        with attempt:
            client.info()
    return client


def _may_pass(error: Exception) -> bool:
    return isinstance(error, ConnectionFailedError) and not isinstance(error, TLSFailedError)
