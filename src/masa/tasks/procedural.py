"""Procedural problems from reasoning-gym: any of its data sets by name, and the leveled mix of the bundled model.

The bundled mix has five tasks with nine levels each. Its problems come from reasoning-gym, but their text is rebuilt
short (`17 + 25 - 9`, `gcd 12 18`), since a model of under a million parameters has no use for a polite sentence, and
because what makes a problem hard (how many terms, how many digits) then stands right in front of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import reasoning_gym
from reasoning_gym.factory import DATASETS

from ..errors import UserError, unknown_key_message
from ..grading.answers import last_boxed
from ..records import Problem

LEVELS = range(1, 10)
CORRECT_SCORE = 0.99
"""A reasoning-gym score of at least this is correct: some data sets give wrong answers a little above 0."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LeveledTask:
    """One task of the bundled mix."""

    dataset: str
    """Name in reasoning-gym."""
    configs: tuple[Mapping[str, Any], ...]
    """reasoning-gym's config of levels 1..9."""
    short: Callable[[Entry], tuple[str, str]]
    """Entry -> (short problem text, answer)."""
    keeps: Callable[[Entry, int], bool] = lambda _entry, _level: True
    """Whether an entry belongs to a level; reasoning-gym cannot ask for every shape that a level needs."""


def _terms_config(terms: int, digits: int) -> dict[str, int]:
    return {"min_terms": terms, "max_terms": terms, "min_digits": digits, "max_digits": digits}


def _never_negative(entry: Entry, _level: int) -> bool:
    total = 0
    sign = 1
    for word in entry["metadata"]["expression"].split():
        if word in "+-":
            sign = 1 if word == "+" else -1
            continue
        total += sign * int(word)
        if total < 0:
            return False
    return True


# (factors, digits of each, bound on the smaller factor), by level; reasoning-gym's factors all have the same length
_PRODUCT_SHAPES = (
    (2, 1, 9), (3, 1, 9), (4, 1, 9), (5, 1, 9), (2, 2, 19), (2, 2, 99), (2, 3, 999), (2, 4, 9999), (2, 5, 99999)
)  # fmt: skip


def _has_product_shape(entry: Entry, level: int) -> bool:
    factors = [int(factor) for factor in entry["metadata"]["expression"].split(" * ")]
    return 0 not in factors and min(factors) <= _PRODUCT_SHAPES[level - 1][2]


def _sort_config(numbers: int, digits: int) -> dict[str, Any]:
    return {
        "min_numbers": numbers,
        "max_numbers": numbers,
        "min_decimals": 0,
        "max_decimals": 0,
        "min_value": 0 if digits == 1 else 10 ** (digits - 1),
        "max_value": 10**digits - 1,
    }


def _short_sort(entry: Entry) -> tuple[str, str]:
    metadata = entry["metadata"]
    way = "up" if metadata["direction"] == "ascending" else "down"
    given, ordered = (
        " ".join(number.removesuffix(".0") for number in numbers)
        for numbers in (metadata["original_numbers"], metadata["sorted_numbers"])
    )
    return f"sort {way} {given}", ordered


def _base_config(low: int, high: int) -> dict[str, int]:
    # one of the two bases is then always 2
    return {"min_base": 2, "max_base": 3, "min_value": low, "max_value": high}


def _short_binary(entry: Entry) -> tuple[str, str]:
    metadata = entry["metadata"]
    written = metadata["source_repr"] if metadata["source_base"] == 2 else metadata["target_repr"]
    return f"binary {metadata['decimal_value']}", written


TASKS: dict[str, LeveledTask] = {
    "chain_sum": LeveledTask(
        "chain_sum",
        tuple(
            _terms_config(terms, digits)
            for terms, digits in ((2, 1), (3, 1), (4, 1), (6, 1), (8, 1), (4, 2), (5, 3), (7, 4), (9, 5))
        ),
        lambda entry: (entry["metadata"]["expression"], entry["answer"]),
        _never_negative,
    ),
    "products": LeveledTask(
        "products",
        tuple(_terms_config(factors, digits) for factors, digits, _ in _PRODUCT_SHAPES),
        lambda entry: (entry["metadata"]["expression"], entry["answer"]),
        _has_product_shape,
    ),
    "gcd": LeveledTask(
        "gcd",
        tuple(
            {"min_value": low, "max_value": high}
            for low, high in (
                (1, 9), (1, 15), (2, 20), (5, 30), (10, 50), (10, 99), (100, 999), (1000, 9999), (10**4, 10**5 - 1)
            )
        ),
        lambda entry: (f"gcd {' '.join(map(str, entry['metadata']['numbers']))}", entry["answer"]),
    ),
    "number_sorting": LeveledTask(
        "number_sorting",
        tuple(
            _sort_config(numbers, digits)
            for numbers, digits in ((3, 1), (4, 1), (5, 1), (4, 2), (7, 1), (6, 2), (8, 3), (9, 3), (10, 3))
        ),
        _short_sort,
    ),
    "base_conversion": LeveledTask(
        "base_conversion",
        tuple(
            _base_config(low, high)
            for low, high in (
                (2, 15), (8, 31), (16, 63), (32, 127), (64, 255), (128, 320), (1000, 2999), (3000, 9999),
                (10**4, 10**5 - 1),
            )
        ),
        _short_binary,
    ),
}  # fmt: skip
"""The tasks of the bundled mix, by name."""


