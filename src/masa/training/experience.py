"""The loop body: what one step of experience is and how it is made.

Read `ExperienceMaker.make` downwards: draw, predict, gate, budget, hint, roll out, grade, reward, group, collect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from masa.awareness import Estimate, MetaScorer, Observation, group_scale, row_weight
from masa.records import FinishReason
from masa.training.config import MASAConfig
from masa.training.groups import ProblemGroup, ScoredRollouts, scored_advantages
from masa.training.microbatches import Row
from masa.training.problem_stream import ProblemStream
from masa.training.refill import Refill
from masa.training.sampler import Sampler
from masa.training.truncation import Correct, correct_at_limit

Score = Callable[[Sequence[ProblemGroup]], ScoredRollouts]
"""Scores all solution rollouts of all groups, in order, with the user's reward functions."""


@dataclass(frozen=True, slots=True)
class Experience:
    """One step's worth: rows to learn from, and the groups they came from."""

    step: int
    is_predictive: bool
    groups: list[ProblemGroup]
    rows: list[Row]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def reward_functions(self) -> dict[str, list[float]]:
        """What each reward function said of the step's solution rollouts, in order."""
        rolled_out = [group.solution.by_function for group in self.groups if group.solution.rollouts]
        return {name: [v for values in rolled_out for v in values[name]] for name in (rolled_out or [{}])[0]}

    @property
    def logged(self) -> dict[str, list[Any]]:
        """What reward functions logged of these rollouts, by column; None where they did not."""
        solutions = [group.solution for group in self.groups if group.solution.rollouts]
        names = dict.fromkeys(name for solution in solutions for name in solution.logged)
        return {
            name: [value for one in solutions for value in one.logged.get(name, [None] * len(one.rollouts))]
            for name in names
        }


