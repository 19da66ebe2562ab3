"""End a model's process with the server that started it, however the server ends.

Triton's Python backend (24.10) looks for its server every 0.3 s, but two faults keep the process of
a model alive: it takes a server that has ended and was not waited for (a zombie) for a living one,
and before it exits it waits for the interpreter's lock, which a thread may hold in a call that only
the server could answer (``Metric.set``, or the end of ``execute``). For the second reason a thread
of Python cannot do it alone either: only the kernel ends a process without that lock.

Rendered into every Python model, and of the standard library only.
"""

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

POLL_S = 0.5
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have this process end when its parent does; to be called once, when a model is loaded."""
    watch = threading.Thread(
        target=_watch, args=(os.getppid(),), name="end_with_parent", daemon=True
    )
    watch.start()


def _watch(parent: int) -> None:
    """Ask for the parent-death signal as soon as it is right, and look for the parent as well.

    The kernel sends that signal when the *thread* that started this process ends. Triton loads each
    instance in a thread that ends once it is loaded; its children then pass to the main thread,
    which ends with the server. Where Triton starts a process again by a thread that stays, looking
    is all there is.

    This thread must stay: the request for the signal is its own, and ends with it.
    """
    is_asked = False
    # After the request the parent is looked for once more: it may have ended just before.
    while os.getppid() == parent:
        if not is_asked and is_child_of_main_thread(parent):
            is_asked = _ask_for_signal()
        else:
            time.sleep(POLL_S)
    os._exit(1)


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


def _ask_for_signal() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0)
