"""The thread behind the endpoint: one piece of work at a time, in order, given up where nobody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from masa.solving.serving.worker import Abandoned, Check, Job, QueueFull, Worker

SECONDS = 30.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(most_waiting=2)
    yield made
    made.close()


def until_done(job: Job[int]) -> int:
    async def wait() -> None:
        async for _ in job.beats(0.01):
            pass

    asyncio.run(asyncio.wait_for(wait(), SECONDS))
    return job.result()


def test_one_at_a_time_in_order(worker: Worker) -> None:
    running: list[int] = []
    seen: list[tuple[int, int]] = []

    def work(number: int) -> int:
        running.append(number)
        time.sleep(0.02)
        seen.append((number, len(running)))
        running.remove(number)
        return number

    jobs = [worker.submit(lambda _, number=number: work(number)) for number in range(3)]
    assert [until_done(job) for job in jobs] == [0, 1, 2]
    assert seen == [(0, 1), (1, 1), (2, 1)]
    assert (worker.open, worker.done) == (0, 3)


def test_a_full_queue_and_what_is_taken_out_of_it(worker: Worker) -> None:
    began, go = threading.Event(), threading.Event()

    def first(_: Check) -> int:
        began.set()
        go.wait(SECONDS)
        return 1

    running = worker.submit(first)
    assert began.wait(SECONDS)
    waiting = [worker.submit(lambda _: 2), worker.submit(lambda _: 3)]
    with pytest.raises(QueueFull):
        worker.submit(lambda _: 4)
    waiting[0].cancel()
    with pytest.raises(Abandoned):
        until_done(waiting[0])
    assert worker.open == 2
    go.set()
    assert (until_done(running), until_done(waiting[1])) == (1, 3)


def test_given_up_work_ends_at_its_check_and_nobody_waits_for_that(worker: Worker) -> None:
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work(check: Check) -> int:
        began.set()
        go.wait(SECONDS)  # sees nothing
        try:
            check()
        except Abandoned:
            ended.set()
            raise
        return 1

    job = worker.submit(work)
    assert began.wait(SECONDS)
    worker.abandon()
    with pytest.raises(Abandoned):
        until_done(job)
    assert not ended.is_set()
    go.set()
    assert ended.wait(SECONDS)


def test_errors_come_to_the_caller_and_the_thread_lives_on(worker: Worker) -> None:
    def fail(_: Check) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until_done(worker.submit(fail))
    assert until_done(worker.submit(lambda _: 5)) == 5
    worker.close()
    with pytest.raises(Abandoned):
        worker.submit(lambda _: 6)
