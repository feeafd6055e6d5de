"""Which problems fit the model: found out before training, not at the step that draws one that does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.errors import UserError
from masa.rollout.prompting import PromptBuilder
from masa.training.config import MASAConfig


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """What prompts and rollouts may take, all in tokens."""

    max_prompt_length: int | None
    """Problems with a longer prompt, solution or meta, are left out."""
    positions: int | None
    """The model's, for prompt and rollout together; None without a bound."""
    solution_tokens: int
    """Limit of a solution rollout."""
    meta_tokens: int | None
    """Limit of a meta rollout; None without a meta path."""

    @staticmethod
    def of(args: MASAConfig, positions: int | None) -> PromptLimits:
        """The run's limits on a model with so many positions."""
        solution_tokens = args.max_completion_length or 0
        meta_tokens = (args.max_meta_length or solution_tokens) if args.num_meta_generations else None
        return PromptLimits(args.max_prompt_length, positions, solution_tokens, meta_tokens)

    @property
    def longest(self) -> float:
        """The longest solution prompt."""
        return self._longest(self.solution_tokens)

    @property
    def longest_meta(self) -> float:
        """The longest meta prompt."""
        return self._longest(self.meta_tokens or 0)

    def _longest(self, tokens: int) -> float:
        room = math.inf if self.positions is None else self.positions - tokens
        return room if self.max_prompt_length is None else min(room, self.max_prompt_length)

    def usable_keys(
        self, rows: Sequence[Mapping[str, Any]], prompts: PromptBuilder, *, where: str = "the training set"
    ) -> list[int]:
        """Indices of the rows whose prompts fit; `where` they stand is for errors.

        Raises:
            UserError: if no row is left, or one that is left exceeds the model's positions.
        """
        kept = []
        for key in range(len(rows)):
            problem = prompts.problem(key, rows[key])
            sizes = [(len(prompts.solution_ids(problem, rows[key])), self.solution_tokens)]
            if self.meta_tokens is not None:
                sizes.append((len(prompts.meta_ids(problem, rows[key])), self.meta_tokens))
            if self.max_prompt_length is not None and max(size for size, _ in sizes) > self.max_prompt_length:
                continue
            for size, tokens in sizes:
                if self.positions is not None and size + tokens > self.positions:
                    raise UserError(
                        f"row {key} of {where}: a prompt of {size} tokens and a limit of {tokens} exceed the "
                        f"model's {self.positions} positions: set max_prompt_length to leave such rows out, or lower "
                        "max_completion_length"
                    )
            kept.append(key)
        if not kept:
            raise UserError(f"no prompt of {where} fits max_prompt_length {self.max_prompt_length}: raise it")
        return kept