def leveled_entries(task: str, level: int, seed: int) -> Iterator[tuple[str, str]]:
    """An endless stream of (short problem text, answer), repeats included, that depends on nothing but the arguments.

    Raises:
        ValueError: on an unknown task or a level outside 1..9.
    """
    if task not in TASKS:
        raise UserError(unknown_key_message("task", task, TASKS))
    if level not in LEVELS:
        raise ValueError(f"level of {task} must be 1 to 9, got {level}")
    leveled = TASKS[task]
    chunk = 1024
    for part in range(2**31):
        # reasoning-gym seeds item i with seed + i, so that the streams of nearby seeds would overlap
        start = random.Random(f"{task}/{level}/{seed}/{part}").randrange(2**40)
        data = reasoning_gym.create_dataset(leveled.dataset, size=chunk, seed=start, **leveled.configs[level - 1])
        for index in range(chunk):
            entry = data[index]
            if leveled.keeps(entry, level):
                yield leveled.short(entry)


def bundled_mix(
    size: int, seed: int, split: Literal["train", "heldout"] = "train", tasks: Sequence[str] = ()
) -> list[Problem]:
    """The default mix: `size` problems, balanced over the tasks (default: all five) and nine levels, in a seeded order.

    No text is in both splits, whatever the seeds: which split a text belongs to depends on the text alone (a fifth is
    held out). Small levels have fewer texts than a large mix asks for (there are 81 products of two digits); within
    one mix a text comes back only once its level has no other left.

    Raises:
        ValueError: on a size below 1, an unknown split or an unknown task.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    for task in tasks:
        if task not in TASKS:
            raise UserError(unknown_key_message("task of the bundled mix", task, TASKS))
    if split not in ("train", "heldout"):
        raise ValueError(f"split must be 'train' or 'heldout', got {split!r}")
    cells = [(task, level) for level in LEVELS for task in TASKS if not tasks or task in tasks]
    # a mix that does not fill its last round must not always leave the same cells out
    random.Random(f"cells/{seed}/{split}").shuffle(cells)
    rows: list[tuple[str, str, str]] = []
    for place, (task, level) in enumerate(cells):
        wanted = size // len(cells) + (place < size % len(cells))
        rows += [(f"{task}/{level}", *row) for row in _distinct_rows(task, level, seed, split, wanted)]
    random.Random(f"order/{seed}/{split}").shuffle(rows)
    return [
        Problem(key=key, text=text, answer=answer, kind="literal", task=task)
        for key, (task, text, answer) in enumerate(rows)
    ]


def is_held_out(text: str) -> bool:
    """Whether a text of the bundled mix belongs to the held-out split."""
    return random.Random(f"split/{text}").random() < 0.2


def _distinct_rows(task: str, level: int, seed: int, split: str, wanted: int) -> list[tuple[str, str]]:
    rows: dict[str, str] = {}
    for text, answer in islice(leveled_entries(task, level, seed), 200 + 10 * wanted):
        if len(rows) == wanted:
            break
        if is_held_out(text) == (split == "heldout"):
            rows.setdefault(text, answer)
    found = list(rows.items())
    return [found[index % len(found)] for index in range(wanted)]


def reasoning_gym_problems(
    name: str, size: int, seed: int, config: Mapping[str, Any] | None = None, *, start_key: int = 0
) -> list[Problem]:
    """`size` problems of one of reasoning-gym's data sets, with its own question text.

    Args:
        name: reasoning-gym's name of the data set, for example `chain_sum`.
        config: keys of the data set's config, for example `{"min_terms": 2, "max_terms": 4}`.
        start_key: key of the first problem, for mixes of several data sets.

    Raises:
        ValueError: on an unknown name (the nearest one is named) or a config that the data set refuses.
    """
    if name not in DATASETS:
        raise UserError(unknown_key_message("reasoning-gym data set", name, DATASETS))
    if size < 1:
        raise ValueError(f"{name}: size must be at least 1, got {size}")
    config = dict(config or {})
    known = DATASETS[name][1].__dataclass_fields__
    for key in config:
        if key in ("seed", "size"):
            raise ValueError(f"{name}: {key!r} is an argument of its own, not a key of the config")
        if key not in known:
            raise UserError(f"{name}: {unknown_key_message('config key', key, known)}")
    try:
        data = reasoning_gym.create_dataset(name, size=size, seed=seed, **config)
        entries = [data[index] for index in range(size)]
    except (AssertionError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"{name}: config {config} is refused: {error or type(error).__name__}") from error
    return [
        Problem(
            key=start_key + index,
            text=entry["question"],
            answer="" if entry["answer"] is None else str(entry["answer"]),
            kind="reasoning_gym",
            task=name,
            extra={"dataset": name, "entry": entry},
        )
        for index, entry in enumerate(entries)
    ]


def score(problem: Problem, answer: str | None) -> bool:
    r"""Whether an answer is correct.

    Where the answer holds `\boxed{`, the content of the last one counts, so that whole completions can be given too.
    Problems of kind `reasoning_gym` are scored by their data set's own `score_answer`, all others by equality of the
    strings with runs of white space made one space.
    """
    if answer is not None and "\\boxed{" in answer:
        answer = last_boxed(answer)
    if answer is None:
        return False
    if problem.kind != "reasoning_gym":
        return answer.split() == problem.answer.split()
    judge = reasoning_gym.get_score_answer_fn(problem.extra["dataset"])
    try:
        return bool(judge(answer.strip(), dict(problem.extra["entry"])) >= CORRECT_SCORE)
    except Exception:  # some data sets raise on answers they cannot parse, each in its own way
        return False
