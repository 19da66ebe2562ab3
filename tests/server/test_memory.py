import os
import subprocess
import sys

import numpy as np
import pytest

import memory
from dlild_deploy.server.preflight import KEPT_MEMORY
from memory import hold, read_memory, return_freed


@pytest.fixture
def machine(tmp_path):
    """A container of 1000 bytes on a machine of 8 KiB."""
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemFree: 1 kB\nMemAvailable: 6 kB\n")
    return tmp_path


def look_at(folder):
    return read_memory(folder, folder, folder / "meminfo")


def test_the_containers_limit_counts_and_its_file_cache_does_not(machine):
    memory = look_at(machine)
    assert (memory.memory_used, memory.memory_total) == (550, 1000)


@pytest.mark.parametrize("limit", ["max\n", None])
def test_without_a_limit_the_machine_counts(machine, limit):
    (machine / "memory.max").unlink()
    if limit:
        (machine / "memory.max").write_text(limit)
    memory = look_at(machine)
    assert (memory.memory_used, memory.memory_total) == (2 * 1024, 8 * 1024)


def test_a_limit_above_the_machine_is_none(machine):
    (machine / "memory.max").write_text(str(2**40))
    assert look_at(machine).memory_total == 8 * 1024


def test_what_cannot_be_seen_is_nothing(tmp_path):
    memory = look_at(tmp_path / "nowhere")
    assert (memory.shared_total, memory.memory_total) == (0, 0)


def test_this_machine_has_memory():
    memory = read_memory()
    assert 0 <= memory.shared_used <= memory.shared_total
    assert 0 < memory.memory_used <= memory.memory_total


FREES_BELOW_WHAT_IS_HELD = """
import re
from pathlib import Path
from memory import return_freed

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

freed, held = b"1" * (64 << 20), b"1" * (1 << 20)
before = resident()
del freed
kept = resident()
returned = return_freed()
print(before - kept, kept - resident(), returned)
"""


def test_what_was_freed_below_what_is_held_goes_back_to_the_kernel():
    done = subprocess.run(
        [sys.executable, "-c", FREES_BELOW_WHAT_IS_HELD],
        env=os.environ | KEPT_MEMORY | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    at_once, by_return, returned = done.stdout.split()
    assert (int(at_once), returned) == (0, "True")
    assert 60 <= int(by_return) <= 64


def test_without_glibc_nothing_is_returned(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _name: object())
    assert return_freed() is False


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture
def _nothing_kept():
    memory._kept.clear()
    yield
    memory._kept.clear()


@pytest.mark.usefixtures("_nothing_kept")
def test_pages_of_an_ended_scan_are_those_of_the_next_one_once_no_view_is_left():
    first = hold((4, 50, 60), np.float32)
    first[...] = 7
    where, view = address(first), first[1, 2:]
    del first
    second = hold((4, 50, 60), np.float32)
    second[...] = 1
    assert address(second) != where
    assert (view == 7).all()
    del view
    third = hold((4, 40, 60), np.float32)
    assert (address(third), third.shape, third.dtype) == (where, (4, 40, 60), np.float32)


@pytest.mark.usefixtures("_nothing_kept")
def test_pages_that_are_too_small_or_far_too_large_are_not_taken():
    pages = hold((10_000,), np.uint8)
    where = address(pages)
    del pages
    others = [hold((size,), np.uint8) for size in (10_001, 4_999)]
    assert where not in map(address, others)


@pytest.mark.usefixtures("_nothing_kept")
def test_pages_of_few_scans_are_kept_and_none_when_memory_is_returned():
    scans = [hold((1000 + n,), np.uint8) for n in range(2 * memory.KEPT_PAGES)]
    del scans
    assert len(memory._kept) == memory.KEPT_PAGES
    return_freed()
    assert memory._kept == []
