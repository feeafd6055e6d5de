"""A long run of `masa train`, watched from outside: does it leak memory, files or processes, does it slow down?

    python tests/soak/run.py --minutes 60 [--output runs/soak] [-- further options of masa train]

Linux only, since it reads /proc. It fails if memory after the first tenth grows by more than `--slope` MiB an hour, if
open files or processes at the end are more than after the first tenth, or if a step took over three times the median
without a reason in the log. Reasons are an expert update in that step, and that the process waited: in processor
seconds the step was no slower than that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

MIB = 2**20
_EVERY = 5.0
"""Seconds between two looks."""
_PRESET = ("--preset", "masa-efficient", "--set", "parallel_steps=50", "--set", "max_steps=1000000")
_FILES = ("--set", "save_steps=100", "--set", "heldout.every=500", "--set", "save_total_limit=2")


@dataclass(frozen=True)
class Look:
    """The run and its children at one moment."""

    seconds: float
    memory: int
    """Bytes: resident, what processes share counted in parts."""
    files: int
    processes: int


def main() -> int:
    """Runs, watches, judges; prints the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--slope", type=float, default=10.0, help="MiB an hour that pass for flat")
    options.add_argument("--output", type=Path, default=Path("runs/soak"))
    options.add_argument("rest", nargs="*", help="options of masa train")
    given = options.parse_args()
    command = [sys.executable, "-m", "masa.cli", "train", *_PRESET, *_FILES, *given.rest]
    command += ["--max-minutes", str(given.minutes), "--output", str(given.output)]
    looks = watch(command)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "soak.json").write_text(json.dumps([asdict(look) for look in looks]))
    settled = [look for look in looks if look.seconds > looks[-1].seconds / 10]
    slope = np.polyfit([look.seconds / 3600 for look in settled], [look.memory / MIB for look in settled], 1)[0]
    first, last = settled[: len(settled) // 9], settled[-(len(settled) // 9) :]
    steps = [json.loads(line) for line in (given.output / "metrics.jsonl").read_text().splitlines()]
    times = [step["time/step"] for step in steps]
    median = statistics.median(times)
    usual = statistics.median(step["time/processor"] for step in steps)
    slow = [step for step in steps if step["time/step"] > 3 * median]
    unexplained = [s for s in slow if "expert/updates" not in s and s["time/processor"] > 3 * usual]
    grown = {
        # Not the largest: a look may fall on the moment in which a file is written.
        what: statistics.median(getattr(look, what) for look in last)
        - statistics.median(getattr(look, what) for look in first)
        for what in ("files", "processes")
    }
    minutes = looks[-1].seconds / 60
    print(f"{minutes:.1f} minutes, {len(steps)} steps, median {median:.2f} s, at most {max(times):.2f} s")
    print(f"{len(slow)} steps over three medians, {len(unexplained)} of them without a reason")
    print(f"memory {settled[0].memory / MIB:.0f} MiB after a tenth, {settled[-1].memory / MIB:.0f} at the end:")
    print(f"{slope:+.1f} MiB an hour; open files {grown['files']:+g}, processes {grown['processes']:+g}")
    for step in unexplained:
        parts = {name: round(value, 2) for name, value in step.items() if name.startswith("time/")}
        print(f"slow: step {step['step']} {parts}")
    return int(slope > given.slope or grown["files"] > 0 or grown["processes"] > 0 or bool(unexplained))


def watch(command: list[str]) -> list[Look]:
    """Looks at the command every few seconds until it ends.

    Raises:
        SystemExit: if it fails.
    """
    started = time.monotonic()
    looks: list[Look] = []
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            family = [process.pid, *_children(process.pid)]
            found = [(_memory(pid), _files(pid)) for pid in family]
            looks.append(
                Look(
                    time.monotonic() - started,
                    sum(memory for memory, _ in found),
                    sum(files for _, files in found),
                    sum(memory > 0 for memory, _ in found),
                )
            )
            time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(f"masa train ended with {process.returncode}")
    return looks[:-1]  # the last may have seen it dying


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:  # it has ended
            continue
    return found + [grandchild for child in found for grandchild in _children(child)]


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _files(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
