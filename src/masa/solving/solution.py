"""What came of a question, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from masa.records import FinishReason
from masa.solving.votes import Vote


class StopReason(StrEnum):
    """Why no further sample was drawn."""

    SETTLED = "settled"
    """The leading answer is sure enough to stay in the lead."""
    DECIDED = "decided"
    """The samples that were left could not have changed the answer."""
    FORETOLD = "foretold"
    """The foretold number of samples was drawn; more would not have been worth it."""
    SAMPLES = "samples"
    """The most samples allowed were drawn."""
    BUDGET = "budget"
    """The token budget was spent."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """What the policy said of itself before it answered."""

    pass_rate: float | None
    """Mean over the valid predictions, 0..1; None with fewer than half of them valid."""
    deviation: float | None
    """Population standard deviation over the same."""
    length: float | None
    """L^, tokens of a right solution; None with fewer than half of them valid."""
    notions: tuple[str, ...]
    """The most often foretold first."""
    predictions: int
    """How many were made."""
    valid: int
    """How many of them name a pass rate."""
    limit: int | None
    """Token limit that follows; None where none does, or one that reaches the run's own."""
    samples: int
    """Number of samples that follows."""


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer to one question."""

    key: int
    """Of its problem."""
    question: str
    answer: str | None
    """The leading answer as the first sample stated it; None where no sample states one."""
    confidence: float
    """Probability that the answer would keep its lead however many samples followed: not that it is right."""
    likely_right: float
    """Probability that it is right, by the votes and what was foretold (see `masa.solving.worth.likely_right`)."""
    votes: tuple[Vote, ...]
    """Answers by their votes; of equally many the one that was given first is ahead."""
    text: str | None
    """A whole sample that states the answer, if possible one that ended by itself; the first where none states it."""
    length: int
    """Of that sample, in tokens; 0 without any sample."""
    finish_reason: FinishReason | None
    """Why that sample ended."""
    samples: int
    """Drawn; those without a final answer do not vote."""
    cut: int
    """Of these, those that a limit below the run's own ended."""
    stopped: StopReason
    solution_tokens: int
    """Generated for the samples."""
    meta_tokens: int
    """Generated for the predictions."""
    foretold: Foretold | None = None
    """None where nothing was asked, or the budget left no room for it."""

    @property
    def tokens(self) -> int:
        """Generated in all."""
        return self.solution_tokens + self.meta_tokens

    @property
    def share(self) -> float:
        """Of the samples, those that voted for the answer."""
        return self.votes[0].count / self.samples if self.votes else 0.0
