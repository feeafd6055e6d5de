"""One chosen answer a problem: what is graded, what it took, and what the folder keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from masa.errors import UserError
from masa.evaluation.answers import EvaluationSet, Tell
from masa.evaluation.chosen import Chosen, ChosenScores, choose_all
from masa.grading import grade_problems
from masa.records import Problem
from masa.runs.answers import AnswerFolder

PROBLEMS = [Problem(key, f"{key} + 1", str(key + 1), "literal", task="odd" if key % 2 else "even") for key in range(4)]


def data() -> EvaluationSet:
    sampler: Any = None  # nothing is sampled here
    return EvaluationSet("sums", PROBLEMS, [{}] * 4, sampler, grade_problems)


def chosen(text: str | None, likely: float | None, stopped: str = "settled") -> Chosen:
    return Chosen(text, text and text.split()[-1], 3, 30, 5, likely, stopped)


class Says:
    """A policy whose answers are written down; counts how often it is asked."""

    def __init__(self, *said: Chosen) -> None:
        self.said = said
        self.calls = 0

    def __call__(self, data: EvaluationSet, tell: Tell) -> Sequence[Chosen]:
        self.calls += 1
        tell(len(data.problems), 35 * len(data.problems))
        return self.said


def score(says: Says, path: Path) -> ChosenScores:
    return choose_all(says, data(), AnswerFolder(path, {"a": 1}), tell=lambda *_: None)


def test_the_text_is_graded_and_a_set_is_chosen_once(tmp_path: Path) -> None:
    says = Says(
        chosen("Answer: 1", 0.75), chosen("Answer: 3", 0.5), chosen("Answer: 3", None), chosen(None, 0.25, "budget")
    )
    found = score(says, tmp_path / "out")
    assert (found.problems, found.accuracy.value, found.unanswered_share) == (4, 0.5, 0.25)
    assert (found.tokens, found.meta_tokens, found.tokens_a_problem.value, found.samples_a_problem) == (140, 20, 35, 3)
    assert found.stopped == {"settled": 3, "budget": 1}
    assert found.by_task == {"even": 1.0, "odd": 0.0}
    # Said to be right 0.75, 0.5 and 0.25; right, wrong, wrong: (0.0625 + 0.25 + 0.0625) / 3.
    assert (found.likely_right, found.brier) == (0.5, 0.125)
    assert score(says, tmp_path / "out") == found
    assert says.calls == 1


def test_a_file_with_other_problems_is_refused(tmp_path: Path) -> None:
    folder = AnswerFolder(tmp_path / "out", {"a": 1})
    folder.write("sums", 0, [{"problem": 0}])
    with pytest.raises(UserError, match="sums holds 1 rows instead of 4"):
        choose_all(Says(), data(), folder, tell=lambda *_: None)
