"""The pool: killed at the limit, replaced, nothing lost, everything in order, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from masa.grading.pool import GradingPool, MathJob
from masa.grading.settings import MathSettings
from masa.records import Grade

HERE = Path(__file__).parent


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[GradingPool]:
    """Two workers that do as `pool_jobs.act` says."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    with GradingPool(2, seconds=1.0, job="pool_jobs:act") as made:
        yield made


def jobs(*texts: str) -> list[MathJob]:
    return [MathJob(text, (text,), True, MathSettings()) for text in texts]


def reasons(grades: list[Grade]) -> list[str]:
    return [grade.reason for grade in grades]


def is_running(process: int) -> bool:
    """Whether a process exists, also as a zombie."""
    return Path(f"/proc/{process}").exists()


def test_order_is_kept(pool: GradingPool) -> None:
    texts = [str(number) for number in range(500)]
    assert reasons(pool.map(jobs(*texts))) == texts
    assert pool.map([]) == []


def test_a_hanging_answer_is_marked_and_no_other_lost(pool: GradingPool) -> None:
    texts = [str(number) for number in range(100)]
    texts[3] = texts[50] = texts[99] = "hang"
    start = time.monotonic()
    grades = pool.map(jobs(*texts))
    assert time.monotonic() - start < 20
    wanted = ["time limit of 1 s" if text == "hang" else text for text in texts]
    assert reasons(grades) == wanted
    assert [grade.correct for grade in grades] == [text != "hang" for text in texts]
    assert reasons(pool.map(jobs("a", "b"))) == ["a", "b"]


def test_the_limit_is_of_one_answer_and_not_of_a_chunk(pool: GradingPool) -> None:
    assert reasons(pool.map(jobs(*["slow"] * 12))) == ["slow"] * 12


def test_a_dead_worker_is_replaced(pool: GradingPool, tmp_path: Path) -> None:
    once = f"once {tmp_path / 'mark'}"
    texts = ["1", once, "2", "die", "3", "print", "4"]
    wanted = ["1", once, "2", "the comparison ended its process", "3", "print", "4"]
    assert reasons(pool.map(jobs(*texts))) == wanted


def test_workers_killed_from_outside_are_replaced(pool: GradingPool) -> None:
    pool.map(jobs(*"abcdefgh"))
    before = pool.processes
    assert before
    for process in before:
        os.kill(process, signal.SIGKILL)
    assert reasons(pool.map(jobs(*"abcdefgh"))) == list("abcdefgh")
    assert not set(before) & set(pool.processes)
    assert not any(is_running(process) for process in before)


def test_threads_share_a_pool(pool: GradingPool) -> None:
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        found[number] = reasons(pool.map(jobs(*[f"{number}/{place}" for place in range(60)], "hang")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(5):
        assert found[number] == [f"{number}/{place}" for place in range(60)] + ["time limit of 1 s"]


def test_an_interrupted_call_leaves_no_stale_answers(pool: GradingPool) -> None:
    pool.map(jobs("warm", "up"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            pool.map(jobs(*["slow"] * 20))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert reasons(pool.map(jobs("1", "2", "3"))) == ["1", "2", "3"]


def test_closing_leaves_no_process(pool: GradingPool) -> None:
    pool.map(jobs(*"abcdefgh"))
    processes = pool.processes
    pool.close()
    pool.close()
    assert not any(is_running(process) for process in processes)
    with pytest.raises(RuntimeError, match="closed"):
        pool.map(jobs("a"))


def test_a_worker_that_cannot_start_is_named() -> None:
    with GradingPool(1, job="no_such_module:act") as pool, pytest.raises(RuntimeError, match="no_such_module"):
        pool.map(jobs("a"))


@pytest.mark.parametrize("values", [{"workers": 0}, {"seconds": 0}])
def test_arguments_are_checked(values: dict) -> None:
    with pytest.raises(ValueError, match="got 0"):
        GradingPool(**values)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Even one that hangs in C: an alarm that needs no Python code ends it."""
    code = (
        "from masa.grading.pool import GradingPool, MathJob\n"
        "from masa.grading.settings import MathSettings\n"
        "import threading, time\n"
        "pool = GradingPool(2, seconds=1.0, job='pool_jobs:act')\n"
        "jobs = [MathJob(text, (text,), True, MathSettings()) for text in 'abcdefgh']\n"
        "pool.map(jobs)\n"
        "hanging = [MathJob('hang', ('x',), True, MathSettings())]\n"
        "threading.Thread(target=pool.map, args=(hanging,), daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "print(*pool.processes, flush=True)\n"
        "time.sleep(60)\n"
    )
    paths = [str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(workers) == 2
    end = time.monotonic() + 15
    while any(_is_alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(_is_alive(worker) for worker in workers)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_mathematics_goes_through_the_shared_pool() -> None:
    from masa.grading import grade
    from masa.grading.pool import shared_pool

    assert grade(r"\boxed{\frac{6}{4}x}", r"\frac{3x}{2}").correct
    assert shared_pool().processes
    assert shared_pool() is shared_pool()
