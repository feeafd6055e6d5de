"""Correctness as a reward function in TRL's form: 1 for a right answer, 0 for a wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masa.errors import UserError
from masa.grading import grade_problems
from masa.records import Problem


def correctness_reward(
    prompts: Sequence[Any],  # noqa: ARG001 - TRL gives it by name
    completions: Sequence[Any],
    answer: Sequence[Any] | None = None,
    kind: Sequence[str | None] | None = None,
    **columns: Any,
) -> list[float]:
    """1.0 where a completion solves its problem, else 0.0.

    Args:
        prompts: one a completion; not looked at.
        completions: texts, or lists of chat messages (the last one counts).
        answer: gold answers, one a completion.
        kind: which grader decides, one a completion; None is `math`.
        columns: the data set's other columns, lists of the same length; what TRL adds besides is ignored.

    Raises:
        UserError: without an `answer` column, or for an unknown kind.
    """
    if answer is None:
        raise UserError("the correctness reward needs a data set column 'answer': name yours with answer_column")
    lists = {
        name: values
        for name, values in columns.items()
        if isinstance(values, Sequence) and not isinstance(values, str) and len(values) == len(completions)
    }
    problems = []
    for index, gold in enumerate(answer):
        row = {name: values[index] for name, values in lists.items()}
        problems.append(
            Problem(
                key=index,
                text=str(row.get("problem") or ""),
                answer=str(gold),
                kind=(kind[index] if kind is not None else None) or "math",
                extra=row,
            )
        )
    grades = grade_problems(problems, [completion_text(completion) for completion in completions])
    return [1.0 if grade.correct else 0.0 for grade in grades]


def completion_text(completion: Any) -> str:
    """A completion's text; of chat messages, the last one's."""
    if isinstance(completion, str):
        return completion
    last = completion[-1] if isinstance(completion, Sequence) and completion else completion
    content = last.get("content") if isinstance(last, Mapping) else last
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
