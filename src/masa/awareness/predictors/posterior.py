"""A Beta posterior over each problem's pass rate, from its own past groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.awareness.beliefs import Beta
from masa.awareness.predictors.base import Estimate, Evidence, Observation, Predictor
from masa.awareness.predictors.checks import ScoreWindow, check_setting, rows_by_key


@dataclass(slots=True)
class _Record:
    """Forgotten sums over one problem's groups."""

    right: float = 0.0
    wrong: float = 0.0
    length_total: float = 0.0
    length_count: float = 0.0


class PosteriorPredictor(Predictor):
    """MoPPS (arXiv 2507.04632): a <- lambda a + (1 - lambda) a0 + successes, and b likewise with failures.

    The G rollouts of one group come from one policy and count in full; the policy of the next visit is another one, so
    older groups fade by lambda a visit. The belief is the Beta(a, b) itself. Lengths are remembered alike: a mean over
    the correct rollouts in which each earlier group with any counts lambda times less. A problem never rolled out
    is abstained from.

    Args:
        prior_right: a0.
        prior_wrong: b0.
        forgetting: lambda, 0 (only the last group counts) .. 1 (nothing is forgotten).

    Raises:
        ValueError: for a setting out of range.
    """

    name = "posterior"

    def __init__(self, *, prior_right: float = 1.0, prior_wrong: float = 1.0, forgetting: float = 0.5) -> None:
        check_setting(self.name, "prior_right", prior_right, 1e-3, 1e6)
        check_setting(self.name, "prior_wrong", prior_wrong, 1e-3, 1e6)
        check_setting(self.name, "forgetting", forgetting, 0, 1)
        self.prior_right = prior_right
        self.prior_wrong = prior_wrong
        self.forgetting = forgetting
        self._records: dict[int, _Record] = {}
        self._scores = ScoreWindow()

    def counts(self, key: int) -> tuple[float, float]:
        """Right and wrong rollouts remembered of a problem, a - a0 and b - b0; zeros without history."""
        record = self._records.get(key)
        return (0.0, 0.0) if record is None else (record.right, record.wrong)

    def length(self, key: int) -> float | None:
        """Remembered mean length of the problem's correct rollouts, in tokens; None if none was seen."""
        record = self._records.get(key)
        return record.length_total / record.length_count if record is not None and record.length_count else None

    @property
    def known(self) -> int:
        """Problems with history."""
        return len(self._records)

    def estimate(self, evidence: Evidence) -> Estimate:
        """The posterior of the problem; abstains for one without history."""
        key = evidence.problem.key
        if key not in self._records:
            return Estimate()
        right, wrong = self.counts(key)
        belief = Beta(self.prior_right + right, self.prior_wrong + wrong)
        return Estimate(
            pass_rate=belief.mean,
            deviation=belief.deviation,
            length=self.length(key),
            valid=round(right + wrong),
            abstains=False,
            belief=belief,
        )

    def observe(self, step: int, observations: Sequence[Observation]) -> None:  # noqa: ARG002
        """Update the problems rolled out.

        Counts are not weighed by 1 / probability: each posterior conditions on its own problem, and whether that
        problem was rolled out did not depend on what its rollouts then turned out to be.
        """
        self._scores.add([self.estimate(observation.evidence) for observation in observations], observations)
        keep = self.forgetting
        for observation in observations:
            record = self._records.setdefault(observation.evidence.problem.key, _Record())
            right = sum(observation.outcome.correct)
            record.right = keep * record.right + right
            record.wrong = keep * record.wrong + len(observation.outcome.correct) - right
            if lengths := observation.outcome.correct_lengths:
                record.length_total = keep * record.length_total + sum(lengths)
                record.length_count = keep * record.length_count + len(lengths)

    def state_dict(self) -> dict[str, Any]:
        """The sums of each problem, JSON-able."""
        records = [[key, r.right, r.wrong, r.length_total, r.length_count] for key, r in self._records.items()]
        return {"records": records, "scores": self._scores.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._records = {key: _Record(*row) for key, row in rows_by_key(state["records"]).items()}
        self._scores.load_state_dict(state["scores"])

    def metrics(self) -> dict[str, float]:
        """Problems with history, and how well zero variance was foretold."""
        return {"predictor/known_problems": float(self.known)} | self._scores.metrics()
