import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from server.cases import CLASSES, WINDOW, Answers, House, make_contract, messages, one_hot

from contract.refusals import (
    BusyError,
    CancelledError,
    GoneError,
    IncompleteError,
    RefusedError,
)
from scan import OpenScan
from scans import OUTCOMES

VOLUME = np.ones((9, 12, 15), np.uint8)
IN_FLIGHT = make_contract().windows.in_flight
SCAN_BYTES = (
    OpenScan.bytes_needed(VOLUME.shape, WINDOW, len(messages(VOLUME)), CLASSES)
    + IN_FLIGHT * messages(VOLUME)[0].window.nbytes
)


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
            answers = Answers()
            house.scans.receive("a", refuse, answers, start=start, end=end)
            assert answers.error == "REFUSED: no"
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
        house.scans.receive("a", fail, Answers(), start=False, end=False)
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
    house.scans.drop("b", CancelledError("gone"))
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
    house.scans.drop("a", CancelledError("gone"))
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


def test_a_window_waits_for_the_network_and_its_scan_is_not_silent_meanwhile():
    house = House()
    windows = messages(VOLUME)
    answers = house.receive("a", windows[0], start=True)
    house.clock.now_s += 100
    house.scans.sweep()
    assert answers.sent == []
    house.compute()
    assert answers.sent[0].windows_received == 1
    assert answers.sent[0].engine == "right always"


def test_the_scan_that_was_admitted_first_is_finished_first():
    house = House()
    windows = messages(VOLUME)
    for name in "abc":
        for place in range(2):
            house.receive(name, windows[place], start=place == 0)
    assert [house.compute()._entry.scan_id for _ in range(6)] == list("aabbcc")


def test_a_window_that_has_waited_for_a_third_of_the_time_for_an_answer_goes_first():
    house = House(answer_s=30)
    windows = messages(VOLUME)
    house.receive("a", windows[0], start=True)
    house.receive("b", windows[0], start=True)
    order = []
    for place in range(1, 6):
        order.append(house.compute(seconds=4)._entry.scan_id)
        house.receive("a", windows[place])
    assert order == list("aaaba")


def test_of_a_scan_whose_client_is_gone_nothing_more_is_computed():
    house = House()
    windows = messages(VOLUME)
    lost = [house.receive("lost", windows[place], start=place == 0) for place in range(4)]
    house.compute()
    house.receive("kept", windows[0], start=True)
    for answers in lost:
        answers.cancelled = True
    assert house.compute()._entry.scan_id == "kept"
    assert house.outcomes == ["CANCELLED"]
    assert [answers.error for answers in lost[1:]] == ["CANCELLED: the client went away"] * 3
    assert len(house.scans) == 1
    assert house.scans.windows_waiting == 0


def test_a_look_finds_clients_that_are_gone_before_their_turn():
    house = House()
    waiting = house.receive("lost", messages(VOLUME)[0], start=True)
    house.scans.sweep()
    assert waiting.sent == []
    waiting.cancelled = True
    house.scans.sweep()
    assert house.outcomes == ["CANCELLED"]
    house.assert_empty()


def test_a_scan_that_is_given_up_loses_its_windows_that_wait():
    house = House()
    windows = messages(VOLUME)
    waiting = [house.receive("a", windows[place], start=place == 0) for place in range(3)]
    given_up = house.receive("a", windows[0], start=True, end=True)
    assert given_up.error.startswith("INCOMPLETE: ")
    assert all(answers.error.startswith("GONE: ") for answers in waiting)
    house.assert_empty()


def test_a_window_that_is_computed_while_its_scan_ends_adds_to_nothing():
    house = House()
    windows = messages(VOLUME)
    first = house.receive("a", windows[0], start=True)
    window = house.scans.take()
    house.receive("a", windows[0], start=True, end=True)
    house.receive("a", windows[0], start=True)
    house.scans.add(window, np.zeros((CLASSES, *WINDOW), np.float16))
    assert first.error.startswith("GONE: ")
    assert house.compute().message is windows[0]
    assert len(house.scans) == 1


def test_the_first_error_of_a_stream_is_the_cause_also_where_windows_wait_before_it():
    house = House()
    windows = messages(VOLUME)
    waiting = [house.receive("a", windows[place], start=place == 0) for place in range(2)]
    wrong = Answers()
    house.scans.receive("a", refuse, wrong, start=False, end=False)
    assert [answers.error for answers in (*waiting, wrong)] == ["REFUSED: no"] * 3


def test_windows_that_are_missing_are_named_before_the_rest_is_computed():
    house = House()
    windows = messages(VOLUME)
    for place in range(3):
        waiting = house.receive("a", windows[place], start=place == 0)
    last = house.receive("a", windows[7], end=True)
    assert last.error == waiting.error == "INCOMPLETE: 4 of 8 windows are missing: 3, 4, 5, 6"
    house.assert_empty()


def test_origins_that_go_down_and_other_shapes_are_refused_before_the_network():
    house = House()
    windows = messages(VOLUME)
    house.receive("a", windows[0], start=True)
    house.receive("a", windows[4])
    assert windows[4].origin[0] > windows[1].origin[0]
    assert "lies below z 3, where a window before it began" in house.receive("a", windows[1]).error
    house.receive("b", windows[0], start=True)
    other = replace(windows[1], window=np.zeros((1, 1, 8, 8, 10), np.float16))
    assert "window has shape (8, 8, 10), the scan began" in house.receive("b", other).error


