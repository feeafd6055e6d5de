"""Logs of rollouts for the tests: by hand, and random ones in which problems come back."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Group = tuple[int, str, list[int], list[int]]
"""Step, problem, correct (0 or 1) and length of each rollout."""

BY_HAND: list[Group] = [
    (1, "a", [1, 1], [10, 20]),  # all right
    (1, "b", [0, 0], [40, 60]),  # all wrong
    (2, "a", [1, 0], [10, 30]),
    (2, "c", [0, 1], [50, 20]),
    (3, "a", [1, 1], [15, 15]),  # all right
    (3, "b", [0, 1], [70, 60]),
]
"""6 groups, 3 zero-variance with 30, 100 and 30 of 400 tokens; 250 tokens in wrong rollouts."""


def random_groups(problems: int = 40, steps: int = 30, per_step: int = 12, size: int = 4, seed: int = 0) -> list[Group]:
    """Half of the problems nearly always or nearly never solved, and lengths that depend on the problem."""
    draw = random.Random(seed)
    rates = [draw.choice([0.02, 0.98, draw.random(), draw.random()]) for _ in range(problems)]
    groups: list[Group] = []
    for step in range(1, steps + 1):
        for problem in draw.sample(range(problems), per_step):
            correct = [int(draw.random() < rates[problem]) for _ in range(size)]
            lengths = [round((20 + problem) * draw.lognormvariate(0, 0.4)) + (0 if right else 15) for right in correct]
            groups.append((step, f"problem {problem}", correct, lengths))
    return groups


def rows(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One row a rollout."""
    return [
        {"step": step, "problem": problem, "correct": right, "length": length}
        for step, problem, correct, lengths in groups
        for right, length in zip(correct, lengths, strict=True)
    ]


def write(path: Path, rows: Iterable[Any]) -> Path:
    """JSON lines; a text is written as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path
