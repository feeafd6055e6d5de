"""Answers that are right as they are written: the same text, or the same Python literal."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from masa.grading.answers import extract_final_answer
from masa.records import Grade

MAX_LENGTH = 10_000
"""Characters of an answer that is still parsed."""
MAX_DEPTH = 50
"""Brackets inside brackets; far below what makes Python's parser give up."""


def grade_literal(text: str, gold: str) -> Grade:
    """Whether the stated answer, or a text that is nothing but the answer, equals `gold`.

    White space is free between words; quotes, spacing and number formats inside Python literals are free too.
    Never raises.
    """
    answer = extract_final_answer(text)
    if answer is None:
        answer = text.strip()
        if not same_literal(answer, gold):
            return Grade(correct=False, extracted=None, reason="no final answer stated")
    elif not same_literal(answer, gold):
        return Grade(correct=False, extracted=answer, reason="differs from the gold answer")
    return Grade(correct=True, extracted=answer, reason="equals the gold answer")


def same_literal(answer: str, gold: str) -> bool:
    """Whether two bare answers are the same words, or the same Python literal. Never raises."""
    if answer.split() == gold.split():
        return bool(answer.split())
    mine, theirs = _literal(answer), _literal(gold)
    if mine is None or theirs is None:
        return False
    try:
        return bool(mine[0] == theirs[0])
    except RecursionError:
        return False


def _literal(text: str) -> tuple[Any] | None:
    """The value in a tuple of one, or None if the text is no literal of a reasonable size."""
    if len(text) > MAX_LENGTH or _depth(text) > MAX_DEPTH:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "12abc": Python's advice is for who writes programs
            return (ast.literal_eval(text.strip()),)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError):
        return None  # OverflowError: a sum of a huge integer and an imaginary number


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest
