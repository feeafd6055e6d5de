"""The loop body: what one step of experience is and how it is made.

Read `ExperienceMaker.make` downwards: predict, gate, budget, hint, roll out, grade, reward, group, collect.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from masa.awareness import (
    Cutoff,
    Estimate,
    Gate,
    MetaScorer,
    Observation,
    Predictor,
    draw_hint,
    parse_prediction,
)
from masa.records import FinishReason, Request, Rollout
from masa.rollout.engine import Engine
from masa.rollout.prompting import Prompt, PromptBuilder
from masa.training.config import MASAConfig
from masa.training.groups import ProblemGroup, ScoredRollouts, scored_advantages
from masa.training.microbatches import Row
from masa.training.problem_stream import ProblemStream

Score = Callable[[Sequence[ProblemGroup]], ScoredRollouts]
"""Scores all solution rollouts of all groups, in order, with the user's reward functions."""
Decode = Callable[[Sequence[Rollout]], list[str]]
"""Rollouts to texts, special tokens skipped."""


@dataclass(frozen=True, slots=True)
class Experience:
    """One step's worth: rows to learn from, and the groups they came from."""

    step: int
    is_predictive: bool
    groups: list[ProblemGroup]
    rows: list[Row]
    seconds: Mapping[str, float] = field(default_factory=dict)


