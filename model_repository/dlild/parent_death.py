"""End a model's process with the server that started it, and the server with any of its models.

Triton's Python backend (24.10) looks for its server every 0.3 s, but two faults keep the process of
a model alive: it takes a server that has ended and was not waited for (a zombie) for a living one,
and before it exits it waits for the interpreter's lock, which a thread may hold in a call that only
the server could answer (``Metric.set``, or the end of ``execute``). For the second reason a thread
of Python cannot do it alone either: only the kernel ends a process without that lock.

And a server whose model has lost its process, as by the kernel for want of memory, says that it is
ready and answers no scan any more: Triton starts such a process again for some models only. What is
left of its models then tells it to stop, and what started it starts it again.

Rendered into every Python model, and of the standard library only.
"""

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from pathlib import Path

POLL_S, LONGEST_PAUSE_S, STOPPING_S = 0.5, 10.0, 3.0
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
WATCH = "dlild-watch"
"""Name of the watching thread for the kernel, by which models know each other. Other processes that
Triton starts, to complete a configuration, end again at once."""


def end_with_parent() -> None:
    """Have this process end when its parent does, and tell the parent to stop when a sibling ends.

    To be called once, when a model is loaded.
    """
    watch = threading.Thread(
        target=_watch, args=(os.getppid(),), name="end_with_parent", daemon=True
    )
    watch.start()


def _watch(parent: int) -> None:
    """Ask for the parent-death signal as soon as it is right, and look for the parent as well.

    The kernel sends that signal when the *thread* that started this process ends. Triton loads each
    instance in a thread that ends once it is loaded; its children then pass to the main thread,
    which ends with the server. Until then, and where Triton starts a process by a thread that
    stays, looking is all there is; and it has to be faster than Triton's own look, which may wait
    for ever in the end of the interpreter.

    This thread must stay: the request for the signal is its own, and ends with it.
    """
    _ask_kernel(PR_SET_NAME, WATCH.encode("ascii"))
    is_asked, pause_s = False, POLL_S
    ends: dict[int, int] = {}  # processes, by descriptors that are ready when they have ended
    poller = select.poll()
    # After the request the parent is looked for once more: it may have ended just before.
    while os.getppid() == parent:
        for pid in {parent, *models_of(parent)} - {*ends.values()}:
            with contextlib.suppress(OSError):  # a kernel before 5.3, or it has ended
                end = os.pidfd_open(pid)
                ends[end] = pid
                poller.register(end, select.POLLIN)
        if not is_asked and is_child_of_main_thread(parent):
            is_asked = _ask_kernel(PR_SET_PDEATHSIG, int(signal.SIGKILL))
            continue
        for end, _ in poller.poll(1000 * pause_s):
            if ends[end] != parent:
                _stop_server(parent, ends[end])
            poller.unregister(end)
            os.close(end)
            del ends[end]
        # Models are loaded together, mostly, and a look at all threads of the server takes 6 ms.
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if ends else POLL_S
    os._exit(1)


def _stop_server(parent: int, ended: int) -> None:
    """Tell a server to stop that goes on without a model; one that is stopping needs a while."""
    deadline = time.monotonic() + STOPPING_S
    while os.getppid() == parent:
        if time.monotonic() > deadline:
            said = (
                f"error: the process of a model has ended ({ended}), so the server is told to stop"
            )
            print(said, flush=True)
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, signal.SIGTERM)
            return
        time.sleep(POLL_S / 5)


def models_of(parent: int, processes: Path = Path("/proc")) -> frozenset[int]:
    """Return the processes that a server has started, that watch it, and that run.

    The kernel's list of children may leave out one that runs, while others of it come or go.

    Parameters
    ----------
    parent : int
        Process id of the server.
    processes : Path, optional
        The kernel's folder of processes.

    Returns
    -------
    frozenset of int
        Process ids; none where the kernel does not tell.
    """
    children: set[int] = set()
    for task in (processes / str(parent) / "task").glob("*/children"):
        with contextlib.suppress(OSError):
            children.update(map(int, task.read_text("ascii").split()))
    return frozenset(pid for pid in children if _watches(processes / str(pid)))


def _watches(process: Path) -> bool:
    # A process that ended and was not waited for has no threads left but the first.
    for thread in (process / "task").glob("*/comm"):
        with contextlib.suppress(OSError):
            if thread.read_text("utf-8", "replace").rstrip() == WATCH:
                return True
    return False


def is_child_of_main_thread(parent: int, processes: Path = Path("/proc")) -> bool:
    """Whether the main thread of the parent, and no other, counts as parent of this process.

    Parameters
    ----------
    parent : int
        Process id.
    processes : Path, optional
        The kernel's folder of processes.

    Returns
    -------
    bool
        False where the kernel does not tell.
    """
    children = processes / str(parent) / "task" / str(parent) / "children"
    try:
        return str(os.getpid()) in children.read_text("ascii").split()
    except OSError:
        return False


def _ask_kernel(what: int, argument: int | bytes) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(what, argument, 0, 0, 0) == 0)
