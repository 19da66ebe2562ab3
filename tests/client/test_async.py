"""What the two clients do with many scans, and how they are stopped."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from concurrent import futures
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client import AsyncClient, CancelToken, Client, Limits, Retries, Timeout
from dlild_client.errors import CancelledError, TooFewSlicesError, UnreadableFileError
from dlild_client.results.files import write_nifti
from dlild_client.transport.cancel import poll
from dlild_client.transport.retry import pause_s

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def scans(tmp_path, chest, series_writer):
    """Two scans of different scores, and three that cannot be scored."""
    other = chest.with_array(np.where(chest.array == -820, -500, chest.array).astype(np.int16))
    write_nifti(chest, tmp_path / "one.nii.gz")
    write_nifti(other, tmp_path / "two.nii.gz")
    (tmp_path / "letter.txt").write_text("Dear all")
    short = series_writer.write(chest, "short", lambda ds, i: i < 5)
    return [
        tmp_path / "absent",
        tmp_path / "one.nii.gz",
        tmp_path / "letter.txt",
        tmp_path / "two.nii.gz",
        short,
    ]


def check(outcomes, scans):
    found = {outcome.scan: outcome for outcome in outcomes}
    assert set(found) == set(scans)
    assert len(outcomes) == len(scans)
    kinds = [type(found[scan].error) for scan in scans]
    assert kinds == [
        UnreadableFileError,
        type(None),
        UnreadableFileError,
        type(None),
        TooFewSlicesError,
    ]
    assert found[scans[1]].unwrap().dl_ild_percent != found[scans[3]].unwrap().dl_ild_percent
    with pytest.raises(UnreadableFileError):
        found[scans[0]].unwrap()


def test_many_scans_come_with_their_own_errors(server, scans):
    steps = []
    with Client(server.url) as client:
        outcomes = list(client.score_many(scans, progress=lambda *step: steps.append(step)))
    check(outcomes, scans)
    # All but the one that is not there, which was never begun.
    assert {step[0] for step in steps} == set(scans[1:])


def test_many_scans_come_with_their_own_errors_on_the_loop(server, scans):
    async def run():
        async with AsyncClient(server.url) as client:
            return [outcome async for outcome in client.score_many(scans)]

    check(asyncio.run(run()), scans)


def test_no_more_scans_are_taken_than_are_under_way(server, chest):
    taken, done = [], []

    def feed():
        for number in range(6):
            taken.append(number)
            assert len(taken) - len(done) <= 3
            yield chest

    with Client(server.url) as client:
        for outcome in client.score_many(feed(), concurrency=2):
            done.append(outcome)  # noqa: PERF402  (one by one: the feed looks at it)
    assert all(outcome.result for outcome in done)
    assert len(done) == 6


def test_leaving_early_stops_the_rest_and_notifies_the_server(server, chest):
    server.delay_s = 0.02
    with Client(server.url) as client:
        for _ in client.score_many([chest] * 6, concurrency=3):
            break
    sent = len(server.sequence_ids)
    assert sent < 6
    assert not [t for t in threading.enumerate() if t.name == "dlild-scan"]
    time.sleep(0.2)
    assert len(server.sequence_ids) == sent


def test_leaving_early_stops_the_rest_on_the_loop(server, chest):
    server.delay_s = 0.02

    async def run():
        async with AsyncClient(server.url) as client:
            async with aclosing(client.score_many([chest] * 6, concurrency=3)) as outcomes:
                async for _ in outcomes:
                    break
            left = asyncio.all_tasks() - {asyncio.current_task()}
            # gRPC waits for the status of a cancelled call by itself.
            return [task for task in left if "_AioCall" not in str(task)]

    assert asyncio.run(run()) == []
    assert len(server.sequence_ids) < 6


def test_a_cancelled_task_frees_its_slot_on_the_server(server, chest):
    async def run():
        reached = asyncio.Event()

        def report(stage, done, whole):
            if stage == "inference" and done == 2:
                reached.set()

        async with AsyncClient(server.url) as client:
            task = asyncio.create_task(client.score(chest, report))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.score(chest)).windows > 1

    server.delay_s = 0.02
    asyncio.run(run())
    assert server.aborts == server.sequence_ids[:1]


def test_a_time_out_of_asyncio_ends_the_scan(server, chest):
    server.fault = lambda i, r: None

    async def run():
        async with AsyncClient(server.url) as client:
            async with asyncio.timeout(2):
                await client.score(chest)

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    assert server.aborts == server.sequence_ids


def test_a_token_stops_a_scan_from_another_thread(server, chest):
    token = CancelToken()
    server.fault = lambda i, r: [r] if i < 2 else None
    timer = threading.Timer(1.5, token.cancel)
    timer.start()
    start = time.monotonic()
    with Client(server.url) as client, pytest.raises(CancelledError) as stopped:
        client.score(chest, cancel=token)
    assert time.monotonic() - start < 20  # the answer that never comes is waited for 60 s
    assert stopped.value.exit_code == 130
    assert not stopped.value.retryable
    assert server.aborts == server.sequence_ids
    with Client(server.url) as client, pytest.raises(CancelledError):
        client.info(token)


def test_a_wait_between_attempts_ends_with_the_scan(server, chest):
    server.busy = 1000
    patient = Retries(attempts=5, first_wait_s=30, longest_wait_s=30)
    waiting = threading.Event()

    def report(stage, done, whole):
        if stage == "again":
            waiting.set()

    token = CancelToken()
    with Client(server.url, retries=patient) as client, futures.ThreadPoolExecutor() as pool:
        scan = pool.submit(client.score, chest, report, token)
        assert waiting.wait(20)
        time.sleep(0.1)
        start = time.monotonic()
        token.cancel()
        with pytest.raises(CancelledError):
            scan.result()
        assert time.monotonic() - start < 15  # half of the wait

    async def leave():
        waiting.clear()
        async with AsyncClient(server.url, retries=patient) as client:
            task = asyncio.create_task(client.score(chest, report))
            assert await asyncio.to_thread(waiting.wait, 20)
            await asyncio.sleep(0.1)
            start = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - start

    assert asyncio.run(leave()) < 15  # half of the wait


def test_what_comes_is_handed_on_and_what_does_not_is_a_time_out():
    items = queue.SimpleQueue()
    items.put(None)
    assert poll(lambda poll_s: items.get(timeout=poll_s), 60) is None
    threading.Timer(0.4, items.put, ["late"]).start()
    assert poll(lambda poll_s: items.get(timeout=poll_s), math.inf) == "late"
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        poll(lambda poll_s: items.get(timeout=poll_s), 0.4)
    assert 0.4 <= time.monotonic() - start < 10


@given(
    st.integers(1, 2000),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
    st.floats(0, 1),
)
def test_waits_double_up_to_a_cap(failed, first, longest, jitter):
    retries = Retries(attempts=2000, first_wait_s=first, longest_wait_s=longest)
    wait = pause_s(failed, retries, jitter)
    assert 0 < wait <= longest
    later = pause_s(failed + 1, retries, jitter)
    assert later >= wait
    assert later == longest or failed > 60 or later - jitter == pytest.approx(2 * (wait - jitter))


def test_a_closed_client_stops_its_scans_and_takes_no_more(server, chest):
    server.fault = lambda i, r: [r] if i < 2 else None
    client = Client(server.url)
    threading.Timer(1.5, client.close).start()
    with pytest.raises(CancelledError):
        client.score(chest)
    with pytest.raises(CancelledError):
        client.score(chest)
    assert server.aborts == server.sequence_ids


def test_the_loop_is_never_held_up(server, chest):
    async def run():
        gaps, last, going = [], time.monotonic(), True

        async def beat():
            nonlocal last
            while going:
                await asyncio.sleep(0.01)
                now = time.monotonic()
                gaps.append(now - last)
                last = now

        async with AsyncClient(server.url) as client:
            heart = asyncio.create_task(beat())
            await client.score(chest)
            going = False
            await heart
        return max(gaps)

    # Reading and preparing take much longer than this.
    assert asyncio.run(run()) < 0.5


def test_scans_wait_for_their_turn(server, chest):
    server.delay_s = 0.01
    most, now, lock = 0, 0, threading.Lock()

    def report(scan, stage, done, whole):
        nonlocal most, now
        with lock:
            if stage == "inference":
                now += (done == 0) - (done == whole)
                most = max(most, now)

    with Client(server.url, limits=Limits(scans=1)) as client:
        outcomes = list(client.score_many([chest] * 3, concurrency=3, progress=report))
    assert len(outcomes) == 3
    assert most == 1


def test_windows_in_flight_can_be_fewer_than_the_contract_allows(server, chest):
    server.delay_s = 0.005
    with Client(server.url, limits=Limits(in_flight=2)) as client:
        client.score(chest)
    assert server.most_in_flight <= 2


def test_info_on_the_loop(server):
    async def run():
        async with AsyncClient(server.url) as client:
            return await client.info()

    assert asyncio.run(run()).contract == server.contract


def test_an_exception_of_progress_stops_the_scan_and_is_raised(server, chest):
    def report(stage, done, whole):
        if stage == "inference" and done == 2:
            raise ZeroDivisionError

    async def run():
        async with AsyncClient(server.url) as client:
            await client.score(chest, report)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    with Client(server.url) as client, pytest.raises(ZeroDivisionError):
        list(client.score_many([chest], progress=lambda scan, *step: report(*step)))
    assert len(server.aborts) == 2


def test_one_client_serves_several_loops(server, chest):
    client = AsyncClient(server.url, retries=Retries(attempts=1), timeout=Timeout(scan_s=60))
    assert asyncio.run(client.score(chest)).windows == asyncio.run(client.score(chest)).windows


def test_the_blocking_client_works_inside_a_loop(server, chest):
    async def run():
        with Client(server.url) as client:
            return client.score(chest)

    assert asyncio.run(run()).windows > 1
