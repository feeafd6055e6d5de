"""Which answers are one answer: votes are counted by the graders' own notion of equality, without a gold answer."""

from __future__ import annotations

from collections.abc import Sequence

from masa.errors import UserError
from masa.grading import case_of, grade_many
from masa.grading.answers import extract_final_answer
from masa.grading.literal import same_literal
from masa.grading.math import equal_math_many
from masa.grading.math_rules import quick
from masa.grading.settings import MathSettings
from masa.records import Problem

VOTED_KINDS = ("math", "choice", "literal", "reasoning_gym")
"""Kinds of problems whose answers can be counted as votes."""

_NO_GOLD = ""


def check_voted(problem: Problem) -> None:
    """Raises a UserError for a problem whose answers are no votes: two programs are seldom written alike."""
    if problem.kind not in VOTED_KINDS:
        raise UserError(
            f"problem {problem.key} is of kind {problem.kind!r}, whose answers cannot be counted as votes: "
            f"give one of {', '.join(VOTED_KINDS)}"
        )


def stated_answers(problems: Sequence[Problem], texts: Sequence[str]) -> list[str | None]:
    """The final answer that each completion states, as its problem's grader reads it; None where it states none.

    Of a multiple choice it is the letter of the option, however the text names it.

    Args:
        problems: one a text. Their `answer` is not looked at.
        texts: whole completions; any text is safe.

    Raises:
        UserError: for a kind that cannot be voted on, or settings that are none.
    """
    found: list[str | None] = []
    cases, places = [], []
    for place, (problem, text) in enumerate(zip(problems, texts, strict=True)):
        check_voted(problem)
        if problem.kind == "reasoning_gym":  # its grader asks the task, which knows the right answer
            found.append(extract_final_answer(text))
            continue
        found.append(None)
        places.append(place)
        cases.append(case_of(text, _NO_GOLD, problem.kind, problem.extra, where=f"problem {problem.key}"))
    for place, grade in zip(places, grade_many(cases), strict=True):
        found[place] = grade.extracted
    return found


def equal_answers(problems: Sequence[Problem], answers: Sequence[str], others: Sequence[str]) -> list[bool | None]:
    """Whether two bare answers to a problem are one answer; one entry a pair.

    Mathematics is compared as for grading, with the problem's own tolerance, order and unit, and several pairs at a
    time; options by their letter; literals as literals; answers to reasoning-gym tasks as texts and numbers.

    Args:
        problems: what the answers answer, one a pair.
        answers: as `stated_answers` gave them.
        others: what each is compared with; it takes the gold answer's place.

    Returns:
        None where a comparison came to no end within the grader's time limit.
    """
    found: list[bool | None] = []
    pairs, places = [], []
    for place, (problem, answer, other) in enumerate(zip(problems, answers, others, strict=True)):
        if problem.kind == "math":
            settings = case_of(answer, other, problem.kind, problem.extra).settings
            pairs.append((answer, other, settings if isinstance(settings, MathSettings) else MathSettings()))
            places.append(place)
            found.append(None)
        elif problem.kind == "choice":
            found.append(answer == other)
        elif problem.kind == "literal":
            found.append(same_literal(answer, other))
        else:
            told = quick(answer, other, MathSettings())
            found.append(told is not None and told[0])
    for place, verdict in zip(places, equal_math_many(pairs), strict=True):
        found[place] = verdict
    return found
