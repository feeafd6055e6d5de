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

PerFunction = Callable[
    [list[dict[str, Any]], list[Any], list[Any], list[list[int]]], tuple[Tensor, Mapping[str, Sequence[Any]]]
]
"""TRL's own way of calling reward functions: rows, prompts, completions and token ids to rewards,
[rollouts, functions], and what the functions logged of the rollouts (`log_extra`), by column."""


_Answer = tuple[Mapping[str, Any], Any, Rollout, str]
"""Dataset row, prompt, rollout and text."""
_Scored = tuple[list[float], dict[str, Any]]
"""Rewards by function, and what was logged by column."""


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
        values, logged = self._values(
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
        columns = dict.fromkeys(name for of_rollout in logged for name in of_rollout)
        by_column = {name: [of_rollout.get(name) for of_rollout in logged] for name in columns}
        return ScoredRollouts(rewards.tolist(), by_function, by_column, self._correct(values))

    def correct(
        self, rows: Sequence[Mapping[str, Any]], rollouts: Sequence[Rollout], texts: Sequence[str]
    ) -> list[bool | None]:
        """Which rollouts are correct, one dataset row and text each; None where it is unknown."""
        values, _ = self._values(
            [[(row, row["prompt"], *answer)] for row, *answer in zip(rows, rollouts, texts, strict=True)]
        )
        return self._correct(values)

    def _values(self, groups: Sequence[Sequence[_Answer]]) -> tuple[Tensor, list[dict[str, Any]]]:
        """Rewards by function, [rollouts, functions], of answers that go together, and what was logged of each."""
        costs = [float(sum(rollout.length for _, _, rollout, _ in group)) for group in groups]
        scored = [one for group in self._team.share(groups, costs, self._own_part, what="rewards") for one in group]
        values = torch.tensor([rewards for rewards, _ in scored]).reshape(-1, len(self._names))
        return values, [logged for _, logged in scored]

    def _own_part(self, groups: Sequence[Sequence[_Answer]]) -> list[list[_Scored]]:
        """The same of this process's part, by group and rollout."""
        if not groups:
            return []
        scored = iter(self._score([answer for group in groups for answer in group]))
        return [[next(scored) for _ in group] for group in groups]

    def _score(self, answers: Sequence[_Answer]) -> list[_Scored]:
        """One entry an answer, from TRL's own way of calling reward functions.

        A column that has not one value an answer fits no table and is left out.
        """
        rows, prompts, rollouts, texts = zip(*answers, strict=True)
        completions: list[Any] = list(texts)
        if is_conversational({"prompt": prompts[0]}):
            completions = [[{"role": "assistant", "content": text}] for text in texts]
        ids = [list(rollout.token_ids) for rollout in rollouts]
        try:
            values, logged = self._per_function([dict(row) for row in rows], list(prompts), completions, ids)
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
        values = torch.where(torch.isfinite(values), values, torch.nan)  # an infinite reward grades nothing either
        # They go from process to process, so only where somebody is to see them.
        wanted = logged if self._config.log_completions else {}
        columns = {name: column for name, column in wanted.items() if len(column) == len(answers)}
        return [
            (rewards, {name: column[place] for name, column in columns.items()})
            for place, rewards in enumerate(values.tolist())
        ]

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
