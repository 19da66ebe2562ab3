"""A process ends with its parent, by the kernel's signal or by looking."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from processes import is_running

from dlild_export.serving import parent_death

# A parent that starts a child in a thread, as Triton does, prints its id, and stays.
PARENT = """
import subprocess, sys, threading, time
def start(child=[]):
    child.append(subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE))
    child[0].stdout.readline()
    print(child[0].pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
time.sleep(60)
"""
CHILD = """
import ctypes, sys, time
sys.path.insert(0, {folder!r})
import parent_death
parent_death.end_with_parent()
print("started", flush=True)
time.sleep(4 * parent_death.POLL_S)
{then}
"""


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.mark.parametrize("then", ["time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"])
def test_a_process_outlives_the_thread_that_started_it_and_not_its_parent(then: str) -> None:
    """Also where a thread of Python can no longer run: PyDLL keeps the interpreter's lock."""
    folder = str(Path(parent_death.__file__).parent)
    child = textwrap.dedent(CHILD).format(folder=folder, then=then)
    with subprocess.Popen([sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            time.sleep(6 * parent_death.POLL_S)
            assert is_running(pid)
            os.kill(parent.pid, signal.SIGKILL)
            assert _ends(pid)
        finally:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


# Where the thread that started it stays, the kernel's signal is not asked for.
STAYING = PARENT.replace("flush=True)\nthread", "flush=True)\n    time.sleep(60)\nthread")
LOOKING = """
import sys, time
sys.path.insert(0, {folder!r})
import parent_death
parent_death.POLL_S = 60
parent_death.end_with_parent()
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="a kernel without pidfd_open")
def test_the_end_of_a_parent_is_seen_at_once_where_its_thread_stays() -> None:
    """Triton looks every 0.3 s, and hangs in the end of the interpreter if it sees it first."""
    assert STAYING != PARENT
    child = LOOKING.format(folder=str(Path(parent_death.__file__).parent))
    with subprocess.Popen([sys.executable, "-c", STAYING, child], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            time.sleep(1)
            assert is_running(pid)
            os.kill(parent.pid, signal.SIGKILL)
            assert _ends(pid)
        finally:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def test_only_the_main_thread_of_the_parent_counts(tmp_path: Path) -> None:
    assert not parent_death.is_child_of_main_thread(7, tmp_path)
    task = tmp_path / "7" / "task" / "7"
    task.mkdir(parents=True)
    (task / "children").write_text(f"1 {os.getpid()}0 ")
    assert not parent_death.is_child_of_main_thread(7, tmp_path)
    (task / "children").write_text(f"1 {os.getpid()} ")
    assert parent_death.is_child_of_main_thread(7, tmp_path)


def test_models_are_the_children_of_any_thread_that_watch(tmp_path: Path) -> None:
    names = {11: ["python", parent_death.WATCH], 12: ["python"], 13: ["python", "grpc"]}
    for pid, threads in names.items():
        for number, name in enumerate(threads):
            thread = tmp_path / str(pid) / "task" / str(pid + 100 * number)
            thread.mkdir(parents=True)
            (thread / "comm").write_text(f"{name}\n")
    for number, children in {7: "12 11 ", 8: "13 14 "}.items():
        task = tmp_path / "7" / "task" / str(number)
        task.mkdir(parents=True)
        (task / "children").write_text(children)
    assert parent_death.models_of(7, tmp_path) == {11}
    assert parent_death.models_of(9, tmp_path) == frozenset()


SIBLINGS = """
import subprocess, sys, time
command = [sys.executable, "-c", sys.argv[1]]
children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
for child in children:
    child.stdout.readline()
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""


def test_a_parent_is_told_to_stop_when_one_of_its_models_ends() -> None:
    folder = str(Path(parent_death.__file__).parent)
    child = textwrap.dedent(CHILD).format(folder=folder, then="time.sleep(60)")
    command = [sys.executable, "-c", SIBLINGS, child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        try:
            time.sleep(6 * parent_death.POLL_S)
            assert parent.poll() is None
            os.kill(pids[0], signal.SIGKILL)
            assert parent.wait(10) == -signal.SIGTERM
        finally:
            for pid in filter(is_running, (*pids, parent.pid)):
                os.kill(pid, signal.SIGKILL)


FORGETFUL = """
import sys, time
sys.path.insert(0, {folder!r})
import parent_death
parent_death.POLL_S = parent_death.LONGEST_PAUSE_S = parent_death.STOPPING_S = 0.1
parent_death.end_with_parent()
print("started", flush=True)
time.sleep(1)
parent_death.models_of = lambda _parent: frozenset()
time.sleep(60)
"""


def test_a_parent_goes_on_where_the_kernels_list_leaves_out_a_model_that_runs() -> None:
    child = FORGETFUL.format(folder=str(Path(parent_death.__file__).parent))
    command = [sys.executable, "-c", SIBLINGS, child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        try:
            time.sleep(2)
            assert parent.poll() is None
            assert all(map(is_running, pids))
        finally:
            parent.kill()
        assert all(map(_ends, pids))
