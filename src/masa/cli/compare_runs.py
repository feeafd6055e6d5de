"""The runs of a comparison: one `masa train` a process, a few at a time, stopped and continued as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

import yaml
from rich.console import Console

from masa.cli.compare_plan import PlannedRun
from masa.errors import UserError
from masa.evaluation.run_result import FORMAT, differing_settings, run_result
from masa.runs import RUN_KEY, RunFolder, atomic_write_text
from masa.training import checkpoint

FINISHED, CONTINUE, START = "finished", "continue", "start"

_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal asked for an end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@dataclass(frozen=True, slots=True)
class Places:
    """Where a comparison keeps what."""

    output: Path

    def folder(self, run: PlannedRun) -> Path:
        """The run folder."""
        return self.output / "runs" / run.name

    def config(self, run: PlannedRun) -> Path:
        """What `masa train` is given."""
        return self.output / "runs" / f"{run.name}.yaml"

    def log(self, run: PlannedRun) -> Path:
        """What `masa train` said."""
        return self.output / "runs" / f"{run.name}.log"

    def result(self, run: PlannedRun) -> Path:
        """The small JSON of a finished run."""
        return self.output / "results" / f"{run.name}.json"


def state_of(places: Places, run: PlannedRun) -> str:
    """Whether a run is finished, can be continued or must be started.

    Raises:
        UserError: if what is there is of other settings, or cannot be read.
    """
    path = places.result(run)
    if path.exists():
        _refuse_other_settings(path, read_result(path)["settings"], run.settings)
        return FINISHED
    folder = RunFolder(places.folder(run))
    if checkpoint.latest(folder.path) is None:
        if folder.path.exists() and not places.config(run).exists():
            raise UserError(
                f"{folder.path} is not of this comparison (no {places.config(run).name} beside it): move it"
            )
        return START
    settings = {key: value for key, value in folder.read_config().items() if key != RUN_KEY}
    _refuse_other_settings(folder.config_path, settings, run.settings)
    return CONTINUE


def read_result(path: Path) -> dict[str, Any]:
    """A result as it was written.

    Raises:
        UserError: if it is none, or another version's.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, and its run is made again") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT or "settings" not in result:
        raise UserError(f"{path} is no result of this version's: delete it, and its run is made again")
    return result


def _refuse_other_settings(path: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if differing := differing_settings(there, now):
        shown = "; ".join(f"{key}: {there[key]!r} there, {now[key]!r} now" for key in differing[:5])
        more = "; ..." if len(differing) > 5 else ""
        raise UserError(
            f"{path} is of other settings ({shown}{more}): use the same settings, or name another folder with --output"
        )


@dataclass
class _Child:
    run: PlannedRun
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float = field(default_factory=time.monotonic)


def run_all(
    runs: Sequence[PlannedRun], states: Mapping[str, str], places: Places, *, jobs: int, console: Console
) -> list[str]:
    """Makes the runs that are not finished, at most `jobs` at a time, and writes each one's result.

    Gives one line for each run that failed. A run that fails stops no other.

    Raises:
        Stopped: on Ctrl-C or SIGTERM, after all processes have ended.
        UserError: if another comparison works in the same folder.
    """
    waiting = [run for run in runs if states[run.name] != FINISHED]
    total = len(waiting)
    for folder in ("runs", "results"):
        (places.output / folder).mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    running: list[_Child] = []
    done = 0
    with _lock(places.output) as lock, _signals() as received:
        try:
            with console.status("") as status:
                while waiting or running:
                    if received:
                        raise Stopped(received[0])
                    while waiting and len(running) < jobs:
                        run = waiting.pop(0)
                        running.append(_start(run, states[run.name], places, lock))
                        console.print(f"{run.name}: {states[run.name]}, log {places.log(run)}", highlight=False)
                    for child in [child for child in running if child.process.poll() is not None]:
                        running.remove(child)
                        child.log.close()
                        done += 1
                        failure = _finish(child, places, jobs)
                        failures += [failure] if failure else []
                        words = failure or f"{child.run.name}: done, {_outcome(places.result(child.run))}"
                        console.print(f"[{done}/{total}] {words}", highlight=False, markup=False, soft_wrap=True)
                    status.update(", ".join(_standing(child, places) for child in running))
                    time.sleep(_POLL_SECONDS)
        finally:
            _stop(running)
    return failures


@contextmanager
def _lock(output: Path) -> Iterator[int]:
    """Keeps the folder to this process and its runs, which inherit the lock: a run that outlives us still holds it."""
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{output} is in use by another masa compare, or by a run that one left behind: "
                "wait for it to end, or name another folder with --output"
            ) from None
        yield file.fileno()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM instead of raising in the middle of a start, which would lose a child."""
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(run: PlannedRun, state: str, places: Places, lock: int) -> _Child:
    folder, config = places.folder(run), places.config(run)
    if state == START and folder.exists():  # a run of ours that came to no checkpoint
        shutil.rmtree(folder)
    values = dict(run.values) | {"output": str(folder)}
    atomic_write_text(config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    log = places.log(run).open("ab" if state == CONTINUE else "wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "masa.cli", "train", str(config), *(["--resume"] if state == CONTINUE else [])],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        pass_fds=(lock,),
        start_new_session=True,  # a group of its own, with the workers that it starts
    )
    return _Child(run, process, log)


def _finish(child: _Child, places: Places, jobs: int) -> str | None:
    """Writes the result of a process that ended; else one line that says why there is none."""
    code = child.process.returncode
    if code != 0:
        why = f"signal {-code}" if code < 0 else f"exit {code}"
        return f"{child.run.name}: failed ({why}): {_last_line(places.log(child.run))}"
    run = child.run
    try:
        result = run_result(
            RunFolder.open(places.folder(run)), arm=run.arm, seed=run.seed, settings=run.settings, machine=machine(jobs)
        )
    except UserError as error:
        return f"{run.name}: failed: {error}"
    atomic_write_text(places.result(run), json.dumps(result, allow_nan=False) + "\n")
    return None


def _stop(children: Sequence[_Child]) -> None:
    """Ends the processes and what they started: asked first, then killed."""
    for child in children:
        _signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_group(child, signal.SIGKILL)
            child.process.wait()
        child.log.close()


def _signal_group(child: _Child, number: int) -> None:
    if child.process.poll() is None:
        os.killpg(child.process.pid, number)


def machine(jobs: int) -> dict[str, Any]:
    """What runs were timed on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "jobs": jobs,
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _last_line(path: Path) -> str:
    text = _ESCAPES.sub("", path.read_text(encoding="utf-8", errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _standing(child: _Child, places: Places) -> str:
    try:
        step = RunFolder(places.folder(child.run)).last_step()
    except UserError:
        step = None
    minutes, seconds = divmod(int(time.monotonic() - child.started), 60)
    return f"{child.run.name}: step {step or 0}, {minutes}:{seconds:02d}"


def _outcome(path: Path) -> str:
    result = read_result(path)
    last = result["curve"][-1]
    return f"pass@1 {last['pass_at_1']:.3f} after {last['tokens']:,} tokens and {last['seconds']:.0f} s of training"