class ExperienceMaker:
    """Makes experience with the policy as it is when asked; learns nothing but what its parts observe.

    Args:
        engine: samples from the current policy.
        problems: dataset rows by problem key.
        gate: None rolls out every problem.
        cutoff: None leaves every rollout the run's own limit.
        prompt_limit: longest prompt in tokens; a hint that makes it longer is not given.
    """

    def __init__(
        self,
        config: MASAConfig,
        *,
        engine: Engine,
        stream: ProblemStream,
        prompts: PromptBuilder,
        problems: Any,
        predictor: Predictor,
        gate: Gate | None,
        cutoff: Cutoff | None,
        score: Score,
        decode: Decode,
        prompt_limit: int | None = None,
    ) -> None:
        self.config = config
        self.engine = engine
        self.stream = stream
        self.prompts = prompts
        self.problems = problems
        self.predictor = predictor
        self.gate = gate
        self.cutoff = cutoff
        self._score = score
        self._decode = decode
        self._prompt_limit = math.inf if prompt_limit is None else prompt_limit
        self._requests = config.request_maker()
        self._reward_options = config.reward_options()

    def make(self, step: int) -> Experience:
        """Experience of `step`, counted from 1."""
        clock = _Clock()
        groups = [self.group(key) for key in self.stream.draw(self.config.problems_a_step)]
        is_predictive = self.config.is_predictive(step)
        if is_predictive:
            self.predict(groups, step)
            self._gate(groups, step, active=True)
            self._budget(groups, step, active=True)
            clock.lap("predict")
            self._prompt(groups, step, hinted=self.config.hints is True)
            self.roll_out(groups, step)
        else:
            self._prompt(groups, step)
            self.roll_out(groups, step, with_predictions=True)
            self._gate(groups, step, active=False)
            self._budget(groups, step, active=False)
        clock.lap("rollout")
        self.grade(groups)
        clock.lap("grade")
        self.reward_predictions(groups)
        rows = self._rows(groups)
        self._observe(groups, step)
        clock.lap("reward")
        return Experience(step, is_predictive, groups, rows, clock.seconds)

    def group(self, key: int) -> ProblemGroup:
        """An empty group of the problem `key`."""
        row = self.problems[key]
        return ProblemGroup(problem=self.prompts.problem(key, row), row=row)

    def sample(self, groups: Sequence[ProblemGroup], step: int) -> None:
        """Solution and meta rollouts of `groups` side by side, graded; nothing observes them."""
        self._prompt(groups, step)
        self.roll_out(groups, step, with_predictions=True)
        self.grade(groups)

    # Predict, gate, budget, hint

    def predict(self, groups: Sequence[ProblemGroup], step: int) -> None:
        """Sample meta rollouts alone and turn them into estimates."""
        self._take_predictions(groups, self.engine.generate(self._meta_requests(groups, step)))

    def _gate(self, groups: Sequence[ProblemGroup], step: int, *, active: bool) -> None:
        """Decide who is rolled out; inactive, only note what the rule would have done."""
        if self.gate is not None:
            decisions = self.gate.decide(step, *_keys_and_estimates(groups), active=active)
            for group, decision in zip(groups, decisions, strict=True):
                group.decision = decision

    def _budget(self, groups: Sequence[ProblemGroup], step: int, *, active: bool) -> None:
        """Decide each problem's token limit; inactive, only note what it would have been."""
        if self.cutoff is not None:
            decisions = self.cutoff.decide(step, *_keys_and_estimates(groups), active=active)
            for group, decision in zip(groups, decisions, strict=True):
                group.cut = decision

    def _prompt(self, groups: Sequence[ProblemGroup], step: int, *, hinted: bool = False) -> None:
        """Prompts of the solution rollouts; hinted, each names the notions of one valid prediction of its own draw."""
        hints: list[tuple[ProblemGroup, int, tuple[str, ...], Prompt]] = []
        for group in groups:
            if group.is_gated:
                continue
            solution, size = group.solution, self.config.num_generations or 0
            solution.prompts = [self.prompts.solution_prompt(group.row)] * size
            solution.prompt_ids = [self.prompts.solution_ids(group.problem, group.row)] * size
            solution.hints = [()] * size
            for i in range(size if hinted else 0):
                names = {"run_seed": self.config.seed, "step": step, "key": group.problem.key, "sample": i}
                if notions := draw_hint(group.meta.predictions, **names):
                    hints.append((group, i, notions, self.prompts.solution_prompt(group.row, notions)))
        for (group, i, notions, prompt), ids in zip(hints, self.prompts.tokenize([h[-1] for h in hints]), strict=True):
            solution = group.solution
            if ids != solution.prompt_ids[i] and len(ids) <= self._prompt_limit:
                solution.hints[i], solution.prompts[i], solution.prompt_ids[i] = notions, prompt, ids

    # Roll out, grade

    def roll_out(self, groups: Sequence[ProblemGroup], step: int, *, with_predictions: bool = False) -> None:
        """Sample solution rollouts of all groups that have prompts, and meta rollouts beside them if asked."""
        solutions = [request for group in groups for request in self._solution_requests(group, step)]
        metas = self._meta_requests(groups, step) if with_predictions else []
        rollouts = self.engine.generate([*solutions, *metas])
        texts = self._decode(rollouts[: len(solutions)])
        start = 0
        for group in groups:
            end = start + len(group.solution.prompt_ids)
            group.solution.rollouts, group.solution.texts = rollouts[start:end], texts[start:end]
            start = end
        if with_predictions:
            self._take_predictions(groups, rollouts[len(solutions) :])

    def grade(self, groups: Sequence[ProblemGroup]) -> None:
        """Rewards and outcomes from the user's reward functions."""
        rolled_out = [group for group in groups if group.solution.rollouts]
        if not rolled_out:
            return
        scored = self._score(rolled_out)
        start = 0
        for group in rolled_out:
            end = start + len(group.solution.rollouts)
            group.solution.rewards = scored.rewards[start:end]
            group.solution.correct = scored.correct[start:end]
            group.settle()
            start = end

    # Reward predictions, group, collect

    def reward_predictions(self, groups: Sequence[ProblemGroup]) -> None:
        """Self-alignment rewards of predictions whose problem has an outcome."""
        for group in groups:
            if group.outcome is not None and group.meta.predictions:
                options = self._reward_options
                if options.notion == "rates":  # words of the template occur everywhere and mark nothing
                    options = replace(options, template_text=self.prompts.template_text(group.problem, group.row))
                scorer = MetaScorer(group.outcome, group.problem.text, options)
                group.meta.rewards = [scorer.score(prediction) for prediction in group.meta.predictions]

    def _rows(self, groups: Sequence[ProblemGroup]) -> list[Row]:
        """Normalise solution and meta groups apart and lay out the rows of the step."""
        config = self.config
        # A proper score stays proper only while the group is not divided by its deviation.
        meta_scale = "none" if config.difficulty_reward == "brier" else config.scale_rewards
        rows: list[Row] = []
        for group in groups:
            solution, meta = group.solution, group.meta
            solution.advantages, solution.is_live = scored_advantages(solution.rewards, config.scale_rewards)
            for prompt_ids, rollout, advantage in zip(
                solution.prompt_ids, solution.rollouts, solution.advantages, strict=True
            ):
                is_masked = config.mask_truncated_completions and rollout.finish_reason is not FinishReason.STOP
                rows.append(Row(prompt_ids, rollout.token_ids, advantage, "solution", solution.is_live, is_masked))
            if not meta.rewards:
                continue  # no outcome, no truth: these predictions stay out of the loss
            meta.advantages, is_live = scored_advantages([reward.total for reward in meta.rewards], meta_scale)
            prompt_ids = self.prompts.meta_ids(group.problem, group.row)
            for rollout, advantage in zip(meta.rollouts, meta.advantages, strict=True):
                rows.append(Row(prompt_ids, rollout.token_ids, advantage, "meta", is_live))
        return rows

    def _observe(self, groups: Sequence[ProblemGroup], step: int) -> None:
        """Let predictor, gate and cutoff see what came of their advice."""
        self.predictor.observe(
            step,
            [
                Observation(group.evidence, group.outcome, not group.solution.is_live, group.probability)
                for group in groups
                if group.outcome is not None
            ],
        )
        if self.gate is not None:
            self.gate.observe(
                [group.decision for group in groups if group.decision is not None],
                [None if group.is_gated else not group.solution.is_live for group in groups],
                [None if group.is_gated else group.solution.tokens for group in groups],
            )
        if self.cutoff is not None:
            self.cutoff.observe(
                [group.cut for group in groups if group.cut is not None], [group.outcome for group in groups]
            )

    # Requests

    def _solution_requests(self, group: ProblemGroup, step: int) -> list[Request]:
        return self._requests.solutions(
            group.solution.prompt_ids,
            step,
            group.problem.key,
            limit=None if group.cut is None else group.cut.limit,
            expected=None if group.estimate is None else group.estimate.length,
        )

    def _meta_requests(self, groups: Sequence[ProblemGroup], step: int) -> list[Request]:
        M = self.config.num_meta_generations or 0
        return [
            request
            for group in groups
            if M  # a plain run's limits need not leave room for a meta prompt's lengths
            for request in self._requests.metas(
                self.prompts.meta_ids(group.problem, group.row), M, step, group.problem.key
            )
        ]

    def _take_predictions(self, groups: Sequence[ProblemGroup], rollouts: Sequence[Rollout]) -> None:
        M = self.config.num_meta_generations or 0
        texts = self._decode(rollouts)
        for n, group in enumerate(groups):
            part = slice(n * M, (n + 1) * M)
            group.meta.rollouts, group.meta.texts = list(rollouts[part]), texts[part]
            group.meta.predictions = [
                parse_prediction(
                    text,
                    max_length=self._requests.max_tokens,
                    min_length=self.config.min_solution_length,
                )
                for text in group.meta.texts
            ]
            group.estimate = self.predictor.estimate(group.evidence)


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _keys_and_estimates(groups: Sequence[ProblemGroup]) -> tuple[list[int], list[Estimate]]:
    return [group.problem.key for group in groups], [group.estimate or Estimate() for group in groups]
