"""Solution groups and meta groups of problems outside training: the one sampler of every evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.records import Problem, Request, Rollout
from masa.rollout.engine import Decode, Engine
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker
from masa.seeding import Purpose


@dataclass(frozen=True, slots=True)
class SampledGroup:
    """Rollouts of one prompt, and their texts."""

    rollouts: tuple[Rollout, ...]
    texts: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Generated tokens."""
        return sum(rollout.length for rollout in self.rollouts)


@dataclass(frozen=True, slots=True)
class GroupSampler:
    """Samples groups, with seeds that name problem and sample alone: not the step, not what else is in the batch.

    Two policies thus differ by what they are and not by their draws, and an evaluation by command line gives what the
    training's own held-out evaluation gave.
    """

    prompts: PromptBuilder
    requests: RequestMaker
    decode: Decode

    def solve(
        self, engine: Engine, problems: Sequence[Problem], rows: Sequence[Mapping[str, Any]], n: int
    ) -> list[SampledGroup]:
        """`n` solutions of each problem, without hints or cutoffs; `rows` hold the prompts, one a problem."""
        requests = [
            request
            for problem, row in zip(problems, rows, strict=True)
            for request in self.requests.solutions(
                [self.prompts.solution_ids(problem, row)] * n, 0, problem.key, purpose=Purpose.EVALUATION
            )
        ]
        return self._groups(engine, requests, n)

    def foretell(
        self, engine: Engine, problems: Sequence[Problem], rows: Sequence[Mapping[str, Any]], m: int
    ) -> list[SampledGroup]:
        """`m` meta rollouts of each problem."""
        requests = [
            request
            for problem, row in zip(problems, rows, strict=True)
            for request in self.requests.metas(
                self.prompts.meta_ids(problem, row), m, 0, problem.key, purpose=Purpose.EVALUATION_META
            )
        ]
        return self._groups(engine, requests, m)

    def _groups(self, engine: Engine, requests: Sequence[Request], size: int) -> list[SampledGroup]:
        rollouts = engine.generate(requests)
        texts = self.decode(rollouts)
        return [
            SampledGroup(tuple(rollouts[i : i + size]), tuple(texts[i : i + size]))
            for i in range(0, len(rollouts), size)
        ]
