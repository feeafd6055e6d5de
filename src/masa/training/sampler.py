"""Rollouts of a step's problems: prompts and requests in, rollouts and predictions into the groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from masa.awareness import draw_hint, parse_prediction
from masa.records import Request, Rollout
from masa.rollout.engine import Engine
from masa.rollout.prompting import Prompt, PromptBuilder
from masa.training.advisers import Advisers
from masa.training.config import MASAConfig
from masa.training.groups import ProblemGroup
from masa.training.prompt_limits import PromptLimits

Decode = Callable[[Sequence[Rollout]], list[str]]
"""Rollouts to texts, special tokens skipped."""


class Sampler:
    """Samples solution and meta rollouts of groups with the policy as it is when asked.

    Args:
        advisers: their predictor says what it wants to know of a problem (predictions, hidden states) and what the
            meta prompt should tell.
        limits: of prompts; a hint or context that makes one too long is not given.
    """

    def __init__(
        self,
        config: MASAConfig,
        *,
        engine: Engine,
        prompts: PromptBuilder,
        advisers: Advisers,
        decode: Decode,
        limits: PromptLimits,
    ) -> None:
        self.engine = engine
        self.prompts = prompts
        self.advisers = advisers
        self.decode = decode
        self._config = config
        self._meta_size = config.num_meta_generations or 0
        self._limits = limits
        self._requests = config.request_maker()
        self._logprobs = config.corrects_sampling

    def prompt(self, groups: Sequence[ProblemGroup], step: int, *, hinted: bool = False) -> None:
        """Prompts of the solution rollouts; hinted, each names the notions of one valid prediction of its own draw."""
        hints: list[tuple[ProblemGroup, int, tuple[str, ...], Prompt]] = []
        for group in groups:
            if group.is_gated:
                continue
            solution, size = group.solution, group.size
            solution.prompts = [self.prompts.solution_prompt(group.row)] * size
            solution.prompt_ids = [self.prompts.solution_ids(group.problem, group.row)] * size
            solution.hints = [()] * size
            for i in range(size if hinted else 0):
                names = {"run_seed": self._config.seed, "step": step, "key": group.problem.key, "sample": i}
                if notions := draw_hint(group.meta.predictions, **names):
                    hints.append((group, i, notions, self.prompts.solution_prompt(group.row, notions)))
        for (group, i, notions, prompt), ids in zip(hints, self.prompts.tokenize([h[-1] for h in hints]), strict=True):
            solution = group.solution
            if ids != solution.prompt_ids[i] and len(ids) <= self._limits.longest:
                solution.hints[i], solution.prompts[i], solution.prompt_ids[i] = notions, prompt, ids

    def foretell(self, groups: Sequence[ProblemGroup], step: int) -> None:
        """Sample meta rollouts alone, of the problems that the predictor wants foretold, and read hidden states."""
        wanted = [
            group
            for group in groups
            if self._config.meta_problems == "all" or self.advisers.predictor.wants_predictions(group.problem)
        ]
        self._take_predictions(wanted, self._generate(self._meta_requests(wanted, step)))
        self.read_hidden(groups)

    def read_hidden(self, groups: Sequence[ProblemGroup]) -> None:
        """The policy's hidden states at the ends of the solution prompts, where the predictor rests on them."""
        if self.advisers.predictor.uses_hidden:
            states = self.engine.prompt_states([self.prompts.solution_ids(g.problem, g.row) for g in groups])
            for group, state in zip(groups, states, strict=True):
                group.hidden = state

    def roll_out(self, groups: Sequence[ProblemGroup], step: int, *, with_predictions: bool = False) -> None:
        """Sample solution rollouts of all groups that have prompts, and meta rollouts beside them if asked."""
        solutions = [request for group in groups for request in self._solution_requests(group, step)]
        metas = self._meta_requests(groups, step) if with_predictions else []
        rollouts = self._generate([*solutions, *metas])
        texts = self.decode(rollouts[: len(solutions)])
        start = 0
        for group in groups:
            end = start + len(group.solution.prompt_ids)
            group.solution.rollouts, group.solution.texts = rollouts[start:end], texts[start:end]
            start = end
        if with_predictions:
            self._take_predictions(groups, rollouts[len(solutions) :])
            self.read_hidden(groups)

    def _generate(self, requests: list[Request]) -> list[Rollout]:
        return self.engine.generate(requests, logprobs=self._logprobs)

    def _solution_requests(self, group: ProblemGroup, step: int) -> list[Request]:
        return self._requests.solutions(
            group.solution.prompt_ids,
            step,
            group.problem.key,
            limit=None if group.cut is None else group.cut.limit,
            expected=None if group.estimate is None else group.estimate.length,
            group=group.problem.key,
        )

    def _meta_requests(self, groups: Sequence[ProblemGroup], step: int) -> list[Request]:
        requests: list[Request] = []
        for group in groups if self._meta_size else ():  # a plain run's limits need not leave room for a meta prompt
            group.meta.prompt_ids = self._meta_ids(group)
            key = group.problem.key
            requests += self._requests.metas(group.meta.prompt_ids, self._meta_size, step, key, group=key)
        return requests

    def _meta_ids(self, group: ProblemGroup) -> tuple[int, ...]:
        if context := self.advisers.predictor.context(group.problem):
            (ids,) = self.prompts.tokenize([self.prompts.meta_prompt(group.problem, group.row, context)])
            if len(ids) <= self._limits.longest_meta:
                return ids
        return self.prompts.meta_ids(group.problem, group.row)

    def _take_predictions(self, groups: Sequence[ProblemGroup], rollouts: Sequence[Rollout]) -> None:
        M = self._meta_size
        texts = self.decode(rollouts)
        for n, group in enumerate(groups):
            part = slice(n * M, (n + 1) * M)
            group.meta.rollouts, group.meta.texts = list(rollouts[part]), texts[part]
            group.meta.predictions = [
                parse_prediction(
                    text, max_length=self._requests.max_tokens, min_length=self._config.min_solution_length
                )
                for text in group.meta.texts
            ]
