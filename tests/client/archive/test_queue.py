"""The queue of a node: its states, and what is left of them after the process has ended."""

from __future__ import annotations

import sqlite3

import pytest

from dlild_client.archive.queue import (
    COMMITTING,
    DONE,
    FAILED,
    MAXIMUM_CRASHES,
    RECEIVED,
    SCORING,
    SENDING,
    Queue,
    digest_of,
)
from dlild_client.errors import DlildError


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path, clock) -> Queue:
    return Queue(tmp_path / "queue.sqlite3", clock)


def reopened(queue: Queue, tmp_path, clock) -> Queue:
    """The queue as the next process finds it; the last one did not close it."""
    again = Queue(tmp_path / "queue.sqlite3", clock)
    again.recover()
    return again


def state(queue: Queue, study: str = "a") -> str:
    found = queue.get(study)
    assert found is not None
    return found.state


def scored(queue: Queue, clock: Clock, answer: str = "x") -> str:
    clock.now += 100
    assert queue.claim(60) is not None
    return queue.scored("a", answer)


def test_a_study_is_claimed_once_it_is_quiet(queue, clock):
    assert queue.add("a", "1", 10, "CT1")
    clock.now += 50
    assert queue.add("a", "2", 10)
    clock.now += 59
    assert queue.claim(60) is None
    clock.now += 1
    claimed = queue.claim(60)
    assert (claimed.id, claimed.state, claimed.objects, claimed.bytes) == ("a", SCORING, 2, 20)
    assert claimed.sender == "CT1"
    assert queue.claim(60) is None


def test_a_repeat_of_an_object_is_known_and_keeps_a_study_from_being_quiet(queue, clock):
    queue.add("a", "1", 10)
    clock.now += 50
    assert not queue.add("a", "1", 10)
    clock.now += 50
    assert queue.claim(60) is None
    assert queue.get("a").objects == 1


def test_an_answered_study_stays_answered(queue, clock):
    queue.add("a", "1", 10)
    assert scored(queue, clock) == SENDING
    assert queue.next_to_send().id == "a"
    assert queue.sent("a") == DONE
    assert not queue.add("a", "1", 10)
    clock.now += 100
    assert queue.claim(60) is None
    queue.removed("a")
    assert not queue.add("a", "1", 10)
    assert (state(queue), queue.get("a").answers) == (DONE, 1)


def test_a_new_object_lets_an_answered_study_be_scored_and_sent_if_the_answer_differs(queue, clock):
    queue.add("a", "1", 10)
    scored(queue, clock, "x")
    queue.sent("a")
    queue.add("a", "2", 10)
    assert scored(queue, clock, "x") == DONE
    queue.add("a", "3", 10)
    assert scored(queue, clock, "y") == SENDING
    assert queue.get("a").answers == 1


def test_objects_that_come_while_a_study_is_scored_or_sent_are_not_left_out(queue, clock):
    queue.add("a", "1", 10)
    clock.now += 100
    queue.claim(60)
    queue.add("a", "2", 10)
    assert queue.scored("a", "x") == RECEIVED
    assert scored(queue, clock) == SENDING
    queue.add("a", "3", 10)
    assert state(queue) == SENDING
    assert queue.sent("a") == RECEIVED


@pytest.mark.parametrize("stage", [RECEIVED, SCORING, SENDING, COMMITTING, DONE, FAILED])
def test_after_a_kill_a_study_goes_on_from_its_state(queue, clock, tmp_path, stage):
    queue.add("a", "1", 10)
    clock.now += 100
    if stage not in {RECEIVED, FAILED}:
        queue.claim(60)
    if stage in {SENDING, COMMITTING, DONE}:
        queue.scored("a", "x")
    if stage == COMMITTING:
        queue.sent("a", "1.2.3", 60)
    if stage == DONE:
        queue.sent("a")
    if stage == FAILED:
        queue.fail("a", "NotChest", "no lungs")
    after = reopened(queue, tmp_path, clock)
    assert state(after) == (RECEIVED if stage == SCORING else stage)
    assert after.get("a").crashes == (1 if stage == SCORING else 0)


def test_senders_that_were_cut_off_get_time_to_come_back(queue, clock):
    queue.add("a", "1", 10)
    clock.now += 100
    queue.wait_for_senders(60)
    for wait_s, claimed in ((60, False), (59, False), (1, True)):
        clock.now += wait_s
        assert (queue.claim(60) is not None) == claimed
    queue.add("b", "2", 10)
    queue.add("c", "3", 10)
    queue.wait_for_senders(60, {"b"})
    clock.now += 60
    assert queue.claim(60).id == "c"
    assert queue.claim(60) is None


def test_a_study_that_ends_the_process_each_time_is_given_up(queue, clock, tmp_path):
    queue.add("a", "1", 10)
    for _ in range(MAXIMUM_CRASHES):
        clock.now += 100
        assert queue.claim(60) is not None
        queue = reopened(queue, tmp_path, clock)
    assert state(queue) == FAILED
    assert f"ended {MAXIMUM_CRASHES} times" in queue.get("a").error
    assert queue.retry("a") == 1
    assert state(queue) == RECEIVED


def test_commitments_end_a_study_or_are_overdue(queue, clock):
    queue.add("a", "1", 10)
    scored(queue, clock)
    assert queue.sent("a", "1.2.3", 60) == COMMITTING
    assert queue.committed("9.9") is None
    assert queue.commitments_overdue() == []
    clock.now += 61
    assert queue.commitments_overdue() == ["a"]
    assert queue.not_committed("1.2.3") == "a"
    queue.again("a", SENDING, 0, "DlildError", "denied")
    assert queue.committed("1.2.3") is None  # too late: it is sent again
    queue.sent("a", "1.2.4", 60)
    assert queue.committed("1.2.4") == "a"
    assert state(queue) == DONE


