"""Processes that grade mathematics, each of them killed and replaced when an answer takes too long.

Answers travel in chunks, verdicts come back one by one, so that the time limit holds for each answer: the one that
reached it is marked, the rest of its chunk goes to another process. An answer whose process died for another reason
gets one more try. Threads may share a pool; each call takes what processes are free, and waits if none is.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masa.grading.settings import MathSettings
from masa.grading.worker import FAULT, READY
from masa.records import Grade

MAX_CHUNK = 32
MAX_STARTS = 3
"""So often in a row may a process die while it loads its libraries."""
START_SECONDS = 120.0
"""A process that loads its libraries for longer than this is taken for broken."""


@dataclass(frozen=True, slots=True)
class MathJob:
    """One answer to grade."""

    text: str
    golds: tuple[str, ...]
    """The right answers; one of them is enough."""
    stated: bool
    """Whether `text` is the bare answer; otherwise it is still to be found in it."""
    settings: MathSettings


class GradingPool:
    """Worker processes, started when first needed.

    Args:
        workers: how many; default: one a processor (`processors`).
        seconds: wall-clock limit of one answer.
        job: what a worker does (`masa.grading.worker.main`).

    Raises:
        ValueError: for fewer than one worker or no time.
    """

    def __init__(self, workers: int | None = None, seconds: float = 5.0, job: str = "math") -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"a pool needs at least one worker, got {workers}")
        if not seconds > 0:
            raise ValueError(f"the time limit must be positive, got {seconds}")
        self.seconds = seconds
        self._command = _command(seconds, job)
        self._idle = [_Worker(self._command) for _ in range(workers or processors())]
        self._all = tuple(self._idle)
        self._free = threading.Condition()
        self._owner = os.getpid()
        self._closed = False

    @property
    def processes(self) -> list[int]:
        """Ids of the processes that are running."""
        return [worker.process.pid for worker in self._all if worker.process is not None]

    def map(self, jobs: Sequence[MathJob]) -> list[Grade]:
        """Grades in the order of the jobs, one each.

        Raises:
            RuntimeError: if a worker cannot start, or after `close`.
        """
        if not jobs:
            return []
        if os.getpid() != self._owner:
            raise RuntimeError("a grading pool does not survive a fork: make one in each process")
        with self._borrowed(limit=-(-len(jobs) // 4)) as workers:
            return _Run(jobs, workers, self.seconds).grades()

    def close(self) -> None:
        """Ends all processes; harmless to repeat."""
        with self._free:
            self._closed = True
            self._free.notify_all()
        if os.getpid() == self._owner:
            for worker in self._all:
                worker.kill()

    def __enter__(self) -> GradingPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _borrowed(self, limit: int) -> Iterator[list[_Worker]]:
        with self._free:
            self._free.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise RuntimeError("the grading pool is closed")
            taken = [self._idle.pop() for _ in range(min(limit, len(self._idle)))]
        try:
            yield taken
        finally:
            for worker in taken:
                if worker.chunk or self._closed:  # interrupted: what it still says would answer the wrong question
                    worker.kill()
            with self._free:
                self._idle += taken
                self._free.notify_all()


class _Worker:
    """One process, or the place where one will be."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.chunk: deque[int] = deque()
        """Places of the answers that it has not answered, the current one first."""
        self.ready = False
        self.failed_starts = 0
        self.deadline = 0.0
        self._unread = b""

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        self.ready = False
        self._unread = b""
        self.deadline = time.monotonic() + START_SECONDS

    @property
    def output(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, line: bytes) -> bool:
        """Whether the process took it. It reads a whole chunk before it answers, so neither waits for the other."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            while line:
                line = line[self.process.stdin.write(line) or 0 :]
        except OSError:
            return False
        return True

    def lines(self) -> list[bytes] | None:
        """Whole lines that have come, or None at the end."""
        try:
            part = os.read(self.output, 2**16)
        except OSError:
            return None
        if not part:
            return None
        *whole, self._unread = (self._unread + part).split(b"\n")
        return whole

    def kill(self) -> int | None:
        """Ends the process and waits for it, so that none is left behind; its return code."""
        process, self.process = self.process, None
        self.chunk.clear()
        self.ready = False
        if process is None:
            return None
        process.kill()
        code = process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return code


class _Run:
    """One call's answers on their way through some workers."""

    def __init__(self, jobs: Sequence[MathJob], workers: Sequence[_Worker], seconds: float) -> None:
        self._jobs = jobs
        self._workers = workers
        self._seconds = seconds
        self._waiting = deque(range(len(jobs)))
        self._grades: list[Grade | None] = [None] * len(jobs)
        self._left = len(jobs)
        self._retried: set[int] = set()
        self._selector = selectors.DefaultSelector()

    def grades(self) -> list[Grade]:
        with self._selector:
            for worker in self._workers:
                self._employ(worker)
            while self._left:
                self._wait()
            for worker in self._workers:
                self._forget(worker)
        return [grade for grade in self._grades if grade is not None]

    def _employ(self, worker: _Worker) -> None:
        """Starts a worker, or gives it the next chunk, if there is one."""
        if not self._waiting:
            return
        if worker.process is None or worker.process.poll() is not None:
            self._forget(worker)
            worker.kill()
            worker.start()
        if worker.output not in self._selector.get_map():
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
        if worker.ready:
            size = max(1, min(MAX_CHUNK, len(self._waiting) // (2 * len(self._workers))))
            worker.chunk.extend(self._waiting.popleft() for _ in range(size))
            worker.deadline = time.monotonic() + self._seconds
            if not worker.send(self._message(worker.chunk)):
                self._replace(worker, None)

    def _message(self, chunk: Sequence[int]) -> bytes:
        kinds: dict[MathSettings, int] = {}
        answers = []
        for place in chunk:
            job = self._jobs[place]
            answers.append([job.text, list(job.golds), job.stated, kinds.setdefault(job.settings, len(kinds))])
        return json.dumps({"settings": [asdict(one) for one in kinds], "answers": answers}).encode("ascii") + b"\n"

    def _wait(self) -> None:
        busy = [worker for worker in self._workers if worker.process is not None and (worker.chunk or not worker.ready)]
        patience = min((worker.deadline for worker in busy), default=time.monotonic()) - time.monotonic()
        for key, _ in self._selector.select(max(0.0, patience)):
            self._hear(key.data)
        now = time.monotonic()
        for worker in busy:
            if worker.process is not None and now >= worker.deadline and (worker.chunk or not worker.ready):
                if not worker.ready:
                    worker.kill()
                    raise RuntimeError(f"a grading process was not ready after {START_SECONDS:.0f} s")
                self._replace(worker, f"time limit of {self._seconds:g} s")
        if not busy and self._left:
            for worker in self._workers:
                self._employ(worker)

    def _hear(self, worker: _Worker) -> None:
        lines = worker.lines()
        if lines is None:
            self._replace(worker, None)
            return
        for line in lines:
            said: Any = json.loads(line)
            if not worker.ready:
                if said[0] == FAULT:
                    worker.kill()
                    raise RuntimeError(f"a grading process cannot start: {said[1]}")
                assert said[0] == READY
                worker.ready = True
                worker.failed_starts = 0
            elif worker.chunk:
                correct, extracted, reason = said
                self._settle(worker.chunk.popleft(), Grade(bool(correct), extracted, str(reason)))
                worker.deadline = time.monotonic() + self._seconds
        if not worker.chunk:
            self._employ(worker)

    def _replace(self, worker: _Worker, why: str | None) -> None:
        """Kills a worker. Its current answer is marked, or tried once more if the worker died unasked."""
        self._forget(worker)
        was_ready, rest = worker.ready, list(worker.chunk)
        code = worker.kill()
        if not was_ready:
            worker.failed_starts += 1
            if worker.failed_starts == MAX_STARTS:
                raise RuntimeError(f"a grading process ended while it loaded its libraries (status {code})")
        if rest and (why is not None or rest[0] in self._retried):
            current = rest.pop(0)
            reason = why or "the comparison ended its process"
            job = self._jobs[current]
            self._settle(current, Grade(False, job.text if job.stated else None, reason))
        elif rest:
            self._retried.add(rest[0])
        self._waiting.extendleft(reversed(rest))
        self._employ(worker)

    def _settle(self, place: int, grade: Grade) -> None:
        self._grades[place] = grade
        self._left -= 1

    def _forget(self, worker: _Worker) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is worker:
                self._selector.unregister(key.fileobj)


def processors() -> int:
    """Processors that this process may use, its own share where torchrun started several on the machine; at most 8."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, min(8, there // (int(ranks) if ranks.isdigit() and ranks != "0" else 1)))


def _command(seconds: float, job: str) -> list[str]:
    root = str(Path(__file__).parents[2])
    # Not by multiprocessing: its spawned processes run the user's script again, its forked ones copy running threads.
    code = f"import sys; sys.path.insert(0, {root!r}); from masa.grading.worker import main; main({seconds!r}, {job!r})"
    return [sys.executable, "-c", code]


_shared: dict[int, GradingPool] = {}
_shared_lock = threading.Lock()


def shared_pool() -> GradingPool:
    """The pool of this process, which ends with it."""
    with _shared_lock:
        pool = _shared.get(os.getpid())
        if pool is None:
            _shared.clear()  # of a parent, whose processes are not this one's to end
            pool = _shared[os.getpid()] = GradingPool()
            atexit.register(pool.close)
        return pool
