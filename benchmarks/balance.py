"""How evenly solution rollouts fall on processes, dealt out by foretold tokens, by number, or by true tokens.

    python benchmarks/balance.py RUN [--processes 2,4,8] [--problems 0]

Reads the rollouts of a run's predictive steps, whose problems were foretold before they were rolled out, and deals out
whole groups as the trainer does. A step takes as long as the process with the most tokens: given is its load over the
mean load, 1 being even, as the mean over steps. `--problems N` puts several steps' groups together until there are N,
as in a larger batch.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from masa.processes import deal
from masa.runs import RunFolder

Group = tuple[float, int]
"""Foretold and true tokens of a group's solution rollouts."""
COSTS: list[Callable[[Group], float]] = [lambda _: 1.0, lambda group: group[0], lambda group: group[1]]


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path)
    options.add_argument("--processes", default="2,4,8")
    options.add_argument("--problems", type=int, default=0)
    given = options.parse_args()
    steps = list(batches(RunFolder.open(given.run), given.problems))
    size = statistics.fmean(map(len, steps))
    print(f"{len(steps)} batches of {size:.1f} groups on average")
    print("| processes | by number | by foretold tokens | by true tokens |\n| --- | ---: | ---: | ---: |")
    for processes in map(int, given.processes.split(",")):
        cells = [
            statistics.fmean(imbalance(step, [cost(group) for group in step], processes) for step in steps)
            for cost in COSTS
        ]
        print(f"| {processes} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")


def imbalance(groups: list[Group], costs: list[float], processes: int) -> float:
    """The largest load in true tokens over the mean load, if groups are dealt out by `costs`."""
    loads = [0.0] * processes
    for (_, tokens), owner in zip(groups, deal(costs, processes), strict=True):
        loads[owner] += tokens
    return max(loads) / statistics.fmean(loads)


def batches(folder: RunFolder, problems: int) -> Iterator[list[Group]]:
    """The groups of each predictive step, or of as many steps as make so many problems."""
    predictive = {row["step"] for row in folder.read_metrics() if row.get("phase") == "predictive"}
    batch: list[Group] = []
    for step in folder.steps():
        if step not in predictive:
            continue
        batch += groups_of(folder, step)
        if batch and len(batch) >= problems:
            yield batch
            batch = []


def groups_of(folder: RunFolder, step: int) -> list[Group]:
    """A step's groups that were rolled out and foretold."""
    lengths: dict[int, list[int]] = defaultdict(list)
    foretold: dict[int, list[float]] = defaultdict(list)
    for row in folder.read_rollouts(step):
        if row["role"] == "solution":
            lengths[row["problem"]].append(row["length"])
        elif row["prediction"]["length"] is not None:
            foretold[row["problem"]].append(row["prediction"]["length"])
    return [
        (statistics.fmean(foretold[problem]) * len(found), sum(found))
        for problem, found in lengths.items()
        if foretold[problem]
    ]


if __name__ == "__main__":
    main()
