"""A correct answer that was stated before the limit is not lost to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from masa.records import FinishReason, Outcome, Rollout
from masa.training.truncation import correct_at_limit

ANSWER = 7
"""The token that states the answer."""


def group(rollouts: list[tuple[int, ...]], *, limit: int | None, exempt: bool = True, key: int = 0) -> Any:
    made = [Rollout(tokens, FinishReason.STOP) for tokens in rollouts]
    outcome = Outcome(
        texts=("",) * len(made),
        lengths=tuple(r.length for r in made),
        correct=tuple(ANSWER in r.token_ids for r in made),
    )
    cut = SimpleNamespace(predicted_limit=limit, exempt=exempt)
    return SimpleNamespace(outcome=outcome, cut=cut, known_rollouts=made, row={"key": key})


def judged(groups: list[Any]) -> tuple[list[Any], list[Any]]:
    asked: list[Any] = []

    def correct(rows: Any, rollouts: Any, texts: Any) -> list[bool | None]:
        asked.extend(zip([row["key"] for row in rows], [r.token_ids for r in rollouts], strict=True))
        assert [text == str(r.token_ids) for text, r in zip(texts, rollouts, strict=True)]
        return [ANSWER in rollout.token_ids for rollout in rollouts]

    return correct_at_limit(groups, lambda rollouts: [str(r.token_ids) for r in rollouts], correct), asked


def test_only_correct_rollouts_beyond_the_limit_are_graded_again() -> None:
    early, late, short, wrong = (1, ANSWER, 2, 3, 4), (1, 2, 3, 4, ANSWER), (ANSWER,), (1, 2, 3, 4, 5)
    verdicts, asked = judged([group([early, late, short, wrong], limit=3, key=5)])
    assert verdicts == [(True, False, True, False)]
    assert asked == [(5, (1, ANSWER, 2)), (5, (1, 2, 3))]


def test_groups_that_were_not_exempt_or_have_no_outcome_are_left_out() -> None:
    cut = group([(ANSWER, 1, 2, 3)], limit=2, exempt=False)
    unlimited = group([(ANSWER, 1, 2, 3)], limit=None)
    gated = group([(ANSWER,)], limit=2)
    gated.outcome = None
    uncut = group([(ANSWER,)], limit=2)
    uncut.cut = None
    verdicts, asked = judged([cut, unlimited, gated, uncut, group([(ANSWER, 1, 2, 3)], limit=2)])
    assert verdicts == [None, None, None, None, (True,)]
    assert len(asked) == 1
