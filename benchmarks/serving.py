"""Requests that come together, answered one after the other and together: wall time and the answers themselves.

    python benchmarks/serving.py [--requests 8] [--rounds 3]

Starts `masa serve bundled` with `--together 1` and with the default, sends the same requests at once to either, in
turn, and prints the seconds of each round, their ratio, and whether every answer was the same.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_QUESTIONS = ("Compute 12 + 30.", "Compute 7 * 8.", "Compute 91 - 45.", "Compute 3 * (4 + 5).")
_SERVERS = {"one after the other": ("--together", "1"), "together": ()}


@contextmanager
def served(*options: str) -> Iterator[str]:
    """A server of the bundled model in a process of its own; its address."""
    command = [sys.executable, "-m", "masa.cli", "serve", "bundled", "--port", "0", "--queue", "1000", *options]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            while not (found := re.search(r"http://\S+", Path(log.name).read_text())):
                if process.poll() is not None:
                    raise SystemExit(Path(log.name).read_text())
                time.sleep(0.1)
            yield found[0]
        finally:
            process.kill()
            process.wait()


def ask(address: str, seed: int) -> Any:
    """The answer to one of the questions, with what it took."""
    message = {"role": "user", "content": _QUESTIONS[seed % len(_QUESTIONS)]}
    body = json.dumps({"model": "bundled", "messages": [message], "seed": seed}).encode()
    asked = urllib.request.Request(f"{address}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as response:
        answer = json.load(response)
    return answer["choices"], answer["usage"]


def at_once(address: str, seeds: Sequence[int]) -> tuple[float, list[Any]]:
    """Seconds until all are answered, and the answers."""
    started = time.perf_counter()
    with ThreadPoolExecutor(len(seeds)) as pool:
        answers = list(pool.map(lambda seed: ask(address, seed), seeds))
    return time.perf_counter() - started, answers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with ExitStack() as stack:
        servers = {name: stack.enter_context(served(*options)) for name, options in _SERVERS.items()}
        for address in servers.values():
            at_once(address, [0])
        seconds: dict[str, list[float]] = {name: [] for name in servers}
        is_same = True
        for number in range(given.rounds):
            seeds = range(number * given.requests, (number + 1) * given.requests)
            found = {name: at_once(address, seeds) for name, address in servers.items()}
            for name, (taken, _) in found.items():
                seconds[name].append(taken)
            first, second = (answers for _, answers in found.values())
            is_same &= first == second
    for name, taken in seconds.items():
        print(f"{name}: {given.requests} requests in {', '.join(f'{one:.2f}' for one in taken)} s")
    ratios = [before / after for before, after in zip(*seconds.values(), strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} (median); answers {'the same' if is_same else 'DIFFER'}")


if __name__ == "__main__":
    main()
