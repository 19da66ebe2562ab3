"""Memory, threads and file descriptors of a running server: each of its processes, and /dev/shm."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SHARED = Path("/dev/shm")
MIB = 2**20


@dataclass(frozen=True)
class Held:
    """What one process holds.

    Attributes
    ----------
    rss : int
        Bytes resident now, shared pages included.
    peak : int
        Largest resident size so far.
    threads, descriptors : int
        Now.
    """

    rss: int
    peak: int
    threads: int
    descriptors: int


def held_by(pid: int | str = "self") -> Held:
    """Read what a process holds.

    Parameters
    ----------
    pid : int or str

    Returns
    -------
    Held
    """
    status = (PROC / str(pid) / "status").read_text()
    fields = dict(re.findall(r"^(VmRSS|VmHWM|Threads):\s+(\d+)", status, re.MULTILINE))
    descriptors = len(list((PROC / str(pid) / "fd").iterdir()))
    rss, peak = (int(fields[name]) * 1024 for name in ("VmRSS", "VmHWM"))
    return Held(rss, peak, int(fields["Threads"]), descriptors)


def server_processes(pid: int) -> dict[str, int]:
    """Name the processes of a server: ``tritonserver``, and each Python model by its folder.

    Parameters
    ----------
    pid : int
        Of the tritonserver.

    Returns
    -------
    dict of str to int
        Process ids; a model with several instances is numbered from the second on.
    """
    found = {"tritonserver": pid}
    children = (PROC / str(pid) / "task").glob("*/children")
    for child in sorted({int(c) for path in children for c in path.read_text().split()}):
        command = (PROC / str(child) / "cmdline").read_bytes().decode().replace("\0", " ")
        model = re.search(r"/([^/ ]+)/\d+/model\.py", command)
        name = model[1] if model else f"process {child}"
        same = sum(known == name or known.startswith(f"{name} ") for known in found)
        found[f"{name} {same + 1}" if same else name] = child
    return found


def server_memory(pid: int) -> dict[str, Held]:
    """What all processes of a server hold, by name."""
    memory = {}
    for name, process in server_processes(pid).items():
        with contextlib.suppress(FileNotFoundError, KeyError):  # it ended meanwhile
            memory[name] = held_by(process)
    return memory


def processor_seconds(pid: int) -> dict[str, float]:
    """Processor time that the processes of a server have used so far, by name.

    Parameters
    ----------
    pid : int
        Of the tritonserver.
    """
    used = {}
    for name, process in server_processes(pid).items():
        fields = (PROC / str(process) / "stat").read_text().rsplit(")", 1)[1].split()
        used[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def shared_memory(pid: int) -> int:
    """Bytes of /dev/shm that a server has mapped and filled.

    Parameters
    ----------
    pid : int
        Of the tritonserver.

    Returns
    -------
    int
    """
    maps = (PROC / str(pid) / "maps").read_text()
    names = set(re.findall(r"/dev/shm/(\S+)", maps))
    total = 0
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            total += (SHARED / name).stat().st_blocks * 512
    return total
