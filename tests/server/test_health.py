import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from server.cases import House, messages
from server.test_scans import VOLUME

from contract.refusals import CancelledError
from health import EDGES, Health
from memory import MemoryUse
from scans import OUTCOMES, ScanReport


class Board:
    """Families of metrics as Triton makes them, kept where a test can read them."""

    def __init__(self):
        self.values = {}
        self.messages = 0

    def family(self, name, description):
        assert description
        return Family(self, name)


class Family:
    def __init__(self, board, name):
        self.board, self.name = board, name

    def Metric(self, labels):
        return Metric(self.board, (self.name, *labels.values()))


class Metric:
    def __init__(self, board, key):
        assert key not in board.values
        self.board, self.key = board, key
        board.values[key] = 0

    def increment(self, value):
        assert value >= 0
        self.set(self.board.values[self.key] + value)

    def set(self, value):
        self.board.values[self.key] = value
        self.board.messages += 1


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def health(board):
    return Health(board.family, board.family)


def test_every_series_is_there_from_the_start(health, board):
    assert {key[1] for key in board.values if key[0] == "dlild_scans_total"} == set(OUTCOMES)
    assert set(board.values.values()) == {0}


def test_scans_are_counted_by_outcome_and_seconds_by_stage(health, board):
    house = House()
    house.send("a", messages(VOLUME)[0], start=True)
    house.clock.now_s += 5
    house.scans.drop("a", CancelledError("gone"))
    house.send_all("b", messages(VOLUME))
    for report in house.reports:
        health.ended(report)
    health.publish(house.scans)
    assert board.values["dlild_scans_total", "CANCELLED"] == 1
    assert board.values["dlild_scans_total", "done"] == 1
    assert board.values["dlild_scans_total", "FAILED"] == 0
    assert board.values["dlild_scan_seconds_total", "whole"] == 5


def test_what_is_held_is_reported_when_it_changes_only(health, board):
    house = House()
    windows = messages(VOLUME)[:7]
    for place, window in enumerate(windows):
        house.send("a", window, start=place == 0)
        health.taken()
        health.publish(house.scans)
    assert board.values["dlild_windows_total",] == len(windows)
    assert board.values["dlild_open_scans",] == 1
    assert board.values["dlild_bytes_held",] == house.scans.bytes_held > 0
    # Each kind of what is held is told once: the number of windows that wait is 0 as before.
    assert board.messages == len(windows) + 4
    house.receive("a", messages(VOLUME)[7])
    house.scans._pace.add(1, 1.0)
    health.publish(house.scans)
    assert board.values["dlild_waiting_windows",] == 1
    assert board.values["dlild_answer_seconds",] > 0
    house.clock.now_s += 2
    house.compute()
    health.publish(house.scans)
    health.publish(house.scans)
    assert board.values["dlild_wait_seconds_total",] == 2
    house.scans.drop("a", CancelledError("gone"))
    health.publish(house.scans)
    for name in ("open_scans", "bytes_held", "waiting_windows", "answer_seconds"):
        assert board.values[f"dlild_{name}",] == 0


def test_stages_take_their_share_of_the_whole():
    house = House(time.monotonic)
    house.send_all("a", messages(VOLUME))
    (report,) = house.reports
    stages = (report.network_seconds, report.blend_seconds, report.score_seconds)
    assert min(stages) > 0
    assert sum(stages) <= report.seconds


def report(outcome, seconds):
    return ScanReport("a", outcome, 1, 1, (1, 1, 1), seconds)


def test_scored_scans_make_a_histogram(health, board):
    for seconds in (0.5, 4, 60, 1000):
        health.ended(report("done", seconds))
    health.ended(report("FAILED", 0.1))
    health.publish(House().scans)
    counts = [
        board.values["dlild_scan_duration_seconds_bucket", str(edge)] for edge in (*EDGES, "+Inf")
    ]
    assert counts == [sum(s <= edge for s in (0.5, 4, 60)) for edge in EDGES] + [4]
    assert counts == sorted(counts)


@pytest.mark.parametrize("name", ["dlild_memory_budget_bytes", "dlild_room_bytes"])
def test_the_containers_memory_is_reported_by_the_new_and_by_the_old_name(health, board, name):
    health.publish(House().scans, MemoryUse(1, 2, 3, 4))
    assert {key[1:]: value for key, value in board.values.items() if key[0] == name} == {
        ("shared_memory", "used"): 1,
        ("shared_memory", "total"): 2,
        ("memory", "used"): 3,
        ("memory", "total"): 4,
    }


class SlowMetric(Metric):
    """A metric that takes a while to change, and reports who came meanwhile."""

    def __init__(self, board, key):
        super().__init__(board, key)
        self.changing = threading.Lock()

    def set(self, value):
        if not self.changing.acquire(blocking=False):
            self.board.overlaps += 1
            return
        try:
            time.sleep(0.0002)
            super().set(value)
        finally:
            self.changing.release()


def test_no_metric_is_changed_by_two_threads_at_once(board, monkeypatch):
    # Triton 24.10 ends with a segmentation fault where two threads increment one metric at once.
    monkeypatch.setitem(globals(), "Metric", SlowMetric)
    board.overlaps = 0
    health = Health(board.family, board.family)
    house = House()
    house.send("a", messages(VOLUME)[0], start=True)
    threads, rounds = 8, 20

    def work(place):
        for count in range(rounds):
            health.taken()
            health.ended(report("done", 4))
            health.publish(house.scans, MemoryUse(place, count, 3, 4))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert board.overlaps == 0
    assert board.values["dlild_windows_total",] == threads * rounds
    assert board.values["dlild_scans_total", "done"] == threads * rounds
    assert board.values["dlild_scan_seconds_total", "whole"] == 4 * threads * rounds
