"""Which answers are one answer, and how they are counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from masa.errors import UserError
from masa.grading import equality
from masa.grading.equality import equal_answers, stated_answers
from masa.records import Problem
from masa.solving import Ballot, Vote, votes

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))
from hostile_texts import HOSTILE


def ballot(texts: list[str], problem: Problem) -> Ballot:
    made = Ballot(problem)
    stated = stated_answers([problem] * len(texts), texts)
    votes.count([made], [[answer for answer in stated if answer is not None]])
    return made


def test_mathematics_is_compared_as_for_grading() -> None:
    texts = [
        r"\boxed{\frac12}",
        "Answer: 0.5",
        "#### 1/2",
        r"\boxed{\frac{2}{4}}",
        r"\boxed{x+1}",
        r"\boxed{1+x}",
        "so",
    ]
    found = ballot(texts, Problem(0, "?", ""))
    assert found.votes == (Vote(r"\frac12", 4), Vote("x+1", 2))
    assert found.meaning("1+x") == "x+1"
    near = Problem(0, "?", "", extra={"grader_settings": {"relative_tolerance": 0.05}})
    assert ballot(["Answer: 100", "Answer: 103", "Answer: 120"], near).counts == [2, 1]


def test_options_count_by_their_letter() -> None:
    problem = Problem(0, "?", "", "choice", extra={"choices": ["red", "blue"]})
    found = ballot([r"\boxed{B}", "Answer: (B) blue", "The answer is blue.", "Answer: red"], problem)
    assert found.votes == (Vote("B", 3), Vote("A", 1))


def test_literals_and_tasks() -> None:
    literal = ballot(["Answer: [1,2]", "Answer: [1, 2]", "Answer: [2, 1]"], Problem(0, "?", "", "literal"))
    assert literal.counts == [2, 1]
    # A task's answers are texts and numbers: lists keep their order, and the task is not asked which one is right.
    task = ballot(
        ["Answer: 1,000", "Answer: 1000", "Answer: 1, 2", "Answer: 2, 1"], Problem(0, "?", "", "reasoning_gym")
    )
    assert task.counts == [2, 1, 1]


def test_programs_are_no_votes() -> None:
    with pytest.raises(UserError, match="problem 7 is of kind 'code', whose answers cannot be counted as votes"):
        stated_answers([Problem(7, "?", "", "code")], ["def f(): ..."])


def test_of_equally_many_the_first_given_leads() -> None:
    found = ballot([f"Answer: {value}" for value in (3, 5, 5, 3, 7)], Problem(0, "?", ""))
    assert [vote.answer for vote in found.votes] == ["3", "5", "7"]


def test_rounds_and_other_ballots_change_nothing() -> None:
    texts = [["1/2", "x", "0.5", "y", "2/4"], ["a+b", "b+a", "1"], []]
    problem = Problem(0, "?", "")
    alone, together, rounds = ([Ballot(problem) for _ in texts] for _ in range(3))
    for one, cast in zip(alone, texts, strict=True):
        votes.count([one], [cast])
    votes.count(together, texts)
    for place in range(5):
        votes.count(rounds, [cast[place : place + 1] for cast in texts])
    assert [one.votes for one in alone] == [one.votes for one in together] == [one.votes for one in rounds]
    assert [one.counts for one in together] == [[3, 1, 1], [2, 1], []]


def test_comparisons_without_an_end_split_no_votes_and_waste_little(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def compare(problems: list[Problem], answers: list[str], others: list[str]) -> list[bool | None]:
        asked.extend(zip(answers, others, strict=True))
        endless = [any("endless" in text for text in pair) for pair in zip(answers, others, strict=True)]
        return [
            None if stuck else answer[0] == other[0]
            for stuck, answer, other in zip(endless, answers, others, strict=True)
        ]

    monkeypatch.setattr(votes, "equal_answers", compare)
    one = Ballot(Problem(0, "?", ""))
    votes.count([one], [["a", "endless", "a2", "b", "b2", "endless", "b3", "endless 2"]])
    assert one.votes == (Vote("b", 3), Vote("a", 2), Vote("endless", 2), Vote("endless 2", 1))
    assert sum("endless" in text for pair in asked for text in pair) <= 5


def test_an_endless_comparison_is_told_from_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa.grading import math
    from masa.records import Grade

    monkeypatch.setattr(math, "_compared", lambda jobs: [Grade(False, job.text, "time limit of 5 s") for job in jobs])
    problem = Problem(0, "?", "")
    assert equal_answers([problem] * 2, ["x+1", "3"], ["x-y", "4"]) == [None, False]


@pytest.mark.parametrize("kind", equality.VOTED_KINDS)
def test_hostile_texts_are_counted(kind: str) -> None:
    texts = [text for name, text in HOSTILE.items() if kind != "math" or "tower" not in name]
    found = ballot([*texts, *texts], Problem(0, "?", "", kind))
    assert sum(found.counts) % 2 == 0
    assert all(vote.count >= 2 for vote in found.votes)
