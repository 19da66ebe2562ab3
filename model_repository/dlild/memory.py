"""Memory of the container, in use and in all, and what this process has freed of it."""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

SHARED = Path("/dev/shm")  # noqa: S108 - where Triton and its Python models exchange tensors
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


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


def return_freed() -> bool:
    """Have the C library return to the kernel what this process has freed; in use stays in use.

    The allocator keeps what is freed below a block that is still held, as the sums of a scan whose
    client has vanished, and where the server's environment tells it to keep freed memory, all of
    it: without this a process stays as large as at the busiest moment of its life.

    Returns
    -------
    bool
        Whether anything was returned; False where the C library is not glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
