import pytest

from memory import read_memory


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
