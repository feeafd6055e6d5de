"""Accuracy of one answer a problem, for the tokens that it took: whatever chose the answers is handed in as a callable.

How answers are chosen, and by which rule tokens are spent, is nothing that this module knows of.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from masa.errors import UserError
from masa.evaluation.answers import EvaluationSet, Tell
from masa.evaluation.scores import Measured, measured
from masa.runs.answers import AnswerFolder
from masa.runs.jsonlines import Row


@dataclass(frozen=True, slots=True)
class Chosen:
    """The answer to one problem, and what it took."""

    text: str | None
    """The sample that is shown and graded: one that states the answer, whole if there is one; any where none does."""
    answer: str | None
    samples: int
    solution_tokens: int
    """Generated for the samples."""
    meta_tokens: int
    """Generated for predictions."""
    likely_right: float | None
    """Probability that it is right, 0..1, as the policy sees it; None where it says nothing of the kind."""
    stopped: str
    """Why no further sample was drawn."""


Choose = Callable[[EvaluationSet, Tell], Sequence[Chosen]]
"""A set's problems to one answer each, in order. It does not look at the right answers, and tells of its progress."""


@dataclass(frozen=True, slots=True)
class ChosenScores:
    """How the chosen answers of one data set do."""

    name: str
    problems: int
    accuracy: Measured
    tokens: int
    """Generated for all problems, predictions included."""
    tokens_a_problem: Measured
    meta_tokens: int
    """Of these, for predictions."""
    samples_a_problem: float
    unanswered_share: float
    """Problems without an answer."""
    likely_right: float | None
    """Mean of what the policy thinks of its answers; None where it says nothing."""
    brier: float | None
    """Mean squared difference between that and 1 for a right answer, 0 for a wrong one."""
    stopped: dict[str, int]
    """Problems by why no further sample was drawn."""
    by_task: dict[str, float]
    """Accuracy by the problems' task, where they have one."""


def choose_all(choose: Choose, data: EvaluationSet, folder: AnswerFolder, *, tell: Tell) -> ChosenScores:
    """One graded answer a problem; a set that the folder holds already is read, not sampled.

    A set is one file, there as a whole or not at all, since a budget ties its problems together. It holds one row a
    problem: `data`, `problem`, `task`, the fields of `Chosen`, `correct` and `reason`.

    Raises:
        UserError: if a file of the folder is damaged, or grading refuses a problem.
    """
    rows = folder.read(data.name, 0)
    if rows is None:
        rows = _choose(choose, data, tell)
        folder.write(data.name, 0, rows)
    elif len(rows) == len(data.problems):
        tell(len(rows), 0)
    else:
        raise UserError(
            f"{folder.path}: {data.name} holds {len(rows)} rows instead of {len(data.problems)}: it was changed by "
            "hand; remove the file to have it made again"
        )
    return _score(data, rows)


def _choose(choose: Choose, data: EvaluationSet, tell: Tell) -> list[Row]:
    found = choose(data, tell)
    grades = data.grade(data.problems, [one.text or "" for one in found])
    return [
        {
            "data": data.name,
            "problem": problem.key,
            "task": problem.task,
            "text": one.text,
            "answer": one.answer,
            "samples": one.samples,
            "solution_tokens": one.solution_tokens,
            "meta_tokens": one.meta_tokens,
            "likely_right": one.likely_right,
            "stopped": one.stopped,
            "correct": grade.correct and one.text is not None,
            "reason": grade.reason,
        }
        for problem, one, grade in zip(data.problems, found, grades, strict=True)
    ]


def _score(data: EvaluationSet, rows: Sequence[Row]) -> ChosenScores:
    right = [float(row["correct"]) for row in rows]
    tokens = [row["solution_tokens"] + row["meta_tokens"] for row in rows]
    said = [(row["likely_right"], ok) for row, ok in zip(rows, right, strict=True) if row["likely_right"] is not None]
    by_task: dict[str, list[float]] = defaultdict(list)
    for row, is_right in zip(rows, right, strict=True):
        if row["task"]:
            by_task[row["task"]].append(is_right)
    return ChosenScores(
        name=data.name,
        problems=len(rows),
        accuracy=measured([right]),
        tokens=sum(tokens),
        tokens_a_problem=measured([tokens]),
        meta_tokens=sum(row["meta_tokens"] for row in rows),
        samples_a_problem=statistics.fmean(row["samples"] for row in rows),
        unanswered_share=statistics.fmean(row["answer"] is None for row in rows),
        likely_right=statistics.fmean(likely for likely, _ in said) if said else None,
        brier=statistics.fmean((likely - ok) ** 2 for likely, ok in said) if said else None,
        stopped=dict(Counter(row["stopped"] for row in rows)),
        by_task={task: statistics.fmean(values) for task, values in sorted(by_task.items())},
    )
