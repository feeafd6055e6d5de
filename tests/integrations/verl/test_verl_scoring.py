"""Meta rewards by hand."""

import pytest

pytest.importorskip("verl", reason="needs verl: make test-verl")

from masa.awareness import RewardOptions
from masa.integrations.verl.scoring import Row, score_step
from masa.records import FinishReason


def solution(key, text, length, correct, reason=FinishReason.STOP):
    return Row(key, False, "Add two and three.", text, length, reason, correct)


def prediction(key, pass_rate, length, notion):
    text = f'<meta>x</meta>{{"math_notion": ["{notion}"], "pass_rate": {pass_rate}, "solution_length": {length}}}'
    return Row(key, True, "Add two and three.", text, 9)


def score(rows):
    return score_step(rows, min_length=1, max_length=100, notion_key="math_notion", options=RewardOptions())


def test_predictions_are_held_against_their_own_problem_in_any_order():
    rows = [
        prediction("a", 6, 20, "carrying"),
        solution("b", "by guessing", 50, True),
        solution("a", "using carrying", 10, True),
        prediction("b", 8, 49, "carrying"),
        solution("a", "carrying again", 30, True),
        solution("a", "nothing", 90, False),
        solution("a", "carrying, cut", 100, True, FinishReason.LENGTH),  # right, but its length counts for nothing
        prediction("a", 4, 90, "carry"),
    ]
    step = score(rows)
    first, other, last = step.rewards[0], step.rewards[3], step.rewards[7]
    assert [i for i, reward in enumerate(step.rewards) if reward is not None] == [0, 3, 7]
    # a: p = 3/4, C = 10..30, "carrying" in 3 right and no wrong ones; b: p = 1, C = {50}, "carrying" in none.
    assert (first.difficulty, first.length, first.notion) == (1.0, 1.0, 1.0)
    assert (other.difficulty, other.length, other.notion) == (1.0, 0.0, 0.0)
    assert last.difficulty == pytest.approx(0.01**0.25)
    assert (last.length, last.notion) == (0.0, 1.0)  # the same lemma

    metrics = step.metrics(rows)
    assert metrics["masa/pass_rate"] == pytest.approx((0.75 + 1) / 2)
    assert metrics["masa/reward/meta"] == pytest.approx((1 + 1 / 3 + (0.01**0.25 + 1) / 3) / 3)
    assert metrics["masa/predictions_without_outcome"] == 0
    assert metrics["masa/awareness/valid_share"] == 1


def test_without_a_graded_solution_there_is_no_reward():
    rows = [prediction("a", 0, 20, "carrying"), solution("a", "lost", 10, None), prediction("b", 0, 20, "sum")]
    step = score(rows)
    assert step.rewards == [None, None, None]
    assert step.metrics(rows) == {"masa/predictions_without_outcome": 2.0}
