"""Expert trajectories: the policy's own best predictions, with their numbers set right, to be imitated.

Version 1 of arXiv 2510.03259, Algorithm 1 and Eq. 5. The reasoning before the numbers stays the policy's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from masa.awareness.parsing import END_OF_REASONING, find_prediction
from masa.awareness.prompts import DEFAULT_NOTION_KEY, PASS_RATE_STEPS
from masa.awareness.rewards import MetaReward
from masa.records import Outcome, Prediction, Problem
from masa.seeding import Purpose, derive_random


@dataclass(frozen=True, slots=True)
class ExpertOptions:
    """Which predictions become expert trajectories.

    Raises:
        ValueError: for a setting out of range.
    """

    min_length: int
    """Bounds of a foretold length, in tokens: those of the meta prompt."""
    max_length: int
    threshold: float = 0.2
    """Least notion reward."""
    include_unsolved: bool = False
    """Whether problems without a correct rollout give a trajectory too, so that a pass rate of 0 is taught."""
    consistent: bool = False
    """Only predictions near the truth already, so that the reasoning and the numbers agree: pass rate within one step
    of 1/8, length within 25 % of the mean correct length."""
    notion_key: str = DEFAULT_NOTION_KEY

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length:
            raise ValueError(
                f"lengths must satisfy 1 <= min_length <= max_length, got {self.min_length} and {self.max_length}"
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"expert threshold must lie between 0 and 1, got {self.threshold}")


@dataclass(frozen=True, slots=True)
class ExpertTrajectory:
    """A response to imitate."""

    key: int
    """The problem's."""
    step: int
    text: str
    """The response, without end-of-sequence token; the loss is on it alone."""
    prompt_ids: tuple[int, ...] = ()
    """The meta prompt as it was tokenised for the rollout."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"key": self.key, "step": self.step, "text": self.text, "prompt_ids": list(self.prompt_ids)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ExpertTrajectory:
        """The trajectory behind `as_dict`."""
        return cls(int(state["key"]), int(state["step"]), str(state["text"]), tuple(map(int, state["prompt_ids"])))


def pass_rate_steps(outcome: Outcome) -> int:
    """8 p, rounded half up: the integer that the meta prompt asks for."""
    share = Fraction(PASS_RATE_STEPS * sum(outcome.correct), len(outcome.correct))
    return math.floor(share + Fraction(1, 2))


def clamped_mean(lengths: Sequence[int], low: int, high: int) -> int:
    """The mean length in whole tokens, rounded half up and held within the bounds."""
    mean = Fraction(sum(lengths), len(lengths))
    return min(max(math.floor(mean + Fraction(1, 2)), low), high)


def format_prediction(notions: Sequence[str], steps: int, length: int, notion_key: str = DEFAULT_NOTION_KEY) -> str:
    """A prediction as the meta prompt wants it: valid JSON on one line, keys in the prompt's order."""
    return json.dumps({notion_key: list(notions), "pass_rate": steps, "solution_length": length}, ensure_ascii=False)


def make_expert(
    problem: Problem,
    meta_texts: Sequence[str],
    predictions: Sequence[Prediction],
    rewards: Sequence[MetaReward],
    outcome: Outcome,
    options: ExpertOptions,
    *,
    run_seed: int,
    step: int,
    prompt_ids: Sequence[int] = (),
) -> ExpertTrajectory | None:
    """The expert trajectory of one problem, or None.

    Chosen is the meta rollout with the best notion reward, if that is at least the threshold and a solution was
    correct; ties go by the derived seed of (step, problem key). Its JSON is rewritten with pass_rate = 8 p rounded half
    up and solution_length = the rounded mean over C, the lengths of correct rollouts that ended by themselves (the
    reference code divides by the number of *all* rollouts, and writes p itself). If C is empty there is no length to
    teach, and no trajectory.

    With `include_unsolved` a problem without any correct rollout gives the prediction with the best difficulty
    reward, its own length and notions kept.

    Args:
        meta_texts: texts of the meta group; `predictions` and `rewards` are theirs, in the same order.
        prompt_ids: the meta prompt's tokens, handed through.
    """
    group = list(zip(meta_texts, predictions, rewards, strict=True))
    solved = any(outcome.correct)
    if solved:
        scored = [(r.notion, i) for i, (_, p, r) in enumerate(group) if p.notions and r.notion >= options.threshold]
        if not outcome.correct_lengths:
            return None
        length = clamped_mean(outcome.correct_lengths, options.min_length, options.max_length)
    elif options.include_unsolved:
        scored = [(r.difficulty, i) for i, (_, p, r) in enumerate(group) if p.is_valid]
        length = None
    else:
        return None
    if options.consistent:
        scored = [(score, i) for score, i in scored if _is_near(group[i][1], outcome)]
    if not scored:
        return None
    best = max(score for score, _ in scored)
    tied = [i for score, i in scored if score == best]
    text, prediction, _ = group[derive_random(run_seed, Purpose.EXPERT, step, problem.key).choice(tied)]
    head = reasoning_of(text)
    if head is None:
        found = find_prediction(text, notion_key=options.notion_key)
        if found is None:
            return None
        head = text[: found.start]
    target = length if length is not None else prediction.length
    assert target is not None  # an unsolved problem's candidates are valid
    answer = format_prediction(prediction.notions or (), pass_rate_steps(outcome), target, options.notion_key)
    return ExpertTrajectory(problem.key, step, head + answer, tuple(prompt_ids))


def reasoning_of(text: str) -> str | None:
    """A meta rollout up to the first `</meta>` and the white space that follows it; None without the tag.

    A target that is made of it puts nothing between tag and object that the policy does not write itself; what else
    lies between them (a code fence, remarks) is left out.
    """
    head, tag, rest = text.partition(END_OF_REASONING)
    return head + tag + rest[: len(rest) - len(rest.lstrip())] if tag else None


def _is_near(prediction: Prediction, outcome: Outcome) -> bool:
    """Within one step of 1/8 of the pass rate and, where there is a correct length, 25 % of its mean."""
    if prediction.pass_rate is None or prediction.length is None:
        return False
    if abs(prediction.pass_rate - outcome.pass_rate) > 1 / PASS_RATE_STEPS + 1e-9:
        return False
    lengths = outcome.correct_lengths
    return not lengths or abs(prediction.length * len(lengths) - sum(lengths)) <= 0.25 * sum(lengths)


class ExpertBuffer:
    """Collects trajectories until there are enough for the supervised updates, then is emptied.

    Raises:
        ValueError: for a capacity below 1.
    """

    def __init__(self, capacity: int = 128) -> None:
        if capacity < 1:
            raise ValueError(f"expert buffer capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._trajectories: list[ExpertTrajectory] = []

    def __len__(self) -> int:
        return len(self._trajectories)

    def add(self, trajectory: ExpertTrajectory | None) -> None:
        """Keep one; None is passed over."""
        if trajectory is not None:
            self._trajectories.append(trajectory)

    @property
    def ready(self) -> bool:
        """Whether it holds at least its capacity."""
        return len(self) >= self.capacity

    def drain(self) -> list[ExpertTrajectory]:
        """All trajectories, oldest first; nothing is left over (a step may fill it beyond its capacity)."""
        trajectories, self._trajectories = self._trajectories, []
        return trajectories

    def metrics(self) -> dict[str, float]:
        """How full it is."""
        return {"expert/buffer": float(len(self))}

    def state_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        return {"trajectories": [trajectory.as_dict() for trajectory in self._trajectories]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._trajectories = [ExpertTrajectory.from_dict(item) for item in state["trajectories"]]
