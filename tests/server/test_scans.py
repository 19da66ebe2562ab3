import numpy as np
import pytest
from server.cases import CLASSES, WINDOW, Clock, always, make_contract, make_limits, messages

from contract.refusals import BusyError, GoneError, IncompleteError, RefusedError
from scan import OpenScan
from scans import OUTCOMES, OpenScans

VOLUME = np.ones((9, 12, 15), np.uint8)
SCAN_BYTES = OpenScan.bytes_needed(VOLUME.shape, WINDOW, len(messages(VOLUME)), CLASSES)


class House:
    """Open scans, their reports and their clock."""

    def __init__(self, **limits):
        self.reports = []
        self.clock = Clock()
        self.scans = OpenScans(
            make_contract(), make_limits(**limits), self.reports.append, self.clock
        )

    def send(self, scan_id, window, *, start=False, end=False):
        return self.scans.receive(scan_id, always(window), start=start, end=end)

    def send_all(self, scan_id, windows):
        last = len(windows) - 1
        return [
            self.send(scan_id, window, start=place == 0, end=place == last)
            for place, window in enumerate(windows)
        ]

    @property
    def outcomes(self):
        return [report.outcome for report in self.reports]

    def assert_empty(self):
        assert len(self.scans) == 0
        assert self.scans.bytes_held == 0


def refuse():
    raise RefusedError("no")


def test_a_scan_is_acknowledged_then_scored_and_let_go():
    house = House()
    answers = house.send_all("a", messages(VOLUME))
    assert [answer.windows_received for answer in answers] == list(range(1, 9))
    assert all(answer.score is None for answer in answers[:-1])
    assert answers[-1].score.dl_ild_percent == 0.0
    assert house.outcomes == ["done"]
    house.assert_empty()


def test_one_window_may_start_and_end():
    answers = House().send_all("a", messages(np.full(WINDOW, 2, np.uint8)))
    assert answers[0].score.dl_ild_percent == 100.0


def test_scans_do_not_mix():
    house = House()
    healthy, ill = messages(VOLUME), messages(VOLUME * 3)
    for place in range(8):
        first, last = place == 0, place == 7
        one = house.send("a", healthy[place], start=first, end=last)
        other = house.send("b", ill[place], start=first, end=last)
    assert one.score.dl_ild_percent == 0.0
    assert other.score.dl_ild_percent == 100.0


def test_an_end_without_all_windows_is_incomplete_and_frees():
    house = House()
    windows = messages(VOLUME)
    with pytest.raises(IncompleteError, match="1 of 8 windows are missing: 4"):
        house.send_all("a", windows[:4] + windows[5:])
    assert house.outcomes == ["INCOMPLETE"]
    house.assert_empty()


def test_a_repeat_counts_once_and_the_scan_goes_on():
    house = House()
    windows = messages(VOLUME)
    answers = house.send_all("a", [*windows[:3], windows[1], *windows[3:]])
    assert answers[3].windows_received == 3
    assert answers[-1].score is not None


def test_a_second_start_begins_anew():
    house = House()
    windows = messages(VOLUME)
    for place in range(4):
        house.send("a", windows[place], start=place == 0)
    answers = house.send_all("a", messages(VOLUME * 2))
    assert answers[0].windows_received == 1
    assert answers[-1].score.dl_ild_percent == 100.0
    assert house.outcomes == ["RESTARTED", "done"]


def test_a_start_that_is_the_end_as_well_gives_a_scan_up():
    house = House()
    windows = messages(VOLUME)
    house.send("a", windows[0], start=True)
    with pytest.raises(IncompleteError, match="1 of 8 windows"):
        house.send("a", windows[0], start=True, end=True)
    assert house.outcomes == ["CANCELLED"]
    house.assert_empty()


def test_giving_up_what_is_not_held_holds_nothing():
    house = House(open_bytes=SCAN_BYTES)
    house.send("other", messages(VOLUME)[0], start=True)
    with pytest.raises(IncompleteError):
        house.send("a", messages(VOLUME)[0], start=True, end=True)
    assert house.outcomes == ["INCOMPLETE"]
    assert len(house.scans) == 1


def test_a_window_of_no_scan_is_gone():
    house = House()
    with pytest.raises(GoneError, match="GONE: "):
        house.send("a", messages(VOLUME)[1])
    assert house.reports == []


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_refusal_ends_the_scan_and_no_other(place):
    house = House()
    windows, others = messages(VOLUME), messages(VOLUME)
    for index in range(8):
        start, end = index == 0, index == 7
        answer = house.send("other", others[index], start=start, end=end)
        if index < place:
            house.send("a", windows[index], start=start)
        elif index == place:
            with pytest.raises(RefusedError):
                house.scans.receive("a", refuse, start=start, end=end)
        else:
            with pytest.raises(GoneError):
                house.send("a", windows[index], end=end)
    assert answer.score is not None
    assert sorted(house.outcomes) == ["REFUSED", "done"]
    house.assert_empty()


