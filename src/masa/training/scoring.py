"""The user's reward functions on solution rollouts, and what counts as correct."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trl.data_utils import is_conversational

from masa.errors import UserError, unknown_key_message
from masa.processes import Team
from masa.records import Rollout
from masa.training.config import MASAConfig
from masa.training.groups import ProblemGroup, ScoredRollouts

PerFunction = Callable[[list[dict[str, Any]], list[Any], list[Any], list[list[int]]], Tensor]
"""TRL's own way of calling reward functions: rows, prompts, completions, token ids to [rollouts, functions]."""


_Answer = tuple[Mapping[str, Any], Any, Rollout, str]
"""Dataset row, prompt, rollout and text."""


class RewardScorer:
    """Scores solution rollouts as TRL would, and reads correctness off one of the reward functions.

    Args:
        per_function: TRL's `_calculate_rewards`; NaN where a function returned None or NaN.
        names: of the reward functions.
        weights: theirs, in the same order.
        team: the processes that answers are dealt out to; each calls the functions on its part, whole groups together.
        needed: whether the method needs to know what is correct.

    Raises:
        UserError: if correctness is needed and no reward function is named for it among several.
    """

    def __init__(
        self,
        config: MASAConfig,
        per_function: PerFunction,
        names: Sequence[str],
        weights: Tensor,
        *,
        needed: bool,
        team: Team,
    ) -> None:
        self._config = config
        self._per_function = per_function
        self._names = list(names)
        self._weights = weights
        self._team = team
        self._correctness = self._find_correctness(needed)

    def __call__(self, groups: Sequence[ProblemGroup]) -> ScoredRollouts:
        """Rewards of all solution rollouts of `groups`, in order.

        Raises:
            UserError: if a function fails or returns the wrong number of rewards, or graded rewards meet a gate that
                foretells 0/1 rewards.
        """
        values = self._values(
            [
                [
                    (group.row, *answer)
                    for answer in zip(
                        group.solution.prompts, group.solution.rollouts, group.solution.texts, strict=True
                    )
                ]
                for group in groups
            ]
        )
        rewards = (values * self._weights.to(values.device)).nansum(dim=1)
        rewards[torch.isnan(values).all(dim=1)] = torch.nan
        self._refuse_gate_on_graded_rewards(rewards)
        by_function = {name: values[:, i].tolist() for i, name in enumerate(self._names)}
        return ScoredRollouts(rewards.tolist(), by_function, self._correct(values))

    def correct(
        self, rows: Sequence[Mapping[str, Any]], rollouts: Sequence[Rollout], texts: Sequence[str]
    ) -> list[bool | None]:
        """Which rollouts are correct, one dataset row and text each; None where it is unknown."""
        return self._correct(
            self._values([[(row, row["prompt"], *answer)] for row, *answer in zip(rows, rollouts, texts, strict=True)])
        )

    def _values(self, groups: Sequence[Sequence[_Answer]]) -> Tensor:
        """Rewards by function, [rollouts, functions], of answers that go together."""
        costs = [float(sum(rollout.length for _, _, rollout, _ in group)) for group in groups]
        values = self._team.share(groups, costs, self._group_values, what="rewards")
        return torch.tensor([row for part in values for row in part]).reshape(-1, len(self._names))

    def _group_values(self, groups: Sequence[Sequence[_Answer]]) -> list[list[list[float]]]:
        """The same of this process's part, [groups, rollouts, functions]."""
        if not groups:
            return []
        values = iter(self._local_values([answer for group in groups for answer in group]).tolist())
        return [[next(values) for _ in group] for group in groups]

    def _local_values(self, answers: Sequence[_Answer]) -> Tensor:
        """Rewards by function, [rollouts, functions], from TRL's own way of calling them."""
        rows, prompts, rollouts, texts = zip(*answers, strict=True)
        completions: list[Any] = list(texts)
        if is_conversational({"prompt": prompts[0]}):
            completions = [[{"role": "assistant", "content": text}] for text in texts]
        ids = [list(rollout.token_ids) for rollout in rollouts]
        try:
            values = self._per_function([dict(row) for row in rows], list(prompts), completions, ids)
            return torch.where(torch.isfinite(values), values, torch.nan)  # an infinite reward grades nothing either
        except UserError:
            raise
        except Exception as error:
            if str(error).startswith("The reward function"):  # TRL's own words for a wrong count
                raise UserError(str(error)) from error
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"a reward function ({', '.join(self._names)}) raised {type(error).__name__}: {error} "
                f"({frame.filename}, line {frame.lineno}); return None for what it cannot score"
            ) from error

    def _correct(self, values: Tensor) -> list[bool | None]:
        if self._correctness is None:
            return [None] * len(values)
        column = values[:, self._correctness].tolist()
        return [None if value != value else value >= self._config.correct_threshold for value in column]

    def _find_correctness(self, needed: bool) -> int | None:
        named = self._config.correctness
        if named is not None:
            if named not in self._names:
                raise UserError(unknown_key_message("reward function", named, self._names, where="correctness"))
            return self._names.index(named)
        if len(self._names) == 1:
            return 0
        if needed:
            raise UserError(
                f"there are {len(self._names)} reward functions ({', '.join(self._names)}): name in `correctness` the "
                "one that says what is correct"
            )
        return None

    def _refuse_gate_on_graded_rewards(self, rewards: Tensor) -> None:
        if self._config.gate == "none" or self._config.correctness is not None:
            return
        finite = rewards[~torch.isnan(rewards)]
        graded = finite[(finite != 0) & (finite != 1)]
        if len(graded):
            raise UserError(
                f"the gate foretells 0/1 rewards, but a reward of {graded[0].item():g} was seen: name the reward "
                "function that says what is correct (correctness), or turn the gate off (gate: none)"
            )
