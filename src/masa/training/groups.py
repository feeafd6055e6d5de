"""A problem on its way through one step: what was foretold, what was rolled out, what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from masa.awareness import (
    CutoffDecision,
    Estimate,
    Evidence,
    GateDecision,
    MetaReward,
    group_advantages,
    zero_variance,
)
from masa.awareness.groups import AdvantageScale
from masa.records import Outcome, Prediction, Problem, Rollout


@dataclass(slots=True)
class MetaGroup:
    """The meta rollouts of one problem; lists hold one entry a rollout."""

    prompt_ids: tuple[int, ...] = ()
    """The meta prompt, what the predictor had it say of the past included."""
    rollouts: list[Rollout] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    rewards: list[MetaReward] = field(default_factory=list)
    """Empty while there is no outcome to compare with."""
    advantages: list[float] = field(default_factory=list)


@dataclass(slots=True)
class SolutionGroup:
    """The solution rollouts of one problem; lists hold one entry a rollout."""

    prompts: list[Any] = field(default_factory=list)
    """The prompt of each rollout, hint included: the one trained on."""
    prompt_ids: list[tuple[int, ...]] = field(default_factory=list)
    hints: list[tuple[str, ...]] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    """NaN where no reward function could score the rollout."""
    by_function: dict[str, list[float]] = field(default_factory=dict)
    """What each reward function said, before weights."""
    logged: dict[str, list[Any]] = field(default_factory=dict)
    """What the functions logged of the rollouts (`log_extra`), by column."""
    correct: list[bool | None] = field(default_factory=list)
    """None where correctness is unknown."""
    advantages: list[float] = field(default_factory=list)
    is_live: bool = False
    """Whether rewards differ, so that the group can teach."""

    @property
    def tokens(self) -> int:
        """Tokens generated."""
        return sum(rollout.length for rollout in self.rollouts)


@dataclass(slots=True)
class ProblemGroup:
    """Everything one step knows of one problem."""

    problem: Problem
    row: Mapping[str, Any]
    """The dataset row, handed to the reward functions."""
    size: int = 0
    """Solution rollouts to be made."""
    meta: MetaGroup = field(default_factory=MetaGroup)
    solution: SolutionGroup = field(default_factory=SolutionGroup)
    hidden: NDArray[np.float32] | None = None
    """The policy's last hidden state at the end of the solution prompt, where the predictor asks for it."""
    estimate: Estimate | None = None
    decision: GateDecision | None = None
    cut: CutoffDecision | None = None
    outcome: Outcome | None = None
    """None for a gated problem, or where correctness is unknown."""

    def settle(self) -> None:
        """Take the outcome from the solution rollouts whose correctness is known; None if there are none."""
        solution = self.solution
        rollouts = self.known_rollouts
        if rollouts:
            self.outcome = Outcome(
                texts=tuple(text for text, ok in zip(solution.texts, solution.correct, strict=True) if ok is not None),
                lengths=tuple(rollout.length for rollout in rollouts),
                correct=tuple(ok for ok in solution.correct if ok is not None),
                finish_reasons=tuple(rollout.finish_reason for rollout in rollouts),
            )

    @property
    def known_rollouts(self) -> list[Rollout]:
        """The solution rollouts whose correctness is known, as they stand in the outcome."""
        solution = self.solution
        return [rollout for rollout, ok in zip(solution.rollouts, solution.correct, strict=True) if ok is not None]

    @property
    def evidence(self) -> Evidence:
        """What the predictor may know of the problem in this step."""
        return Evidence(self.problem, tuple(self.meta.predictions), self.hidden)

    @property
    def probability(self) -> float:
        """The chance the problem had of being rolled out."""
        return 1.0 if self.decision is None else self.decision.probability

    @property
    def is_gated(self) -> bool:
        """Whether the gate kept the problem from being rolled out."""
        return self.decision is not None and self.decision.gated

    @property
    def is_audited(self) -> bool:
        """Whether only the audit's draw had the problem rolled out."""
        return self.decision is not None and self.decision.audited


@dataclass(frozen=True, slots=True)
class ScoredRollouts:
    """What the reward functions said; one entry a rollout in each list."""

    rewards: list[float]
    """Weighted sum over the reward functions; NaN where none could score."""
    by_function: dict[str, list[float]]
    """The same before the sum, by reward function."""
    logged: dict[str, list[Any]]
    """What the functions logged of them, by column; None where they did not."""
    correct: list[bool | None]
    """None where correctness is unknown."""


def scored_advantages(rewards: Sequence[float], scale: str) -> tuple[list[float], bool]:
    """Advantages of a group, 0 for rollouts that could not be scored (NaN), and whether the group can teach."""
    scored = [reward for reward in rewards if math.isfinite(reward)]
    advantages = iter(group_advantages(scored, scale=cast(AdvantageScale, scale)))
    return (
        [next(advantages) if math.isfinite(reward) else 0.0 for reward in rewards],
        not zero_variance(scored),
    )
