"""From prompts to requests: one place that decides limits, sampling and the names of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masa.records import Request
from masa.seeding import Purpose, derive_seed


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """Builds the requests of solution and meta rollouts.

    A request's seed is derived from the run's seed, its purpose, the names given (step and problem key) and its
    place in the group.
    """

    seed: int
    max_tokens: int
    """Limit of a solution rollout where no shorter one was foretold."""
    max_meta_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def solutions(
        self,
        prompt_ids: Sequence[tuple[int, ...]],
        *names: int,
        limit: int | None = None,
        expected: float | None = None,
        group: int | None = None,
        purpose: Purpose = Purpose.SOLUTION,
        first: int = 0,
    ) -> list[Request]:
        """One request a prompt; a `limit` below `max_tokens` is a cutoff.

        Args:
            prompt_ids: one a solution.
            names: of the seed.
            limit: in tokens, end-of-sequence included.
            expected: foretold length in tokens, for scheduling only.
            group: `Request.group`.
            purpose: of the seed.
            first: place of the first of them in the group, where a group is drawn in several rounds.
        """
        tokens = self.max_tokens if limit is None else min(limit, self.max_tokens)
        return [
            Request(
                prompt_ids=ids,
                max_tokens=tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                seed=derive_seed(self.seed, purpose, *names, i),
                is_cutoff=tokens < self.max_tokens,
                expected_tokens=expected,
                group=group,
            )
            for i, ids in enumerate(prompt_ids, first)
        ]

    def metas(
        self,
        prompt_ids: tuple[int, ...],
        count: int,
        *names: int,
        group: int | None = None,
        purpose: Purpose = Purpose.META,
        first: int = 0,
    ) -> list[Request]:
        """`count` requests for predictions about one problem; `group` and `first` as for solutions."""
        return [
            Request(
                prompt_ids=prompt_ids,
                max_tokens=self.max_meta_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                seed=derive_seed(self.seed, purpose, *names, i),
                group=group,
            )
            for i in range(first, first + count)
        ]
