"""Held-out problems: does the policy solve them, and does it know which ones it solves?"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from masa.awareness import (
    Evidence,
    Gate,
    Predictor,
    SelfPredictor,
    awareness_summary,
    bootstrap_mean_interval,
    classify,
    parse_prediction,
)
from masa.evaluation.sampling import GroupSampler
from masa.records import FinishReason, Outcome, Prediction, Problem, Rollout
from masa.rollout.engine import Decode, Engine
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker

IsCorrect = Callable[[Sequence[Mapping[str, Any]], Sequence[Rollout], Sequence[str]], Sequence[bool | None]]
"""Dataset rows, rollouts and their texts, one each, to verdicts; an unknown one counts as wrong."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How a policy does on held-out problems, measured by sampling.

    Args:
        rows: dataset rows, as in training.
        solutions: rollouts a problem, the estimate of its pass rate.
        predictions: meta rollouts a problem; 0 measures no awareness.
        min_length: smallest length the meta prompt allows, in tokens.
        gate: the gate's rule on what is known of a problem, to see which it would skip; None where there is none.
        predictor: on whose estimates the rule rests.
    """

    rows: Sequence[Mapping[str, Any]]
    prompts: PromptBuilder
    requests: RequestMaker
    is_correct: IsCorrect
    decode: Decode
    solutions: int = 8
    predictions: int = 8
    min_length: int = 1
    predictor: Predictor = field(default_factory=SelfPredictor)
    gate: Gate | None = None

    @property
    def _sampler(self) -> GroupSampler:
        return GroupSampler(self.prompts, self.requests, self.decode)

    def measure(self, engine: Engine, step: int) -> dict[str, Any]:
        """One evaluation as a plain row: pass@1 with a 95 % bootstrap interval over problems, and awareness.

        The same seeds serve every call, so that two policies differ by what they are and not by their draws.
        """
        problems = [self.prompts.problem(key, row) for key, row in enumerate(self.rows)]
        outcomes, solution_tokens = self._solve(engine, problems)
        row: dict[str, Any] = {
            "step": step,
            "problems": len(problems),
            "samples_per_problem": self.solutions,
            **self._accuracy(problems, outcomes),
        }
        groups: list[list[Prediction]] = [[] for _ in problems]
        meta_tokens = 0
        if self.predictions:
            groups, meta_tokens = self._foretell(engine, problems)
        if self.gate is not None and (self.predictor.uses_predictions or self.predictor.uses_hidden):
            row |= self._gating(engine, problems, groups, outcomes)
        if self.predictions:
            row |= awareness_summary(list(zip(groups, outcomes, strict=True))).metrics(prefix="")
            row["problems"] = len(problems)
            row["points"] = [
                self._point(problem, group, outcome)
                for problem, group, outcome in zip(problems, groups, outcomes, strict=True)
            ]
        row["evaluation_tokens"] = solution_tokens + meta_tokens
        return row

    def _solve(self, engine: Engine, problems: Sequence[Problem]) -> tuple[list[Outcome], int]:
        n = self.solutions
        groups = self._sampler.solve(engine, problems, self.rows, n)
        verdicts = self.is_correct(
            [row for row in self.rows for _ in range(n)],
            [rollout for group in groups for rollout in group.rollouts],
            [text for group in groups for text in group.texts],
        )
        outcomes = [
            Outcome(
                texts=group.texts,
                lengths=tuple(rollout.length for rollout in group.rollouts),
                correct=tuple(verdict is True for verdict in verdicts[i * n : (i + 1) * n]),
                finish_reasons=tuple(rollout.finish_reason for rollout in group.rollouts),
            )
            for i, group in enumerate(groups)
        ]
        return outcomes, sum(group.tokens for group in groups)

    def _accuracy(self, problems: Sequence[Problem], outcomes: Sequence[Outcome]) -> dict[str, Any]:
        rates = [outcome.pass_rate for outcome in outcomes]
        interval = bootstrap_mean_interval(rates, seed=0)
        by_task: dict[str, list[float]] = defaultdict(list)
        for problem, rate in zip(problems, rates, strict=True):
            by_task[problem.task or "all"].append(rate)
        reasons = [reason for outcome in outcomes for reason in outcome.finish_reasons]
        return {
            "pass_at_1": statistics.fmean(rates),
            "pass_at_1_low": interval.low if interval else None,
            "pass_at_1_high": interval.high if interval else None,
            "zero_variance_share": statistics.fmean(rate in (0.0, 1.0) for rate in rates),
            "never_solved_share": statistics.fmean(rate == 0.0 for rate in rates),
            "always_solved_share": statistics.fmean(rate == 1.0 for rate in rates),
            "mean_length": statistics.fmean(n for outcome in outcomes for n in outcome.lengths),
            "truncated_share": statistics.fmean(reason is FinishReason.LENGTH for reason in reasons),
            "pass_rates": rates,
            "by_task": {task: statistics.fmean(values) for task, values in sorted(by_task.items())},
        }

    def _foretell(self, engine: Engine, problems: Sequence[Problem]) -> tuple[list[list[Prediction]], int]:
        groups = self._sampler.foretell(engine, problems, self.rows, self.predictions)
        predictions = [
            [
                parse_prediction(text, max_length=self.requests.max_tokens, min_length=self.min_length)
                for text in group.texts
            ]
            for group in groups
        ]
        return predictions, sum(group.tokens for group in groups)

    def _gating(
        self,
        engine: Engine,
        problems: Sequence[Problem],
        groups: Sequence[Sequence[Prediction]],
        outcomes: Sequence[Outcome],
    ) -> dict[str, float]:
        """What the gate's rule would skip, against the variance of the samples made here: nothing is hidden by it.

        The training set's own recall fades where gated problems are no longer rolled out; this one does not.
        """
        assert self.gate is not None
        hidden: Sequence[Any] = [None] * len(problems)
        if self.predictor.uses_hidden:
            prompts = [
                self.prompts.solution_ids(problem, row) for problem, row in zip(problems, self.rows, strict=True)
            ]
            hidden = list(engine.prompt_states(prompts))
        evidence = [
            # Keys count from 0 here as in the training set: a held-out problem has no history under its own.
            Evidence(replace(problem, key=-1 - problem.key), group, state)
            for problem, group, state in zip(problems, groups, hidden, strict=True)
        ]
        found = classify(
            [self.gate.rule.skips(self.predictor.estimate(one)) for one in evidence],
            [outcome.pass_rate in (0.0, 1.0) for outcome in outcomes],
        )
        values = {"precision": found.precision, "recall": found.recall, "f1": found.f1}
        return {f"gate_{name}": value for name, value in values.items() if value is not None}

    def _point(self, problem: Problem, group: Sequence[Prediction], outcome: Outcome) -> list[float | None]:
        """Foretold and true pass rate, foretold and mean correct length: one point of the scatter."""
        estimate = SelfPredictor().estimate(Evidence(problem, group))
        lengths = outcome.correct_lengths
        mean_length = sum(lengths) / len(lengths) if lengths else None
        return [estimate.pass_rate, outcome.pass_rate, estimate.length, mean_length]
