"""Graders by kind, and correctness as TRL's reward."""

from __future__ import annotations

import json
import warnings

import pytest

from masa.errors import UserError
from masa.grading import grade, grade_problem
from masa.grading.literal import same_literal
from masa.grading.reward import correctness_reward
from masa.records import Problem
from masa.tasks.dataset import load_problems, to_dataset


@pytest.mark.parametrize(
    ("text", "gold", "correct"),
    [
        (r"\boxed{3 5 9}", "3  5 9", True),
        ("3 5 9", "3 5 9", True),
        (r"\boxed{['a', 1]}", '["a",1]', True),
        ("The answer is: 'x y'", '"x y"', True),
        (r"\boxed{3 9 5}", "3 5 9", False),
        ("sorted: 3 5 9", "3 5 9", False),
        ("", "", False),
        ("007", "7", False),
        (r"\boxed{" + "[" * 5000 + "}", "1", False),
        (r"\boxed{" + "-" * 9000 + "1}", "1", False),
        (r"\boxed{" + "9" * 9000 + "}", "1", False),
    ],
)
def test_literal(text: str, gold: str, correct: bool) -> None:
    assert grade(text, gold, "literal").correct is correct


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown grader kind 'maths': did you mean 'math'\?"):
        grade("1", "1", "maths")
    with pytest.raises(UserError, match="grade_problem"):
        grade("1", "1", "reasoning_gym")


def test_reward_reads_texts_messages_and_columns() -> None:
    completions = [r"\boxed{4}", [{"role": "assistant", "content": r"\boxed{5}"}], "no", []]
    rewards = correctness_reward(
        prompts=["q"] * 4,
        completions=completions,
        answer=["4", "5", "6", "7"],
        kind=["math", None, "literal", "math"],
        completion_ids=[[1]] * 4,
        trainer_state=object(),
    )
    assert rewards == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(UserError, match="answer_column"):
        correctness_reward(prompts=["q"], completions=["a"])


@pytest.mark.parametrize("name", ["chain_sum", "gcd", "arc_agi", "prime_factorization", "number_sorting"])
def test_reasoning_gym_problems_survive_the_data_set(name: str) -> None:
    """The gold answer is right before and after a trip through Arrow; arc_agi's entries hold tuples."""
    problems = load_problems(f"reasoning_gym:{name}", size=2, seed=3).problems
    columns = to_dataset(problems).to_dict()
    texts = [rf"\boxed{{{problem.answer}}}" for problem in problems]
    for problem, text in zip(problems, texts, strict=True):
        assert grade_problem(problem, text).correct
        assert not grade_problem(problem, "dunno").correct
        assert not grade_problem(problem, r"\boxed{nonsense}").correct
    columns["prompts"] = columns.pop("prompt")
    assert correctness_reward(completions=texts, **columns) == [1.0, 1.0]


def test_reasoning_gym_needs_its_entry() -> None:
    with pytest.raises(UserError, match="entry"):
        grade_problem(Problem(0, "q", "4", kind="reasoning_gym"), "4")
    broken = Problem(0, "q", "4", kind="reasoning_gym", extra={"dataset": "gcd", "entry": json.dumps([1])})
    with pytest.raises(UserError, match="cannot be read"):
        grade_problem(broken, "4")


def test_what_a_model_wrote_draws_no_advice_on_python() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert not same_literal("[1, 2or]", "[1, 2]")
    assert said == []
