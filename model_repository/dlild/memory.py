"""Memory of the container, in use and in all; memory of open scans; what this process has freed."""

import contextlib
import ctypes
import math
import mmap
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARED = Path("/dev/shm")  # noqa: S108 - where Triton and its Python models exchange tensors
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")

# Pages of ended scans that are kept for the next ones: sums and labels of two.
KEPT_PAGES = 4
_kept: list[mmap.mmap] = []


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of the container that are in use, and that there are.

    Attributes
    ----------
    shared_used, shared_total : int
        Of shared memory; 0 where there is none.
    memory_used, memory_total : int
        Of main memory, without file cache that can be given back. Of the container where it has a
        limit, else of the machine.
    """

    shared_used: int
    shared_total: int
    memory_used: int
    memory_total: int


def read_memory(shared: Path = SHARED, cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> MemoryUse:
    """Read how much memory is in use.

    Parameters
    ----------
    shared : Path, optional
        Folder of shared memory.
    cgroup : Path, optional
        This container's control group, version 2.
    meminfo : Path, optional
        What the kernel says of the machine.

    Returns
    -------
    MemoryUse
    """
    try:
        disk = os.statvfs(shared)
        shared_total = disk.f_blocks * disk.f_frsize
        shared_used = shared_total - disk.f_bfree * disk.f_frsize
    except OSError:
        shared_total = shared_used = 0
    return MemoryUse(shared_used, shared_total, *_memory(cgroup, meminfo))


def _memory(cgroup: Path, meminfo: Path) -> tuple[int, int]:
    machine = _table(meminfo, unit=1024)
    total = machine.get("MemTotal:", 0)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        # No control group of version 2, or "max": no limit but the machine's.
        return total - machine.get("MemAvailable:", total), total
    cache = _table(cgroup / "memory.stat", unit=1).get("inactive_file", 0)
    return max(used - cache, 0), min(limit, total) if total else limit


def _table(path: Path, unit: int) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) * unit for line in lines if len(line) > 1 and line[1].isdigit()}


def hold(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Make an array for as long as a scan is open, in pages of its own; not zeroed.

    A scan whose client has vanished stays open for long. In the heap its arrays would lie between
    those of windows, which come and go: what is free between them fits less and less, and the heap
    grows. New pages have to be cleared by the kernel, so those of the last scans are used again.

    Parameters
    ----------
    shape : tuple of int
    dtype : type

    Returns
    -------
    ndarray
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    pages = _take_pages(size)
    array = np.frombuffer(pages, dtype, math.prod(shape))
    # All views of an array refer to it: the pages are free when none is left.
    weakref.finalize(array, _keep_pages, pages).atexit = False
    return array.reshape(shape)


def _take_pages(size: int) -> mmap.mmap:
    for pages in tuple(_kept):
        if size <= len(pages) <= 2 * size:
            with contextlib.suppress(ValueError):  # another thread has taken them
                _kept.remove(pages)
                return pages
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _keep_pages(pages: mmap.mmap) -> None:
    # Called wherever the last reference goes, in the midst of another call too: it takes no lock.
    _kept.append(pages)
    del _kept[:-KEPT_PAGES]


def return_freed() -> bool:
    """Return to the kernel what this process has freed and what `hold` keeps.

    Told by the server's environment to keep freed memory, the allocator would keep all that the
    busiest moment of the server's life has taken.

    Returns
    -------
    bool
        Whether the C library returned anything; False where it is not glibc.
    """
    _kept.clear()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
