"""Shared memory of one server: told apart from others', and removed even where nobody stopped it.

Triton's Python backend makes one region in ``/dev/shm`` for each process of a model. A server that
is killed removes none of them. So every server has a prefix of its own and, beside its regions, a
file that its processes hold locked: launcher, tritonserver and models inherit one and the same lock
(``flock``), which Linux releases when the last of them has ended. Whoever gets the lock may remove
what has that prefix, in whatever namespace or container the others were.
"""

import contextlib
import os
import re
import uuid
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Triton keeps its shared memory
_LOCK = re.compile(r"(dlild_[0-9a-f]{12}_)lock")


class SharedRegions:
    """Regions of one server, from `open` to `remove`.

    Parameters
    ----------
    folder : Path, optional
        Where shared memory is.

    Attributes
    ----------
    prefix : str
        What the name of each region begins with.
    """

    def __init__(self, folder: Path = SHARED_MEMORY) -> None:
        self.prefix = f"dlild_{uuid.uuid4().hex[:12]}_"
        self._folder = folder
        self._lock: int | None = None

    def open(self) -> int:
        """Take the lock.

        Returns
        -------
        int
            File descriptor, for the server to inherit.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(self._folder / f"{self.prefix}lock", flags, 0o600)
        # A start elsewhere that looks between these two lines removes the file: then `remove` alone
        # removes what this server makes.
        _lock(self._lock, wait=True)
        return self._lock

    def remove(self) -> None:
        """Remove the regions of this server, never another's. May be called twice."""
        _remove(self._folder, self.prefix)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_stale_regions(folder: Path = SHARED_MEMORY) -> list[str]:
    """Remove the regions of servers of which no process is left.

    Parameters
    ----------
    folder : Path, optional
        Where shared memory is.

    Returns
    -------
    list of str
        Names of what was removed.
    """
    removed = []
    for path in sorted(folder.glob("dlild_*_lock")):
        if named := _LOCK.fullmatch(path.name):
            # Another user's file cannot be opened, a living server's cannot be locked.
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    _lock(lock, wait=False)
                    removed += _remove(folder, named[1])
                finally:
                    os.close(lock)
    return removed


def _lock(file: int, *, wait: bool) -> None:
    import fcntl  # noqa: PLC0415 - elsewhere than on Linux this package says what it needs

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove(folder: Path, prefix: str) -> list[str]:
    """Remove what has this prefix; the lock's file at last, so that what stays can be found."""
    paths = sorted(folder.glob(f"{prefix}*"), key=lambda path: path.name == f"{prefix}lock")
    removed = []
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path.name)
    return removed
