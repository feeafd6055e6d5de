"""One thread that does one piece of work at a time, in the order in which they came: engines are not thread-safe."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Check = Callable[[], None]
"""Called now and then by work that is under way; raises `Abandoned` once nobody waits for it any more."""
Work = Callable[[Check], T]


class Abandoned(Exception):  # noqa: N818 - nothing went wrong
    """Whoever asked has gone, or the server ends."""


class QueueFull(Exception):  # noqa: N818 - said to the caller as an error of the protocol's
    """As many as may wait are waiting."""


@dataclass(eq=False, slots=True)
class Job(Generic[T]):
    """Work that waits, runs or is done."""

    _stop: threading.Event = field(default_factory=threading.Event)
    future: Future[T] = field(default_factory=Future)

    def check(self) -> None:
        """Raises `Abandoned` after `cancel`."""
        if self._stop.is_set():
            raise Abandoned

    def cancel(self) -> None:
        """Take it out of the queue; work that is under way ends at its next check, and nobody waits until then."""
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


class Worker:
    """The thread and its queue.

    Args:
        most_waiting: jobs in the queue, the running one apart.
    """

    def __init__(self, most_waiting: int) -> None:
        self._most = most_waiting + 1
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="masa-answer")
        self._open: set[Job[Any]] = set()
        self._lock = threading.Lock()
        self.done = 0
        """Jobs that ended, for whatever reason."""

    @property
    def open(self) -> int:
        """Jobs that wait or run."""
        return len(self._open)

    def submit(self, work: Work[T]) -> Job[T]:
        """Queue work.

        Raises:
            QueueFull: where it would be one too many.
            Abandoned: after `close`.
        """
        with self._lock:
            if len(self._open) >= self._most:
                raise QueueFull
            job: Job[T] = Job()
            try:
                job.future = self._executor.submit(self._run, work, job)
            except RuntimeError:
                raise Abandoned from None
            self._open.add(job)
        job.future.add_done_callback(lambda _: self._forget(job))
        return job

    def abandon(self) -> None:
        """Give up all that waits or runs; returns at once."""
        for job in list(self._open):
            job.cancel()

    def close(self) -> None:
        """Give up everything, and return once the thread has ended."""
        self.abandon()
        self._executor.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _run(work: Work[T], job: Job[T]) -> T:
        job.check()
        return work(job.check)

    def _forget(self, job: Job[T]) -> None:
        with self._lock:
            self._open.discard(job)
            self.done += 1
