"""pass@k and majority votes against counting by hand."""

from __future__ import annotations

from itertools import combinations

import pytest

import masa
from masa.evaluation.estimators import majority_correct, pass_at_k


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (4, 1, 1, 1 / 4),
        (4, 1, 2, 1 / 2),  # 3 of the 6 pairs hold the right one
        (4, 2, 2, 5 / 6),  # only the pair of both wrong ones fails
        (4, 0, 4, 0.0),
        (4, 4, 1, 1.0),
        (4, 1, 4, 1.0),
        (8, 3, 6, 1.0),  # six of eight cannot avoid three
    ],
)
def test_pass_at_k_by_hand(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)
    assert masa.pass_at_k is pass_at_k


def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_answer() -> None:
    for n in range(1, 7):
        for c in range(n + 1):
            for k in range(1, n + 1):
                choices = list(combinations(range(n), k))
                share = sum(any(i < c for i in choice) for choice in choices) / len(choices)
                assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_many_answers_do_not_overflow() -> None:
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5), (0, 0, 1)])
def test_pass_at_k_refuses_what_cannot_be(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k needs"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7", "7", "8"], [True, True, False], 1.0),
        (["7", "8", "8"], [True, False, False], 0.0),
        (["7", "8"], [True, False], 1 / 2),  # a tie goes by lot
        (["7", "8", "9"], [True, False, False], 1 / 3),
        (["7", "7", "8", "8", "9"], [True, True, False, False, False], 1 / 2),
        ([None, None, "7"], [False, False, True], 1.0),  # who says nothing does not vote
        ([None, None], [False, False], 0.0),
        (["1,000", "1000.0", "$1000", "8", "8"], [True, True, True, False, False], 1.0),  # one number
        (["x + 1", "x+1", "y"], [True, True, False], 1.0),
        (["\\frac12", "0.5", "3", "3"], [True, True, False, False], 0.0),  # other spellings are other answers
        (["7", "7", "8"], [True, False, False], 1 / 2),  # a grader that judged equal answers differently
    ],
)
def test_majority_by_hand(answers: list[str | None], correct: list[bool], expected: float) -> None:
    assert majority_correct(answers, correct) == pytest.approx(expected)
