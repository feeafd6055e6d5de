"""One thread that answers: engines are not thread-safe. What waits together asks the engine together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from masa.records import Request, Rollout
from masa.solving.solver import Steps

T = TypeVar("T")

Generate = Callable[[Sequence[Sequence[Request]], Sequence[Callable[[], bool]]], list[list[Rollout]]]
"""From the requests of several jobs to the rollouts of each; the second argument tells of each job, at any time,
whether nobody waits for its rollouts any more."""


class Abandoned(Exception):  # noqa: N818 - nothing went wrong
    """Whoever asked has gone, or the server ends."""


class QueueFull(Exception):  # noqa: N818 - said to the caller as an error of the protocol's
    """As many as may wait are waiting."""


@dataclass(eq=False, slots=True)
class Job(Generic[T]):
    """Work that is prepared, waits, runs or is done."""

    future: Future[T] = field(default_factory=Future)
    _stop: threading.Event = field(default_factory=threading.Event)
    _steps: Steps[T] | None = None
    _requests: list[Request] = field(default_factory=list)

    def cancel(self) -> None:
        """Take it out of the queue; work that is under way is given up, and nobody waits until then."""
        self._stop.set()
        self.future.cancel()

    def result(self) -> T:
        """What came of it.

        Raises:
            Abandoned: where it was given up, whether or not the thread knows already.
        """
        if self.future.cancelled() or not self.future.done():
            raise Abandoned
        return self.future.result()

    async def beats(self, seconds: float) -> AsyncIterator[None]:
        """Beats every so often until it is done or given up; a caller that is cancelled leaves the work alone."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: Future[T]) -> None:
            with suppress(RuntimeError):  # a loop that has ended waits for nothing
                loop.call_soon_threadsafe(done.set)

        self.future.add_done_callback(tell)
        while not (self.future.done() or self._stop.is_set()):
            try:
                await asyncio.wait_for(done.wait(), seconds)
            except TimeoutError:
                yield

    def _go_on(self, rollouts: list[Rollout] | None) -> None:
        """To its next requests, or to its end."""
        assert self._steps is not None
        try:
            if self._stop.is_set():
                raise Abandoned
            self._requests = self._steps.send(rollouts)
        except StopIteration as end:
            self.future.set_result(end.value)
        except BaseException as error:
            self.future.set_exception(error)


class Worker:
    """The thread and its queue.

    Args:
        generate: called in the thread alone.
        most_waiting: jobs in the queue, those that run apart.
        most_running: jobs that run, their requests put together; one that comes joins at the next call of `generate`.
    """

    def __init__(self, generate: Generate, most_waiting: int, most_running: int = 1) -> None:
        self._generate = generate
        self._most_waiting, self._most_running = most_waiting, most_running
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._open: set[Job[Any]] = set()
        self._lock = threading.RLock()
        self._is_closed = False
        self.done = 0
        """Jobs that ended, for whatever reason."""
        self._thread = threading.Thread(target=self._run, name="masa-answer", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Jobs that run."""
        with self._lock:
            return sum(job.future.running() for job in self._open)

    @property
    def open(self) -> int:
        """Jobs that are prepared, wait or run."""
        return len(self._open)

    @contextmanager
    def place(self) -> Iterator[Job[Any]]:
        """A place in the queue while work is prepared for it; given back where none was submitted.

        Raises:
            QueueFull: where it would be one too many.
            Abandoned: after `close`.
        """
        with self._lock:
            if self._is_closed:
                raise Abandoned
            if len(self._open) >= self._most_waiting + max(1, self.running):
                raise QueueFull
            job: Job[Any] = Job()
            self._open.add(job)
        try:
            yield job
        finally:
            if job._steps is None:
                with self._lock:
                    self._open.discard(job)

    def submit(self, job: Job[T], steps: Steps[T]) -> None:
        """Queue the work of a job that has a place."""
        job._steps = steps
        job.future.add_done_callback(lambda _: self._forget(job))
        self._queue.put(job)

    def abandon(self) -> None:
        """Give up all that waits or runs; returns at once."""
        with self._lock:
            given_up = list(self._open)
        for job in given_up:
            job.cancel()

    def close(self) -> None:
        """Give up everything, and return once the thread has ended."""
        with self._lock:
            self._is_closed = True
        self.abandon()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        running: list[Job[Any]] = []
        while True:
            while not running or (len(running) < self._most_running and not self._queue.empty()):
                job = self._queue.get()
                if job is None:
                    self._queue.put(None)  # once more, for when what runs has ended
                    if not running:
                        return
                    break
                if job.future.set_running_or_notify_cancel():
                    job._go_on(None)
                    running += [] if job.future.done() else [job]
            for job, found in zip(running, self._answered(running), strict=True):
                if isinstance(found, BaseException):
                    job.future.set_exception(found)
                else:
                    job._go_on(found)
            running = [job for job in running if not job.future.done()]

    def _answered(self, jobs: Sequence[Job[Any]]) -> Sequence[list[Rollout] | BaseException]:
        """The rollouts of each, or what went wrong; after a call that failed each is asked for alone, so that none
        fails for another's sake."""
        try:
            return self._generate([job._requests for job in jobs], [job._stop.is_set for job in jobs])
        except BaseException as error:
            return [error] if len(jobs) == 1 else [self._answered([job])[0] for job in jobs]

    def _forget(self, job: Job[Any]) -> None:
        with self._lock:
            self._open.discard(job)
            self.done += 1
