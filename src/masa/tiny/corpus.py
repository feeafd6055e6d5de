"""The corpus the bundled model is pre-trained on, made on the fly from seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ..awareness.prompts import add_hint, build_meta_prompt
from ..tasks.procedural import LEVELS, TASKS, is_held_out, leveled_entries
from .careful import REACH
from .habits import Habit, write_solution
from .predictions import MINIMUM_LENGTH, NOTIONS, draw_maximum_length, prediction

# within reach, and beyond it where nobody shows how
_HABITS = {
    True: {Habit.CAREFUL: 0.46, Habit.GUESS: 0.20, Habit.SLOPPY: 0.18, Habit.RAMBLING: 0.16},
    False: {Habit.CAREFUL: 0.0, Habit.GUESS: 0.32, Habit.SLOPPY: 0.36, Habit.RAMBLING: 0.32},
}


@dataclass(frozen=True, slots=True)
class Document:
    """One prompt and its answer, before the chat template."""

    prompt: str
    answer: str
    task: str
    """For example `gcd/3`."""
    habit: Habit | None
    """None for a prediction."""


@dataclass(frozen=True, slots=True)
class Blend:
    """What a stretch of the corpus is made of."""

    careful_share: float | None = None
    """Share of careful solutions among those within reach; None: that of the final mix of habits."""
    meta_share: float = 0.15
    beyond_share: float = len(LEVELS[REACH:]) / len(LEVELS)
    """Share of problems from levels that nobody shows how to solve."""

    hint_share: float = 0.15
    """Share of solutions whose prompt names some notions, as hints do."""
    prefers_hard: bool = False
    """Whether the upper levels within reach come more often than the lower ones."""

    task_weights: tuple[float, ...] = (1.0,) * len(TASKS)
    """How often each task comes, relative to the others, in the order of `TASKS`."""


FINAL_BLEND = Blend()
"""The mix of habits that the finished model has."""

SKILL_BLEND = Blend(
    careful_share=0.96,
    meta_share=0.03,
    beyond_share=0.03,
    prefers_hard=True,
    # sums and remainders are learnt slowest, and sums have the fewest tokens to learn from; halves come almost at once
    task_weights=(0.32, 0.18, 0.25, 0.16, 0.09),
)
"""What is learnt first: how to solve, with a little of everything else."""


def write_corpus(size: int, seed: int, blend: Blend = FINAL_BLEND) -> Iterator[Document]:
    """`size` documents that depend on nothing but the arguments; no held-out problem is among them."""
    rng = random.Random(f"corpus/{seed}/{blend}")
    streams = {
        (task, level): (row for row in leveled_entries(task, level, rng.getrandbits(32)) if not is_held_out(row[0]))
        for task in TASKS
        for level in LEVELS
    }
    for _ in range(size):
        task = rng.choices(list(TASKS), blend.task_weights)[0]
        beyond = rng.random() < blend.beyond_share
        level = rng.choice(LEVELS[REACH:] if beyond else LEVELS[:REACH])
        if blend.prefers_hard and not beyond and rng.random() < 0.5:
            level = max(level, rng.choice(LEVELS[:REACH]))
        text, answer = next(streams[task, level])
        name = f"{task}/{level}"
        if rng.random() < blend.meta_share:
            limit = draw_maximum_length(rng)
            prompt = build_meta_prompt(text, "brief", min_length=MINIMUM_LENGTH, max_length=limit)
            yield Document(prompt, prediction(text, task, limit, rng), name, None)
            continue
        habit = _draw_habit(level, blend.careful_share, rng)
        # hints are there to be read by training, not to surprise: here they come with any habit and mean nothing
        hint = rng.sample(NOTIONS, rng.randint(1, 3)) if rng.random() < blend.hint_share else []
        yield Document(add_hint(text, hint), write_solution(text, answer, task, level, habit, rng), name, habit)


def _draw_habit(level: int, careful_share: float | None, rng: random.Random) -> Habit:
    shares = dict(_HABITS[level <= REACH])
    if careful_share is not None and level <= REACH:
        rest = (1 - careful_share) / (1 - shares[Habit.CAREFUL])
        shares = {habit: share * rest for habit, share in shares.items()} | {Habit.CAREFUL: careful_share}
    return rng.choices(list(shares), list(shares.values()))[0]
