r"""The other ways of answering that a corpus mixes: a bare guess, sloppy steps, rambling that starts over.

They are what a policy has to unlearn: short and mostly wrong, or long and mostly wrong. Their words are not those of
careful solutions, so that the words of a solution say something about whether it is right.
"""

from __future__ import annotations

import random
from enum import StrEnum

from .careful import REACH, careful_solution


class Habit(StrEnum):
    """A way of answering."""

    CAREFUL = "careful"
    GUESS = "guess"
    SLOPPY = "sloppy"
    RAMBLING = "rambling"


# share of right answers by level 1..6; none above
_RIGHT = {
    Habit.GUESS: (0.70, 0.45, 0.25, 0.12, 0.06, 0.03),
    Habit.SLOPPY: (0.60, 0.45, 0.30, 0.20, 0.12, 0.08),
    Habit.RAMBLING: (0.40, 0.30, 0.20, 0.12, 0.08, 0.05),
}


def write_solution(text: str, answer: str, task: str, level: int, habit: Habit, rng: random.Random) -> str:
    r"""A solution in one habit; all but some rambling ones end in `\boxed{...}`."""
    if habit is Habit.CAREFUL:
        return careful_solution(text, task)
    final = answer if level <= REACH and rng.random() < _RIGHT[habit][level - 1] else near_answer(answer, level, rng)
    if habit is Habit.GUESS:
        return f"my guess is \\boxed{{{final}}}"
    if habit is Habit.SLOPPY:
        return _sloppy(answer, level, final, rng)
    return _rambling(answer, level, final, rng)


def near_answer(answer: str, level: int, rng: random.Random) -> str:
    """A wrong answer that looks plausible: a list in a slightly wrong order, a number nearby."""
    if " " in answer:
        words = answer.split()
        for _ in range(1 if level < 4 else 2):
            place = rng.randrange(len(words) - 1)
            words[place : place + 2] = reversed(words[place : place + 2])
        if words == answer.split():
            words.pop(rng.randrange(len(words)))
        return " ".join(words)
    if len(answer) > 2 and set(answer) <= {"0", "1"}:
        place = rng.randrange(1, len(answer))
        return answer[:place] + ("1" if answer[place] == "0" else "0") + answer[place + 1 :]
    if len(answer) > 3:
        # right in size and first digit, else anything
        return answer[0] + "".join(rng.choice("0123456789") for _ in answer[2:]) + _other_digit(answer[-1], rng)
    number = int(answer)
    spread = 1 + number // 6
    near = [number + offset for offset in range(-spread - 1, spread + 2) if offset and number + offset >= 0]
    return str(rng.choice(near))


def _other_digit(digit: str, rng: random.Random) -> str:
    return rng.choice([other for other in "0123456789" if other != digit])


def _attempt(answer: str, level: int, rng: random.Random) -> str:
    """Some number to have in a sloppy step: the start of a list is enough there."""
    near = near_answer(answer, level, rng)
    return " ".join(near.split()[:3])


def _sloppy(answer: str, level: int, final: str, rng: random.Random) -> str:
    words = ["quick look, "]
    attempt = _attempt(answer, level, rng)
    for _ in range(rng.randint(4, 7)):
        words.append(f"{rng.choice(('roughly', 'about'))} {attempt}, ")
        if rng.random() < 0.5:
            attempt = _attempt(answer, level, rng)
    words.append(f"so probably \\boxed{{{final}}}")
    return "".join(words)


def _rambling(answer: str, level: int, final: str, rng: random.Random) -> str:
    words = ["hmm, "]
    # an attempt is about as many tokens as it has characters, and four around it
    budget = 25 * 9 ** rng.random()
    attempt = _attempt(answer, level, rng)
    while budget > 0:
        budget -= len(attempt) + 4
        words.append(f"maybe {attempt}{rng.choice((', no. ', ', wait again. '))}")
        if rng.random() < 0.4:
            attempt = _attempt(answer, level, rng)
    words.append(f"enough, \\boxed{{{final}}}")
    return "".join(words)
