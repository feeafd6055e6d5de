"""Reward history: problems whose last groups had no variance are rolled out ever more rarely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.awareness.beliefs import Beta
from masa.awareness.predictors.base import Estimate, Evidence, Observation, Predictor
from masa.awareness.predictors.checks import ScoreWindow, check_setting, rows_by_key


@dataclass(frozen=True, slots=True)
class _Record:
    """What is kept of one problem."""

    count: int
    """Consecutive groups without variance on one side; 0 if the last group had variance."""
    right: int
    """Correct rollouts in those groups, or in the last group if it had variance."""
    rolled: int
    """Rollouts in those groups, or in the last group."""
    pass_rate: float
    """That of the last group: it tells the sides apart."""
    length: float | None
    """Mean length of correct rollouts in the last group that had any, in tokens."""

    @property
    def is_easy(self) -> bool:
        return self.pass_rate >= 0.5


class HistoryPredictor(Predictor):
    """GRESO (arXiv 2506.02177): explore a problem with probability p_e ** (consecutive zero-variance groups).

    A group counts as easy (all right) or hard (all wrong); a change of side starts the count again. The two base
    probabilities are adapted once a step: down by `step` if the share of easy (hard) zero-variance groups among the
    groups rolled out reaches its target, else up. That share is a plain one, without 1 / probability, because it
    is the make-up of the rolled-out batch itself that is being steered. As in the released code, adapting waits for the
    second visit: it starts with the first step that rolls out a problem with history.

    The belief is Beta(1 + right, 1 + wrong) over the groups counted (over the last group, if it had variance), so
    that longer histories are more certain; it is not calibrated. The length is the mean correct length last seen.

    Defaults are those of the released code: both base probabilities start at 0.5 and stay within 0.05 and 0.95, are
    moved by 0.01, toward a target share of 25 %, a third of it easy and two thirds hard.

    Args:
        easy: base exploration probability of easy problems at the start.
        hard: that of hard problems.
        easy_target: wanted share of all-right groups among those rolled out.
        hard_target: wanted share of all-wrong groups.
        step: by how much a base probability moves in a step.
        floor: least exploration probability, of a base probability and of a problem; positive, so that nothing is lost
            for ever.
        ceiling: largest base probability.

    Raises:
        ValueError: for a setting out of range.
    """

    name = "history"

    def __init__(
        self,
        *,
        easy: float = 0.5,
        hard: float = 0.5,
        easy_target: float = 0.25 / 3,
        hard_target: float = 0.5 / 3,
        step: float = 0.01,
        floor: float = 0.05,
        ceiling: float = 0.95,
    ) -> None:
        check_setting(self.name, "floor", floor, 1e-6, 1)
        check_setting(self.name, "ceiling", ceiling, floor, 1)
        for name, value, low, high in (
            ("easy", easy, floor, ceiling),
            ("hard", hard, floor, ceiling),
            ("easy_target", easy_target, 0, 1),
            ("hard_target", hard_target, 0, 1),
            ("step", step, 0, 1),
        ):
            check_setting(self.name, name, value, low, high)
        self.easy = easy
        self.hard = hard
        self.easy_target = easy_target
        self.hard_target = hard_target
        self.step = step
        self.floor = floor
        self.ceiling = ceiling
        self._records: dict[int, _Record] = {}
        self._scores = ScoreWindow()

    def estimate(self, evidence: Evidence) -> Estimate:
        """What the last groups of the problem were; abstains for a problem without history."""
        record = self._records.get(evidence.problem.key)
        if record is None:
            return Estimate()
        belief = Beta(1 + record.right, 1 + record.rolled - record.right)
        base = self.easy if record.is_easy else self.hard
        return Estimate(
            pass_rate=record.pass_rate,
            deviation=belief.deviation,
            length=record.length,
            valid=record.rolled,
            abstains=False,
            belief=belief,
            exploration=max(self.floor, base**record.count),
        )

    def observe(self, step: int, observations: Sequence[Observation]) -> None:  # noqa: ARG002
        """Count on, and adapt the base probabilities."""
        self._scores.add([self.estimate(observation.evidence) for observation in observations], observations)
        is_later_visit = any(o.evidence.problem.key in self._records for o in observations)
        easy = hard = 0
        for observation in observations:
            key = observation.evidence.problem.key
            record = _extend(self._records.get(key), observation)
            self._records[key] = record
            easy += observation.is_zero_variance and record.is_easy
            hard += observation.is_zero_variance and not record.is_easy
        if is_later_visit:
            self.easy = self._adapt(self.easy, easy / len(observations), self.easy_target)
            self.hard = self._adapt(self.hard, hard / len(observations), self.hard_target)

    def state_dict(self) -> dict[str, Any]:
        """Base probabilities and the record of each problem, JSON-able."""
        return {
            "easy": self.easy,
            "hard": self.hard,
            "records": [[key, r.count, r.right, r.rolled, r.pass_rate, r.length] for key, r in self._records.items()],
            "scores": self._scores.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.easy = float(state["easy"])
        self.hard = float(state["hard"])
        self._records = {key: _Record(*row) for key, row in rows_by_key(state["records"]).items()}
        self._scores.load_state_dict(state["scores"])

    def metrics(self) -> dict[str, float]:
        """Base probabilities, problems with history, and how well zero variance was foretold."""
        return {
            "predictor/exploration_easy": self.easy,
            "predictor/exploration_hard": self.hard,
            "predictor/known_problems": float(len(self._records)),
        } | self._scores.metrics()

    def _adapt(self, base: float, share: float, target: float) -> float:
        moved = base - self.step if share >= target else base + self.step
        return min(max(moved, self.floor), self.ceiling)


def _extend(old: _Record | None, observation: Observation) -> _Record:
    """The record with one more group."""
    outcome = observation.outcome
    right, rolled, count = sum(outcome.correct), len(outcome.correct), int(observation.is_zero_variance)
    lengths = outcome.correct_lengths
    length = sum(lengths) / len(lengths) if lengths else old.length if old is not None else None
    new = _Record(count, right, rolled, outcome.pass_rate, length)
    if old is None or not old.count or not count or old.is_easy != new.is_easy:
        return new
    return _Record(old.count + 1, old.right + right, old.rolled + rolled, outcome.pass_rate, length)
