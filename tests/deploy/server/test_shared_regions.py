"""Shared memory of servers that were killed is removed by the next start, of no living one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from dlild_deploy.server.shared_regions import SharedRegions, remove_stale_regions


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_regions_stay_while_any_process_of_the_server_lives(tmp_path: Path) -> None:
    regions = SharedRegions(tmp_path)
    lock = regions.open()
    (tmp_path / f"{regions.prefix}1").touch()
    present = names(tmp_path)
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock]) as model:
        assert remove_stale_regions(tmp_path) == []
        os.close(lock)  # as the end of the launcher does
        assert remove_stale_regions(tmp_path) == []
        assert names(tmp_path) == present
        model.kill()
    assert set(remove_stale_regions(tmp_path)) == present
    assert names(tmp_path) == set()


def test_a_stop_removes_what_is_its_own_alone(tmp_path: Path) -> None:
    mine, other = SharedRegions(tmp_path), SharedRegions(tmp_path)
    for regions in (mine, other):
        regions.open()
        (tmp_path / f"{regions.prefix}1").touch()
    mine.remove()
    mine.remove()
    assert names(tmp_path) == {f"{other.prefix}1", f"{other.prefix}lock"}
    other.remove()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = {"dlild_container_7_1", "dlild_x_lock", "triton_python_backend_shm_region_1", "y"}
    for name in others:
        (tmp_path / name).touch()
    assert remove_stale_regions(tmp_path) == []
    assert names(tmp_path) == others
    assert remove_stale_regions(tmp_path / "none") == []