def test_a_fault_of_ours_ends_the_scan_too():
    house = House()
    house.send("a", messages(VOLUME)[0], start=True)

    def fail():
        raise MemoryError

    with pytest.raises(MemoryError):
        house.scans.receive("a", fail, start=False, end=False)
    assert house.outcomes == ["FAILED"]
    house.assert_empty()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (messages(np.ones((9, 12, 14), np.uint8))[1], "box_shape is (9, 12, 14), the scan began"),
        (messages(VOLUME, voxel_volume_mm3=1.0)[1], "voxel_volume_mm3 is 1.0, the scan began"),
        (messages(np.ones((9, 12, 10), np.uint8))[1], "window_count is 4, the scan began with 8"),
    ],
)
def test_a_scan_may_not_change_on_the_way(other, says):
    house = House()
    house.send("a", messages(VOLUME)[0], start=True)
    with pytest.raises(RefusedError) as error:
        house.send("a", other)
    assert str(error.value).startswith(f"REFUSED: {says}")
    house.assert_empty()


def test_one_scan_too_many_is_busy_at_its_first_window():
    house = House()
    windows = messages(VOLUME)
    for name in "abc":
        house.send(name, windows[0], start=True)
    with pytest.raises(BusyError, match="BUSY: 3 scans are open"):
        house.send("d", windows[0], start=True)
    house.scans.drop("b", "CANCELLED")
    assert house.send("d", windows[0], start=True).windows_received == 1
    assert house.outcomes == ["BUSY", "CANCELLED"]


def test_too_many_bytes_are_busy():
    house = House(open_bytes=2 * SCAN_BYTES - 1)
    windows = messages(VOLUME)
    house.send("a", windows[0], start=True)
    with pytest.raises(BusyError, match=f"BUSY: open scans hold {SCAN_BYTES} bytes"):
        house.send("b", windows[0], start=True)


def test_a_scan_that_can_never_fit_is_refused():
    with pytest.raises(RefusedError, match="REFUSED: box_shape"):
        House(open_bytes=SCAN_BYTES - 1).send("a", messages(VOLUME)[0], start=True)


def test_a_silent_scan_is_dropped_and_then_gone():
    house = House()
    windows = messages(VOLUME)
    house.send("silent", windows[0], start=True)
    house.clock.now_s += 30
    house.send("other", windows[0], start=True)
    house.clock.now_s += 11
    house.scans.sweep()
    assert house.outcomes == ["IDLE"]
    with pytest.raises(GoneError):
        house.send("silent", windows[1])
    assert house.send("other", windows[1]).windows_received == 2


def test_silence_is_noticed_by_the_next_window_of_any_scan():
    house = House()
    windows = messages(VOLUME)
    for name in "abc":
        house.send(name, windows[0], start=True)
    house.clock.now_s += 41
    house.send("d", windows[0], start=True)
    assert house.outcomes == ["IDLE"] * 3


def test_reports_hold_what_the_log_may_know():
    house = House()
    house.send("a", messages(VOLUME)[0], start=True)
    house.clock.now_s += 5
    house.scans.drop("a", "CANCELLED")
    (report,) = house.reports
    assert (report.scan, report.windows_received, report.window_count) == ("a", 1, 8)
    assert report.box_shape == VOLUME.shape
    assert report.seconds == 5
    assert report.outcome in OUTCOMES


def test_a_silent_scan_gives_way_when_all_places_are_taken():
    house = House()
    windows = messages(VOLUME)
    house.send("vanished", windows[0], start=True)
    house.clock.now_s += 11
    for name in "ab":
        house.send(name, windows[0], start=True)
    assert house.outcomes == []
    assert house.send("next", windows[0], start=True).windows_received == 1
    assert house.outcomes == ["YIELDED"]
    with pytest.raises(GoneError):
        house.send("vanished", windows[1])


def test_only_the_longest_silence_gives_way_and_only_once_it_is_long():
    house = House()
    windows = messages(VOLUME)
    for name in "abc":
        house.send(name, windows[0], start=True)
        house.clock.now_s += 4
    # Silent for 12, 8 and 4 s: a quarter of the 40 s that they may be silent otherwise is 10.
    house.send("next", windows[0], start=True)
    with pytest.raises(BusyError):
        house.send("one too many", windows[0], start=True)
    assert house.send("b", windows[1]).windows_received == 2
    assert house.outcomes == ["YIELDED", "BUSY"]


def test_on_a_slow_server_nobody_gives_way_for_a_pause_that_others_make_too():
    house = House()
    windows = messages(VOLUME)
    for name in "abc":
        house.send(name, windows[0], start=True)
    house.clock.now_s += 5
    house.send("b", windows[1])
    house.send("c", windows[1])
    house.clock.now_s += 14
    # "a" has been silent for 19 s, the others paused for 5: four times that is 20.
    with pytest.raises(BusyError):
        house.send("next", windows[0], start=True)
    house.clock.now_s += 2
    assert house.send("next", windows[0], start=True).windows_received == 1


def test_bytes_make_silent_scans_give_way_too():
    house = House(open_bytes=2 * SCAN_BYTES - 1)
    windows = messages(VOLUME)
    house.send("a", windows[0], start=True)
    house.clock.now_s += 11
    assert house.send("b", windows[0], start=True).windows_received == 1
    assert house.outcomes == ["YIELDED"]
