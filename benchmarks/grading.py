"""Answers graded a second: our pool of processes against Math-Verify alone in one process, on the same answers.

    make bench-grading                                   # or, with options:
    python benchmarks/grading.py [--answers 2000] [--workers 2] [--json]

"Through the pool" gives every answer to the worker processes; "as used" first tells what strings and numbers tell.
Ratios are taken turn by turn, since a shared machine changes speed.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable

import math_verify

from masa.grading.math import grade_math_many
from masa.grading.pool import GradingPool, MathJob
from masa.grading.settings import MathSettings

PLAIN = MathSettings()
KINDS: dict[str, Callable[[int], tuple[str, str]]] = {
    "integers": lambda number: (str(number), str(number + number % 2)),
    "fractions": lambda number: (rf"\frac{{{2 * number}}}{{14}}", rf"\frac{{{number}}}{{7}}"),
    "formulas": lambda number: (f"x^2+{number}", f"{number}+x^2"),
}


def alone(pairs: list[tuple[str, str]]) -> int:
    """Math-Verify as its documentation calls it."""
    return sum(
        bool(math_verify.verify(math_verify.parse(f"${gold}$"), math_verify.parse(f"${answer}$")))
        for answer, gold in pairs
    )


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    results = {}
    with GradingPool(given.workers) as pool:
        for kind, make in KINDS.items():
            turns = []
            for repeat in range(given.repeats + 1):  # the first one warms up
                # No answer comes twice: neither side may remember.
                start = 1000 + repeat * given.answers
                pairs = [make(number) for number in range(start, start + given.answers)]
                jobs = [MathJob(answer, (gold,), True, PLAIN) for answer, gold in pairs]
                texts = [(rf"\boxed{{{answer}}}", gold, PLAIN) for answer, gold in pairs]
                seconds, right = {}, []
                for name, run in (
                    ("alone", lambda pairs=pairs: alone(pairs)),
                    ("pool", lambda jobs=jobs: sum(grade.correct for grade in pool.map(jobs))),
                    ("used", lambda texts=texts: sum(grade.correct for grade in grade_math_many(texts))),
                ):
                    begin = time.perf_counter()
                    right.append(run())
                    seconds[name] = time.perf_counter() - begin
                assert len(set(right)) == 1, f"{kind}: the three do not agree: {right}"
                turns.append(seconds)
            turns = turns[1:]
            results[kind] = {
                **{name: given.answers / statistics.median(turn[name] for turn in turns) for name in turns[0]},
                "ratio": statistics.median(turn["alone"] / turn["pool"] for turn in turns),
            }
    if given.json:
        print(json.dumps(results))
        return
    print("| answers | Math-Verify alone, 1/s | through the pool, 1/s | ratio | as used, 1/s |")
    print("| --- | --- | --- | --- | --- |")
    for kind, row in results.items():
        print(f"| {kind} | {row['alone']:,.0f} | {row['pool']:,.0f} | {row['ratio']:.1f} | {row['used']:,.0f} |")


if __name__ == "__main__":
    main()