class ExperienceMaker:
    """Makes experience with the policy as it is when asked; learns nothing but what its advisers observe.

    Args:
        problems: dataset rows by problem key.
        score: rewards of solution rollouts.
        correct: verdicts on answers cut short, for the cutoff's audit.
    """

    def __init__(
        self,
        config: MASAConfig,
        *,
        sampler: Sampler,
        stream: ProblemStream,
        problems: Any,
        score: Score,
        correct: Correct,
    ) -> None:
        self.config = config
        self.sampler = sampler
        self.stream = stream
        self.problems = problems
        self.advisers = sampler.advisers
        self.prompts = sampler.prompts
        self._score = score
        self._correct = correct
        self._refill = Refill(config, len(stream))
        self._reward_options = config.reward_options()

    def make(self, step: int) -> Experience:
        """Experience of `step`, counted from 1."""
        clock = _Clock()
        is_predictive = self.advisers.phases.is_predictive(step)
        groups: list[ProblemGroup] = []
        while drawn := self._draw(groups, step, foretold=is_predictive):
            clock.lap("predict")
            if is_predictive:
                self._budget(drawn, step, active=True)
            self.sampler.prompt(drawn, step, hinted=is_predictive and self.config.hints is True)
            self.sampler.roll_out(drawn, step, with_predictions=not is_predictive)
            if not is_predictive:
                self._estimate(drawn)
                self._gate(drawn, step, active=False)
                self._budget(drawn, step, active=False)
            clock.lap("rollout")
            self.grade(drawn)
            clock.lap("grade")
            groups += drawn
        self.reward_predictions(groups)
        rows = self._rows(groups)
        self._observe(groups, step)
        clock.lap("reward")
        return Experience(step, is_predictive, groups, rows, clock.seconds)

    def group(self, key: int) -> ProblemGroup:
        """An empty group of the problem `key`."""
        row = self.problems[key]
        return ProblemGroup(self.prompts.problem(key, row), row, size=self.config.num_generations or 0)

    def sample(self, groups: Sequence[ProblemGroup], step: int) -> None:
        """Solution and meta rollouts of `groups` side by side, graded; nothing observes them."""
        self.sampler.prompt(groups, step)
        self.sampler.roll_out(groups, step, with_predictions=True)
        self.grade(groups)

    # Draw, predict, gate, budget

    def _draw(self, groups: Sequence[ProblemGroup], step: int, *, foretold: bool) -> list[ProblemGroup]:
        """Problems for another round of rollouts beside those of `groups`, gated if foretold; none if it is enough."""
        drawn: list[ProblemGroup] = []
        while (count := self._refill.missing(groups, drawn, foretold=foretold)) > 0:
            keys = self.stream.draw(count, without={group.problem.key for group in [*groups, *drawn]})
            fresh = [self.group(key) for key in keys]
            if foretold:
                self.sampler.foretell(fresh, step)
                self._estimate(fresh)
                self._gate(fresh, step, active=True, earlier=[*groups, *drawn])
            drawn += fresh
        return drawn

    def _estimate(self, groups: Sequence[ProblemGroup]) -> None:
        for group in groups:
            group.estimate = self.advisers.predictor.estimate(group.evidence)

    def _gate(
        self, groups: Sequence[ProblemGroup], step: int, *, active: bool, earlier: Sequence[ProblemGroup] = ()
    ) -> None:
        """Decide who is rolled out, and how often; inactive, only note what the rule would have done."""
        gate, allocation = self.advisers.gate, self.advisers.allocation
        if gate is None:
            return
        keys, estimates = _keys_and_estimates(groups)
        before = [group.decision for group in earlier if group.decision is not None]
        passed = sizes = None
        if active and allocation is not None:
            passed = gate.let_through(step, keys, estimates, earlier=before)
            skips = [gate.rule.skips(estimate) and i not in passed for i, estimate in enumerate(estimates)]
            budget = self.config.problems_a_step if self.config.refill == "best" else None
            sizes = allocation.sizes(estimates, skips, groups=budget)
        outside = None if sizes is None else [size == 0 for size in sizes]
        decisions = gate.decide(step, keys, estimates, active=active, skips=outside, let_through=passed, earlier=before)
        for i, (group, decision) in enumerate(zip(groups, decisions, strict=True)):
            group.decision = decision
            if sizes is not None and not decision.candidate:
                group.size = sizes[i]

    def _budget(self, groups: Sequence[ProblemGroup], step: int, *, active: bool) -> None:
        """Decide each problem's token limit; inactive, only note what it would have been."""
        if self.advisers.cutoff is not None:
            decisions = self.advisers.cutoff.decide(step, *_keys_and_estimates(groups), active=active)
            for group, decision in zip(groups, decisions, strict=True):
                group.cut = decision

    # Grade, reward predictions, group, collect

    def grade(self, groups: Sequence[ProblemGroup]) -> None:
        """Rewards, advantages and outcomes from the user's reward functions."""
        rolled_out = [group for group in groups if group.solution.rollouts]
        if not rolled_out:
            return
        scored = self._score(rolled_out)
        start = 0
        for group in rolled_out:
            solution = group.solution
            end = start + len(solution.rollouts)
            solution.rewards, solution.correct = scored.rewards[start:end], scored.correct[start:end]
            solution.by_function = {name: values[start:end] for name, values in scored.by_function.items()}
            solution.logged = {name: values[start:end] for name, values in scored.logged.items()}
            advantages, solution.is_live = scored_advantages(solution.rewards, self.config.scale_rewards)
            scale = group_scale(group.size, self.config.num_generations or 0)
            solution.advantages = [scale * advantage for advantage in advantages]
            group.settle()
            start = end

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
        """Normalise meta groups apart and lay out the rows of the step."""
        config = self.config
        # A proper score stays proper only while the group is not divided by its deviation.
        meta_scale = "none" if config.difficulty_reward == "brier" else config.scale_rewards
        sizes = [len(group.solution.rollouts) for group in groups if group.solution.rollouts]
        rows: list[Row] = []
        for group in groups:
            solution, meta, key = group.solution, group.meta, group.problem.key
            weight = row_weight(len(solution.rollouts), sum(sizes) / len(sizes)) if solution.rollouts else 1.0
            for prompt_ids, rollout, advantage in zip(
                solution.prompt_ids, solution.rollouts, solution.advantages, strict=True
            ):
                is_masked = config.mask_truncated_completions and rollout.finish_reason is not FinishReason.STOP
                rows.append(
                    Row(
                        prompt_ids,
                        rollout.token_ids,
                        advantage,
                        "solution",
                        solution.is_live,
                        is_masked,
                        weight,
                        key,
                        rollout.logprobs,
                    )
                )
            if not meta.rewards:
                continue  # no outcome, no truth: these predictions stay out of the loss
            meta.advantages, is_live = scored_advantages([reward.total for reward in meta.rewards], meta_scale)
            weight = 1.0 if group.decision is None else group.decision.weight(config.meta_audit_weight)
            rows += [
                Row(
                    meta.prompt_ids, rollout.token_ids, advantage, "meta", is_live, False, weight, key, rollout.logprobs
                )
                for rollout, advantage in zip(meta.rollouts, meta.advantages, strict=True)
            ]
        return rows

    def _observe(self, groups: Sequence[ProblemGroup], step: int) -> None:
        """Let the advisers see what came of their advice."""
        advisers = self.advisers
        advisers.predictor.observe(
            step,
            [
                Observation(group.evidence, group.outcome, not group.solution.is_live, group.probability)
                for group in groups
                if group.outcome is not None
            ],
        )
        if advisers.gate is not None:
            events = advisers.gate.observe(
                [group.decision for group in groups if group.decision is not None],
                [None if group.is_gated else not group.solution.is_live for group in groups],
                [None if group.is_gated else group.solution.tokens for group in groups],
            )
            advisers.phases.observe(step, events)
        if advisers.cutoff is not None:
            advisers.cutoff.observe(
                [group.cut for group in groups if group.cut is not None],
                [group.outcome for group in groups],
                correct_at_limit(groups, self.sampler.decode, self._correct),
            )


class _Clock:
    """Seconds between laps, summed by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _keys_and_estimates(groups: Sequence[ProblemGroup]) -> tuple[list[int], list[Estimate]]:
    return [group.problem.key for group in groups], [group.estimate or Estimate() for group in groups]