def test_back_off_failure_and_retry(queue, clock):
    queue.add("a", "1", 10)
    scored(queue, clock)
    queue.again("a", SENDING, 30, "ConnectionFailed", "nobody there")
    assert queue.next_to_send() is None
    clock.now += 31
    assert queue.next_to_send().tries == 1
    queue.fail("a", "ConnectionFailed", "nobody there")
    assert queue.counts() | {} == dict.fromkeys(queue.counts(), 0) | {FAILED: 1}
    assert queue.retry() == 1
    assert state(queue) == SENDING  # its result was made
    queue.fail("a", "Refused", "no")
    assert not queue.add("a", "1", 10)  # sent again by its sender
    assert state(queue) == RECEIVED


def test_space_is_made_from_what_is_done(queue, clock):
    queue.add("a", "1", 10)
    assert queue.removable(DONE, 0) is None
    scored(queue, clock)
    queue.sent("a")
    assert queue.removable(DONE, 60) is None
    assert queue.stored_bytes() == 10
    assert queue.holds(["1", "2"]) == [True, False]
    assert queue.removable(DONE, 0).id == "a"
    queue.removed("a")
    assert (queue.stored_bytes(), queue.holds(["1"])) == (0, [False])
    assert queue.forget(60) == 0
    clock.now += 61
    assert queue.forget(60) == 1
    queue.add("b", "2", 10)
    queue.fail("b", "NotChest", "no lungs")
    assert queue.counts()[FAILED] == 1
    queue.removed("b")
    assert (queue.counts()[FAILED], queue.retry("b"), state(queue, "b")) == (0, 0, FAILED)
    clock.now += 61
    assert queue.forget(60) == 1
    assert queue.get("b") is None


def test_files_of_a_study_that_goes_on_are_not_removed(queue, clock):
    queue.add("a", "1", 10)
    scored(queue, clock)
    queue.sent("a")
    queue.add("a", "2", 10)
    assert not queue.removed("a")
    assert queue.holds(["1", "2"]) == [True, True]


def removed_study(queue, clock) -> None:
    """A study of two objects that was answered long ago."""
    for instance in ("1", "2"):
        queue.add("a", instance, 10)
    scored(queue, clock)
    queue.sent("a")
    assert queue.removed("a")
    clock.now += 1000


def test_objects_that_are_sent_again_after_removal_are_kept_and_not_answered_again(queue, clock):
    removed_study(queue, clock)
    assert (queue.has("a", "1"), queue.is_stored("a", "1")) == (True, False)
    assert not queue.add("a", "1", 10)
    assert queue.is_stored("a", "1")
    assert (state(queue), queue.stored_bytes()) == (DONE, 10)
    clock.now += 50
    assert queue.removable(DONE, 60) is None
    clock.now += 10
    assert queue.removable(DONE, 60).id == "a"
    assert queue.claim(60) is None


def test_an_incomplete_study_is_tried_again_when_the_rest_comes(queue, clock):
    removed_study(queue, clock)
    queue.add("a", "3", 10)
    assert queue.instances("a") == {"1", "2", "3"}
    clock.now += 100
    assert queue.claim(60) is not None
    assert queue.incomplete("a", {"1", "2"}, "two are gone") == FAILED
    assert (queue.get("a").error_kind, queue.get("a").error) == ("Incomplete", "two are gone")
    assert queue.retry("a") == 1
    assert state(queue) == RECEIVED  # not `sending`: the answer of before is not its answer
    queue.claim(60)
    queue.incomplete("a", {"1", "2"}, "two are gone")
    for instance in ("1", "2"):
        assert not queue.add("a", instance, 10)
    assert scored(queue, clock, "y") == SENDING
    assert queue.sent("a") == DONE
    assert queue.get("a").answers == 2


def test_what_comes_while_a_study_is_found_incomplete_is_not_left_out(queue, clock):
    removed_study(queue, clock)
    queue.add("a", "3", 10)
    clock.now += 100
    queue.claim(60)
    queue.add("a", "1", 10)
    assert queue.incomplete("a", {"2"}, "one is gone") == RECEIVED


def test_a_study_that_comes_again_has_the_whole_time_before_it_is_given_up(queue, clock):
    queue.add("a", "1", 10)
    scored(queue, clock)
    queue.sent("a")
    clock.now += 1_000_000
    queue.add("a", "2", 10)
    assert queue.oldest_s() == 0
    queue.fail("a", "ConnectionFailed", "nobody there")
    clock.now += 1_000_000
    queue.retry("a")
    assert queue.oldest_s() == 0


def test_the_age_of_the_oldest_study(queue, clock):
    assert queue.oldest_s() == 0
    queue.add("a", "1", 10)
    clock.now += 5
    assert queue.oldest_s() == 5


def test_a_file_that_is_no_queue_or_of_another_version_is_one_error(tmp_path):
    (tmp_path / "text").write_text("no database, by far" * 100)
    with pytest.raises(DlildError, match="text: the queue cannot be opened"):
        Queue(tmp_path / "text")
    with sqlite3.connect(tmp_path / "later") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(DlildError, match="a queue of version 99"):
        Queue(tmp_path / "later")


def test_digests_are_of_one_length_and_take_any_text():
    assert digest_of("1.2.3") == digest_of("1.2.3") != digest_of("1.2.4")
    assert {len(digest_of(t)) for t in ("", "1", "\udcff" * 99)} == {32}