def test_what_the_network_refuses_ends_the_scan_with_its_words():
    house = House()
    windows = messages(VOLUME)
    answers = [house.receive("a", windows[place], start=place == 0) for place in range(2)]
    house.scans.fail(house.scans.take(), BusyError("the queue is full"))
    assert [a.error for a in answers] == ["BUSY: the queue is full"] * 2
    assert house.outcomes == ["BUSY"]
    house.assert_empty()


def test_several_windows_of_one_scan_are_added_in_their_order():
    house = House(network_instances=2)
    labels = np.arange(9, dtype=np.uint8)[:, None, None] % 3 + np.ones((9, 12, 15), np.uint8)
    windows = messages(labels)
    answers = []
    for first in range(0, 8, 2):
        answers += [
            house.receive("a", windows[place], start=place == 0, end=place == 7)
            for place in (first, first + 1)
        ]
        taken = [house.scans.take(), house.scans.take()]
        late = threading.Thread(
            target=house.scans.add, args=(taken[1], one_hot(taken[1].message.window[0, 0]))
        )
        late.start()
        assert answers[-1].sent == []
        house.scans.add(taken[0], one_hot(taken[0].message.window[0, 0]))
        late.join(5)
    assert [a.sent[0].windows_received for a in answers] == list(range(1, 9))
    assert np.array_equal(answers[-1].sent[0].score.labels, labels)


# ---- the pace of the network ---------------------------------------------------------------------


def test_before_the_first_window_is_done_few_scans_are_admitted():
    house = House(open_scans=12)
    for name in "abcd":
        assert house.receive(name, messages(VOLUME)[0], start=True).sent == []
    assert (
        "the limit before the first is done"
        in house.receive("e", messages(VOLUME)[0], start=True).error
    )
    house.compute(seconds=1.0)
    assert house.receive("e", messages(VOLUME)[0], start=True).sent == []


@pytest.mark.parametrize(("seconds", "admitted"), [(0.5, 12), (5, 6), (14, 2), (50, 1)])
def test_a_slow_network_admits_as_many_scans_as_it_can_answer_in_time(seconds, admitted):
    house = House(open_scans=12)
    house.send_all("before", messages(np.ones(WINDOW, np.uint8)))
    house.scans._pace._seconds_a_voxel = seconds / np.prod(WINDOW)
    answers = [house.receive(str(number), messages(VOLUME)[0], start=True) for number in range(20)]
    assert sum(not a.sent for a in answers) == admitted
    assert all(a.error.startswith("BUSY: ") for a in answers if a.sent)


def test_a_network_that_becomes_slow_is_noticed_before_its_window_is_done():
    house = House(open_scans=12)
    house.send_all("before", messages(np.ones(WINDOW, np.uint8)))
    house.receive("a", messages(VOLUME)[0], start=True)
    house.scans.take()
    house.clock.now_s += 20
    assert (
        "would wait 40 s for an answer" in house.receive("b", messages(VOLUME)[0], start=True).error
    )


def test_refused_scans_are_asked_to_come_back_one_after_the_other():
    house = House(open_scans=1)
    house.scans._pace.add(int(np.prod(WINDOW)), 2.0)
    house.receive("a", messages(VOLUME)[0], start=True)
    waits = []
    for number in range(40):
        error = house.receive(str(number), messages(VOLUME)[0], start=True).error
        waits.append(float(re.search(r"send it again in (\d+\.\d) s", error)[1]))
    # Eight windows of two seconds are 16 s; a little early, and each further scan as much later.
    assert waits[:3] == [12.0, 24.0, 36.0]
    assert max(waits) == 60.0


def test_a_faster_network_is_kept_busy_without_a_gap():
    house = House()
    windows = messages(VOLUME)
    for place in range(4):
        house.receive("a", windows[place], start=place == 0)
    house.compute(seconds=0.01)
    assert house.scans.take() is not None
    assert house.scans.take() is not None
    house.scans._lock.acquire()
    assert house.scans._next() is None
    house.scans._lock.release()


def test_a_client_that_sends_all_at_once_is_refused_where_others_need_the_memory():
    house = House(open_scans=2)
    windows = messages(VOLUME)
    polite = house.receive("polite", windows[0], start=True)
    repeats = [windows[0]] + [windows[7]] * 16
    rude = [house.receive("rude", w, start=place == 0) for place, w in enumerate(repeats)]
    assert "16 windows are unanswered, at most 4 may be" in rude[0].error
    assert polite.sent == []
    assert len(house.scans) == 1


def test_a_server_that_stops_wakes_the_threads_that_wait_for_a_window():
    house = House()
    thread = threading.Thread(target=house.scans.take, daemon=True)
    thread.start()
    house.scans.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_a_server_that_stops_refuses_what_waits_and_ends_its_threads():
    house = House()
    answers = house.receive("a", messages(VOLUME)[0], start=True)
    house.scans.stop()
    assert answers.error.startswith("GONE: the server is stopping")
    assert house.scans.take() is None
    house.assert_empty()
