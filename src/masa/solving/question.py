"""A question on its way to an answer: what is held of it, what was drawn, and how much it wants next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from masa.awareness.beliefs import Beta
from masa.awareness.predictors import Estimate
from masa.records import FinishReason, Prediction, Problem, Rollout
from masa.solving.solution import Foretold, Solution, StopReason
from masa.solving.stopping import UNIFORM, StoppingRule, decided, leads_by_beta
from masa.solving.votes import Ballot
from masa.solving.worth import likely_right


@dataclass(slots=True)
class Question:
    """The state of one question."""

    problem: Problem
    row: Mapping[str, Any]
    """Its prompt."""
    most: int
    """Samples, at most."""
    limit: int
    """Tokens of a sample, at most."""
    planned: int
    """Samples that are worth it."""
    belief: Beta = UNIFORM
    estimate: Estimate | None = None
    predictions: tuple[Prediction, ...] = ()
    foretold_limit: int | None = None
    foretold_samples: int = 0
    meta_tokens: int = 0
    ballot: Ballot = field(init=False)
    rollouts: list[Rollout] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    stopped: StopReason | None = None

    def __post_init__(self) -> None:
        self.ballot = Ballot(self.problem)

    @property
    def drawn(self) -> int:
        """Samples so far."""
        return len(self.rollouts)

    def wants(self, stopping: StoppingRule | None, most: int) -> int:
        """Samples to draw next, at least 1; 0 and a reason in `stopped` where there is enough.

        Args:
            stopping: the rule, or None to draw all at once.
            most: samples in all, at most.
        """
        remaining = most - self.drawn
        counts = self.ballot.counts
        if stopping is not None and counts:
            if stopping.settled(counts, self.belief):
                return self._stop(StopReason.SETTLED)
            if remaining > 0 and decided(counts, remaining):
                return self._stop(StopReason.DECIDED)
        if remaining <= 0:
            return self._stop(StopReason.SAMPLES if self.drawn >= self.most else StopReason.FORETOLD)
        return remaining if stopping is None else stopping.least_to_settle(counts, remaining, self.belief)

    def add(self, rollouts: Sequence[Rollout], texts: Sequence[str], answers: Sequence[str | None], whole: int) -> None:
        """Samples of a round, whose answers are not counted yet.

        Where no answer has been stated, prediction has misled: the foretold number of samples is doubled, and a
        foretold limit that ended samples gives way to the run's own.

        Args:
            rollouts: in the order of their places.
            texts: one a rollout.
            answers: one a rollout.
            whole: the run's own token limit.
        """
        self.rollouts += rollouts
        self.texts += texts
        self.answers += answers
        if all(answer is None for answer in self.answers):
            if self.drawn >= self.planned:
                self.planned = min(self.most, 2 * self.drawn)
            if any(rollout.finish_reason is FinishReason.CUTOFF for rollout in rollouts):
                self.limit = whole

    def solution(self, stopping: StoppingRule | None, rival: float) -> Solution:
        """What came of it; `rival` is the chance that two wrong samples agree."""
        votes, counts = self.ballot.votes, self.ballot.counts
        winner = votes[0].answer if votes else None
        shown = self._shown(winner)
        return Solution(
            key=self.problem.key,
            question=self.problem.text,
            answer=winner,
            confidence=leads_by_beta(counts, self.belief) if stopping is None else stopping.leads(counts, self.belief),
            likely_right=likely_right(counts, self.belief, rival),
            votes=votes,
            text=None if shown is None else self.texts[shown],
            length=0 if shown is None else self.rollouts[shown].length,
            finish_reason=None if shown is None else self.rollouts[shown].finish_reason,
            samples=self.drawn,
            cut=sum(rollout.finish_reason is FinishReason.CUTOFF for rollout in self.rollouts),
            stopped=self.stopped or StopReason.BUDGET,
            solution_tokens=sum(rollout.length for rollout in self.rollouts),
            meta_tokens=self.meta_tokens,
            foretold=self._foretold(),
        )

    def _shown(self, winner: str | None) -> int | None:
        """Place of the sample that speaks for the winner; of the first of all where there is no winner."""
        if winner is None:
            return 0 if self.texts else None
        stating = [
            place
            for place, answer in enumerate(self.answers)
            if answer is not None and self.ballot.meaning(answer) == winner
        ]
        ended = [place for place in stating if self.rollouts[place].finish_reason is FinishReason.STOP]
        return (ended or stating)[0]

    def _foretold(self) -> Foretold | None:
        if self.estimate is None:
            return None
        estimate = self.estimate
        return Foretold(
            pass_rate=estimate.pass_rate,
            deviation=estimate.deviation,
            length=estimate.length,
            notions=estimate.notions,
            predictions=len(self.predictions),
            valid=estimate.valid,
            limit=self.foretold_limit,
            samples=self.foretold_samples,
        )

    def _stop(self, reason: StopReason) -> int:
        self.stopped = reason
        return 0
