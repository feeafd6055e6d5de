"""Is this answer right? Graders by kind, behind `grade` (an answer and its gold) and `grade_problem`.

Graders never raise on what a model wrote. Heavy libraries are imported when a grader first needs them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any

from masa.errors import UserError, unknown_key_message
from masa.grading.answers import extract_final_answer
from masa.records import Grade, Problem

__all__ = ["KINDS", "check_kind", "extract_final_answer", "grade", "grade_problem"]


def _grade_math(text: str, gold: str) -> Grade:
    from masa.grading.math import grade_math

    return grade_math(text, gold)


def _grade_literal(text: str, gold: str) -> Grade:
    from masa.grading.literal import grade_literal

    return grade_literal(text, gold)


_GRADERS: dict[str, Callable[[str, str], Grade]] = {"math": _grade_math, "literal": _grade_literal}
_OF_PROBLEMS = ("reasoning_gym",)

KINDS = (*_GRADERS, *_OF_PROBLEMS)
"""Every kind that a problem may have."""


def check_kind(kind: str, *, where: str = "") -> None:
    """Raises a UserError, naming the nearest kind, if there is no such grader."""
    if kind not in KINDS:
        raise UserError(unknown_key_message("grader kind", kind, KINDS, where=where))


def grade(prediction_text: str, gold: str, kind: str = "math") -> Grade:
    r"""Whether a text states the gold answer.

    Args:
        prediction_text: a whole completion, or the bare answer.
        gold: the right answer, bare or as a text that states it (`\boxed{...}`, `#### ...`).
        kind: `math` (numbers, LaTeX) or `literal` (the same text, or the same Python literal).

    Raises:
        UserError: for an unknown kind, or one that needs more than a gold answer.
    """
    check_kind(kind)
    if kind in _OF_PROBLEMS:
        raise UserError(f"grader kind {kind!r} needs the whole problem, not its answer alone: use grade_problem")
    return _GRADERS[kind](prediction_text, gold)


def grade_problem(problem: Problem, text: str) -> Grade:
    """Whether a completion solves a problem, by the problem's kind.

    Raises:
        UserError: for an unknown kind, or a reasoning-gym problem without its entry.
    """
    if problem.kind != "reasoning_gym":
        return grade(text, problem.answer, problem.kind)
    from masa.tasks import procedural

    extra = dict(problem.extra)
    if "dataset" not in extra or "entry" not in extra:
        raise UserError(
            f"problem {problem.key} of kind 'reasoning_gym' lacks its 'dataset' and 'entry': "
            "keep these columns of its row"
        )
    answer = extract_final_answer(text)
    if answer is None:
        return Grade(correct=False, extracted=None, reason="no final answer stated")
    extra["entry"] = _as_mapping(extra["entry"])
    whole = Problem(problem.key, problem.text, problem.answer, problem.kind, problem.task, extra)
    # The bare answer may hold no box any more; some answers may still look like one, which is for `score` to say.
    correct = procedural.score(whole, answer)
    return Grade(correct, answer, "accepted by the task's own check" if correct else "refused by the task's own check")


def _as_mapping(entry: Any) -> Mapping[str, Any]:
    """An entry as it was, also from a data set's text column."""
    if not isinstance(entry, str):
        return dict(entry)
    try:
        decoded = json.loads(entry)
    except ValueError:
        try:
            decoded = ast.literal_eval(entry)
        except (ValueError, SyntaxError):
            decoded = None
    if not isinstance(decoded, dict):
        raise UserError("column 'entry' of a reasoning-gym problem cannot be read: keep it as the data set gave it")
    return decoded
