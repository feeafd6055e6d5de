from collections import Counter

import pytest

from masa.errors import UserError
from masa.grading.answers import last_boxed
from masa.records import Problem
from masa.tasks.dataset import load_problems
from masa.tasks.procedural import (
    LEVELS,
    TASKS,
    bundled_mix,
    leveled_entries,
    reasoning_gym_problems,
    score,
)


def test_mix_is_balanced_deterministic_and_keyed_by_place() -> None:
    problems = bundled_mix(90, seed=3)
    assert problems == bundled_mix(90, seed=3)
    assert problems != bundled_mix(90, seed=4)
    assert [problem.key for problem in problems] == list(range(90))
    tasks = sorted(problem.task for problem in problems)
    assert tasks == sorted(2 * [f"{task}/{level}" for task in TASKS for level in LEVELS])


def test_no_text_is_in_both_splits() -> None:
    train = {problem.text for problem in bundled_mix(512, seed=0)}
    held_out = {problem.text for problem in bundled_mix(225, seed=1, split="heldout")}
    assert not train & held_out
    assert len(train) > 450
    assert len(held_out) > 195


def test_a_mix_of_some_tasks_holds_no_others() -> None:
    mix = bundled_mix(36, 0, "train", ["gcd", "chain_sum"])
    assert Counter(problem.task.split("/")[0] for problem in mix) == {"gcd": 18, "chain_sum": 18}
    with pytest.raises(UserError, match="unknown task of the bundled mix 'gdc': did you mean 'gcd'"):
        bundled_mix(36, 0, "train", ["gdc"])
    from_config = load_problems("bundled", size=36, config={"tasks": ["gcd", "chain_sum"]}).problems
    assert [problem.text for problem in from_config] == [problem.text for problem in mix]
    with pytest.raises(UserError, match="has only `tasks`"):
        load_problems("bundled", config={"task": "gcd"})


def test_size_that_fills_no_round() -> None:
    assert len(bundled_mix(7, seed=0)) == 7


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_true(task: str) -> None:
    for level in LEVELS:
        stream = leveled_entries(task, level, seed=1)
        for _ in range(3):
            text, answer = next(stream)
            assert answer == _solve(text)


def _solve(text: str) -> str:
    import math

    words = text.split()
    match words[0]:
        case "gcd":
            return str(math.gcd(*map(int, words[1:])))
        case "binary":
            return f"{int(words[1]):b}"
        case "sort":
            return " ".join(map(str, sorted(map(int, words[2:]), reverse=words[1] == "down")))
        case _:
            return str(eval(text))


def test_running_sums_never_go_below_zero() -> None:
    stream = leveled_entries("chain_sum", 5, seed=0)
    for _ in range(20):
        words = next(stream)[0].split()
        total = int(words[0])
        for sign, word in zip(words[1::2], words[2::2], strict=True):
            total += int(word) if sign == "+" else -int(word)
            assert total >= 0


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("3 5", True),
        (" 3  5\n", True),
        ("so \\boxed{9} no, \\boxed{3 5}", True),
        ("\\boxed{3 5", False),
        ("35", False),
        (None, False),
    ],
)
def test_score_compares_the_last_boxed_string(answer: str | None, correct: bool) -> None:
    assert score(Problem(0, "sort up 5 3", "3 5", kind="literal"), answer) is correct


def test_boxed_answer_keeps_nested_braces() -> None:
    assert last_boxed(r"\boxed{\frac{1}{2}}.") == r"\frac{1}{2}"


def test_reasoning_gym_scores_by_its_own_rule() -> None:
    (problem,) = reasoning_gym_problems("prime_factorization", 1, seed=0)
    assert problem.kind == "reasoning_gym"
    assert score(problem, problem.answer)
    # this data set raises on what it cannot parse, and gives part of the score to wrong answers
    assert not score(problem, "no idea")
    assert not score(problem, None)


def test_reasoning_gym_config_and_keys() -> None:
    problems = reasoning_gym_problems("chain_sum", 3, 0, {"min_terms": 4, "max_terms": 4}, start_key=10)
    assert [problem.key for problem in problems] == [10, 11, 12]
    assert all(problem.text.count(" + ") + problem.text.count(" - ") == 3 for problem in problems)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("chain_sm", {}, "did you mean 'chain_sum'"),
        ("chain_sum", {"max_term": 3}, "chain_sum: unknown config key 'max_term': did you mean 'max_terms'"),
        ("chain_sum", {"min_terms": -3}, "chain_sum: config .* min_terms must be positive"),
        ("chain_sum", {"seed": 3}, "'seed' is an argument"),
    ],
)
def test_bad_requests_name_task_and_key(name: str, config: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reasoning_gym_problems(name, 2, 0, config)


def test_bad_level_task_size_and_split() -> None:
    with pytest.raises(ValueError, match="did you mean 'products'"):
        next(leveled_entries("product", 1, 0))
    with pytest.raises(ValueError, match="1 to 9"):
        next(leveled_entries("gcd", 10, 0))
    with pytest.raises(ValueError, match="at least 1"):
        bundled_mix(0, 0)
    with pytest.raises(ValueError, match="heldout"):
        bundled_mix(9, 0, split="test")  # type: ignore[arg-type]
