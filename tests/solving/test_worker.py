"""The thread behind the endpoint: what waits together is generated together, and given up where nobody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from masa.records import FinishReason, Request, Rollout
from masa.solving.serving.worker import Abandoned, Job, QueueFull, Worker
from masa.solving.solver import Steps

SECONDS = 30.0


class Gated:
    """Rollouts that repeat their request's seed; each call waits until it is let through, or all are given up."""

    def __init__(self) -> None:
        self.calls: list[list[list[int]]] = []
        self.may_go = threading.Semaphore(0)

    def __call__(self, asked: Sequence[Sequence[Request]], gone: Sequence[Callable[[], bool]]) -> list[list[Rollout]]:
        self.calls.append([[request.seed for request in requests] for requests in asked])
        deadline = time.monotonic() + SECONDS
        while not self.may_go.acquire(timeout=0.01) and not all(is_gone() for is_gone in gone):
            assert time.monotonic() < deadline
        return [[Rollout((request.seed,), FinishReason.STOP) for request in requests] for requests in asked]

    def wait(self, calls: int) -> None:
        deadline = time.monotonic() + SECONDS
        while len(self.calls) < calls:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def engine() -> Gated:
    return Gated()


@pytest.fixture
def worker(engine: Gated) -> Iterator[Worker]:
    made = Worker(engine, most_waiting=2, most_running=2)
    yield made
    made.close()


def steps(*seeds: int) -> Steps[int]:
    """One call a seed, of as many requests as the seed says; their sum."""
    total = 0
    for seed in seeds:
        rollouts = yield [Request((1,), 1, seed=seed)] * seed
        total += sum(rollout.token_ids[0] for rollout in rollouts)
    return total


def submit(worker: Worker, *seeds: int) -> Job[int]:
    with worker.place() as job:
        worker.submit(job, steps(*seeds))
    return job


def until_done(job: Job[int]) -> int:
    async def wait() -> None:
        async for _ in job.beats(0.01):
            pass

    asyncio.run(asyncio.wait_for(wait(), SECONDS))
    return job.result()


def test_what_waits_joins_the_next_call_in_order(worker: Worker, engine: Gated) -> None:
    first = submit(worker, 1, 2)
    engine.wait(1)
    second, third = submit(worker, 3), submit(worker, 4)
    assert (worker.running, worker.open) == (1, 3)
    engine.may_go.release()
    engine.wait(2)
    assert worker.running == 2
    engine.may_go.release(2)
    assert [until_done(job) for job in (first, second, third)] == [1 + 4, 9, 16]
    assert engine.calls == [[[1]], [[2, 2], [3, 3, 3]], [[4] * 4]]
    assert (worker.open, worker.running, worker.done) == (0, 0, 3)


def test_a_full_queue_and_what_is_taken_out_of_it(worker: Worker, engine: Gated) -> None:
    running = submit(worker, 1)
    engine.wait(1)
    waiting = [submit(worker, 2), submit(worker, 3)]
    with pytest.raises(QueueFull), worker.place():
        pytest.fail("nothing is to be prepared")
    waiting[0].cancel()
    with pytest.raises(Abandoned):
        until_done(waiting[0])
    assert worker.open == 2
    engine.may_go.release(2)
    assert (until_done(running), until_done(waiting[1])) == (1, 9)
    assert engine.calls == [[[1]], [[3, 3, 3]]]


def test_places_are_taken_while_work_is_prepared_and_given_back(worker: Worker) -> None:
    with worker.place(), worker.place(), worker.place(), pytest.raises(QueueFull), worker.place():
        pass
    with pytest.raises(ZeroDivisionError), worker.place():
        raise ZeroDivisionError
    assert (worker.open, worker.done) == (0, 0)


def test_given_up_work_ends_with_its_call_and_nobody_waits_for_that(worker: Worker, engine: Gated) -> None:
    first = submit(worker, 1)
    engine.wait(1)
    pair = [submit(worker, 2, 2), submit(worker, 3)]
    engine.may_go.release()
    engine.wait(2)
    pair[0].cancel()
    with pytest.raises(Abandoned):
        until_done(pair[0])
    engine.may_go.release()
    assert (until_done(first), until_done(pair[1])) == (1, 9)
    assert len(engine.calls) == 2  # the second call of the one given up was never made
    last = submit(worker, 4)
    engine.wait(3)
    worker.abandon()
    with pytest.raises(Abandoned):
        until_done(last)


def test_errors_come_to_the_caller_and_the_thread_lives_on(worker: Worker, engine: Gated) -> None:
    def fail() -> Steps[int]:
        yield [Request((1,), 1)]
        raise ZeroDivisionError

    engine.may_go.release(3)
    with worker.place() as job:
        worker.submit(job, fail())
    with pytest.raises(ZeroDivisionError):
        until_done(job)
    assert until_done(submit(worker, 5)) == 25
    worker.close()
    with pytest.raises(Abandoned):
        submit(worker, 6)


def test_an_engine_that_fails_fails_those_who_asked_it() -> None:
    failing = [True]

    def generate(asked: Sequence[Sequence[Request]], gone: object) -> list[list[Rollout]]:
        if failing.pop():
            raise FloatingPointError
        return [[Rollout((request.seed,), FinishReason.STOP) for request in requests] for requests in asked]

    worker = Worker(generate, 1)
    with pytest.raises(FloatingPointError):
        until_done(submit(worker, 2))
    failing.append(False)
    assert until_done(submit(worker, 2)) == 4
    worker.close()


def test_a_request_that_the_engine_fails_at_fails_alone(engine: Gated) -> None:
    def generate(asked: Sequence[Sequence[Request]], gone: Sequence[Callable[[], bool]]) -> list[list[Rollout]]:
        found = engine(asked, gone)
        if any(request.seed == 3 for requests in asked for request in requests):
            raise FloatingPointError
        return found

    worker = Worker(generate, 2, 2)
    first = submit(worker, 1)
    engine.wait(1)
    good, bad = submit(worker, 2), submit(worker, 3)
    engine.may_go.release(4)
    assert (until_done(first), until_done(good)) == (1, 4)
    with pytest.raises(FloatingPointError):
        until_done(bad)
    assert [len(call) for call in engine.calls] == [1, 2, 1, 1]
    worker.close()
