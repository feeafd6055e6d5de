"""What a cutoff would have destroyed: the answers of full rollouts, graded again as far as their limit lets them go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from masa.records import FinishReason, Rollout
from masa.training.groups import ProblemGroup

Decode = Callable[[Sequence[Rollout]], list[str]]
Correct = Callable[[Sequence[Mapping[str, Any]], Sequence[Rollout], Sequence[str]], list[bool | None]]
"""Which answers (dataset rows, rollouts, texts) are correct; None where it is unknown."""


def correct_at_limit(groups: Sequence[ProblemGroup], decode: Decode, correct: Correct) -> list[tuple[bool, ...] | None]:
    """For each group that ran without its predicted limit, whether each answer of its outcome would stand within it.

    An answer stated before the limit stands, however much the rollout went on to write. Only correct rollouts longer
    than the limit are graded again. None for groups that had no such limit or have no outcome.
    """
    verdicts: list[list[bool] | None] = []
    places: list[tuple[list[bool], int]] = []
    rows: list[Mapping[str, Any]] = []
    rollouts: list[Rollout] = []
    for group in groups:
        limit = None if group.cut is None or not group.cut.exempt else group.cut.predicted_limit
        if group.outcome is None or limit is None:
            verdicts.append(None)
            continue
        stands = list(group.outcome.correct)
        for place, rollout in enumerate(group.known_rollouts):
            if stands[place] and rollout.length > limit:
                places.append((stands, place))
                rows.append(group.row)
                rollouts.append(Rollout(rollout.token_ids[:limit], FinishReason.CUTOFF))
        verdicts.append(stands)
    if rollouts:
        for (stands, place), verdict in zip(places, correct(rows, rollouts, decode(rollouts)), strict=True):
            stands[place] = verdict is True
    return [None if stands is None else tuple(stands) for stands in verdicts]
