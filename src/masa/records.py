"""The nouns of the project: frozen records that every other module speaks in.

Nothing here imports torch, touches files or knows about training. The words are the field's:
a *problem* has *solution rollouts* (its solution group) and *meta rollouts* (its meta group);
a meta rollout holds a *prediction*, a solution group has an *outcome*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FinishReason(StrEnum):
    """Why a rollout ended."""

    STOP = "stop"
    """The model wrote an end-of-sequence token."""
    LENGTH = "length"
    """The run's own token limit was reached."""
    CUTOFF = "cutoff"
    """A predicted, per-problem limit below the run's own was reached."""
    ABORT = "abort"
    """Generation was cancelled."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with a checkable answer."""

    key: int
    """Index in its dataset; names the problem in seeds, histories and files."""
    text: str
    """The question as the user wrote it, without system message or template."""
    answer: str
    kind: str = "math"
    """Which grader decides (`masa.grading`)."""
    task: str = ""
    """Where the problem comes from, for example `chain_sum/3`; used to break results down."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the dataset row, handed to reward functions."""


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to sample.

    Raises:
        ValueError: on an empty prompt, a limit below 1, a negative temperature, a top_p outside (0, 1] or a
            negative top_k.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    """Limit for this request alone, the end-of-sequence token included."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    seed: int = 0
    """Names this request's uniforms: the same seed gives the same tokens whatever else is in the batch."""
    is_cutoff: bool = False
    """Whether `max_tokens` is a predicted limit: reaching it then means `cutoff`, else `length`."""
    expected_tokens: float | None = None
    """Predicted length, for scheduling only."""
    group: int | None = None
    """Names requests that one process rolls out; by default those of the same prompt. For dealing out only."""

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise ValueError("a request needs at least one prompt token")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion."""

    token_ids: tuple[int, ...]
    """Generated tokens, the end-of-sequence token included where the model wrote one."""
    finish_reason: FinishReason
    logprobs: tuple[float, ...] | None = None
    """Log-probability of each token under the distribution it was drawn from, if asked for."""

    @property
    def length(self) -> int:
        """Generated tokens, end-of-sequence included."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a meta rollout says of the policy's own solutions; a component that could not be read is None."""

    pass_rate: float | None = None
    """Share of correct solutions, 0..1."""
    length: int | None = None
    """Tokens of a solution."""
    notions: tuple[str, ...] | None = None
    """Concepts it expects to use."""

    @property
    def is_valid(self) -> bool:
        """Whether all three components could be read."""
        return self.pass_rate is not None and self.length is not None and self.notions is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a problem's solution group turned out to be; one entry a rollout in each field.

    Raises:
        ValueError: if the three fields differ in length or are empty.
    """

    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    """Generated tokens, end-of-sequence included."""
    correct: tuple[bool, ...]
    finish_reasons: tuple[FinishReason, ...] = ()
    """Empty when unknown; otherwise one a rollout."""

    def __post_init__(self) -> None:
        sizes = {len(self.texts), len(self.lengths), len(self.correct)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                f"an outcome needs as many texts ({len(self.texts)}) as lengths ({len(self.lengths)}) "
                f"and correctness flags ({len(self.correct)}), and at least one"
            )
        if self.finish_reasons and len(self.finish_reasons) != len(self.texts):
            raise ValueError(f"{len(self.finish_reasons)} finish reasons for {len(self.texts)} rollouts")

    @property
    def pass_rate(self) -> float:
        """Share of correct rollouts, p."""
        return sum(self.correct) / len(self.correct)

    @property
    def correct_lengths(self) -> tuple[int, ...]:
        """C: lengths of the correct rollouts that ended by themselves, in tokens.

        Rollouts that were cut or truncated are censored, so their lengths say nothing about what a solution needs.
        """
        reasons = self.finish_reasons or (FinishReason.STOP,) * len(self.lengths)
        return tuple(
            length
            for length, correct, reason in zip(self.lengths, self.correct, reasons, strict=True)
            if correct and reason is FinishReason.STOP
        )


@dataclass(frozen=True, slots=True)
class Grade:
    """A grader's verdict on one answer."""

    correct: bool
    extracted: str | None
    """The final answer that was found in the text, or None."""
    reason: str
    """Why, in a few words a user can act on."""
