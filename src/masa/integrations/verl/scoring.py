"""The meta reward over the rows of one step, whatever order they came in. No verl, no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from masa.awareness import MetaReward, MetaScorer, RewardOptions, awareness_summary, mean_reward, parse_prediction
from masa.records import FinishReason, Outcome, Prediction


@dataclass(frozen=True, slots=True)
class Row:
    """One rollout of a step."""

    key: str
    """Names the problem's visit: the same for its solutions and its predictions."""
    is_meta: bool
    problem: str
    """The question alone."""
    text: str
    length: int
    """Generated tokens."""
    finish_reason: FinishReason = FinishReason.STOP
    correct: bool | None = None
    """Of a solution; None where it is unknown."""


@dataclass(slots=True)
class ScoredStep:
    """What became of the predictions."""

    rewards: list[MetaReward | None]
    """One a row; None for solutions, and for predictions of a problem without a graded solution."""
    pairs: list[tuple[tuple[Prediction, ...], Outcome]] = field(default_factory=list)
    """Each problem's predictions beside its outcome."""

    def metrics(self, rows: Sequence[Row]) -> dict[str, float]:
        """Numbers of this step, under the names of docs/metrics.md behind `masa/`.

        Unlike there, the correlations are over this step's problems alone.
        """
        scored = [reward for reward in self.rewards if reward is not None]
        values = {"predictions_without_outcome": float(sum(row.is_meta for row in rows) - len(scored))}
        if (mean := mean_reward(scored)) is not None:
            values |= {
                "reward/meta": mean.total,
                "reward/difficulty": mean.difficulty,
                "reward/length": mean.length,
                "reward/notion": mean.notion,
            }
        if self.pairs:
            values["pass_rate"] = sum(outcome.pass_rate for _, outcome in self.pairs) / len(self.pairs)
            values |= awareness_summary(self.pairs).metrics()
        return {f"masa/{name}": value for name, value in values.items()}


def score_step(
    rows: Sequence[Row], *, min_length: int, max_length: int, notion_key: str, options: RewardOptions
) -> ScoredStep:
    """Score every prediction against the solution group of its own problem in the same step.

    Args:
        min_length: least number of tokens that may be foretold.
        max_length: the run's limit on response tokens.
        notion_key: the meta prompt's name for the list of notions.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        groups[row.key].append(place)
    step = ScoredStep([None] * len(rows))
    for places in groups.values():
        graded = [rows[i] for i in places if not rows[i].is_meta and rows[i].correct is not None]
        metas = [i for i in places if rows[i].is_meta]
        if not graded or not metas:
            continue
        outcome = Outcome(
            texts=tuple(row.text for row in graded),
            lengths=tuple(row.length for row in graded),
            correct=tuple(bool(row.correct) for row in graded),
            finish_reasons=tuple(row.finish_reason for row in graded),
        )
        predictions = tuple(
            parse_prediction(rows[i].text, max_length=max_length, min_length=min_length, notion_key=notion_key)
            for i in metas
        )
        scorer = MetaScorer(outcome, rows[metas[0]].problem, options)
        for place, prediction in zip(metas, predictions, strict=True):
            step.rewards[place] = scorer.score(prediction)
        step.pairs.append((predictions, outcome))
    return step
