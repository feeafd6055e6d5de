"""Self-alignment rewards: how truly a prediction foretold the solution group of the same step.

Equations are those of arXiv 2510.03259: version 1 Eq. 1-4, and version 2 Eq. 2 for their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from masa.awareness.notions import Matching, NotionMatcher, lemmas, matching_names, stop_lemmas
from masa.records import Outcome, Prediction

DifficultyReward: TypeAlias = Literal["power", "brier"]
LengthReward: TypeAlias = Literal["range", "log-ratio"]
NotionReward: TypeAlias = Literal["counts", "rates"]


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """Which form each component takes; the defaults are the paper's.

    Raises:
        ValueError: for an unknown name, a base outside (0, 1), or weights that are negative or all 0.
    """

    base: float = 0.01
    """b of the difficulty reward: one step of 1/8 beside the truth multiplies it by b ** (1/8) = 0.56."""
    difficulty: DifficultyReward = "power"
    length: LengthReward = "range"
    notion: NotionReward = "counts"
    matching: Matching = "lemma"
    template_text: str = ""
    """Text that stands in every solution prompt; for `rates`, notions made of its words alone are left out."""
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the difficulty, length and notion components in the total."""

    def __post_init__(self) -> None:
        if not 0 < self.base < 1:
            raise ValueError(f"base of the difficulty reward must lie between 0 and 1, got {self.base}")
        if not all(0 <= weight < math.inf for weight in self.weights) or not any(self.weights):
            raise ValueError(f"weights of the reward's components must be 0 or more, not all 0, got {self.weights}")
        for name, value, known in (
            ("difficulty", self.difficulty, get_args(DifficultyReward)),
            ("length", self.length, get_args(LengthReward)),
            ("notion", self.notion, get_args(NotionReward)),
            ("matching", self.matching, matching_names()),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} reward option {value!r}: use {' or '.join(known)}")


@dataclass(frozen=True, slots=True)
class MetaReward:
    """The reward of one prediction, each component in 0..1."""

    difficulty: float
    length: float
    notion: float
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def total(self) -> float:
        """The weighted mean; by default (difficulty + length + notion) / 3, always over three (version 2 Eq. 2)."""
        parts = (self.difficulty, self.length, self.notion)
        return sum(weight * part for weight, part in zip(self.weights, parts, strict=True)) / sum(self.weights)


def difficulty_reward(
    predicted: float | None, pass_rate: float, *, base: float = 0.01, form: DifficultyReward = "power"
) -> float:
    """`power`: b ** |p - p^| (version 1 Eq. 2). `brier`: 1 - (p - p^)^2. Without a prediction 0.

    `brier` is a proper score only if the meta group's advantages are not divided by their deviation.
    """
    if predicted is None:
        return 0.0
    if form == "brier":
        return 1.0 - (pass_rate - predicted) ** 2
    return float(base ** abs(pass_rate - predicted))


def length_reward(predicted: int | None, correct_lengths: tuple[int, ...], *, form: LengthReward = "range") -> float:
    """How well L^ fits C, the lengths in tokens of the correct rollouts that ended by themselves.

    `range`: 1 if min C <= L^ <= max C, both ends inclusive, else 0 (version 1 Eq. 1).
    `log-ratio`: exp(-|ln(L^ / mean C)|). Without a prediction or with C empty 0.
    """
    if predicted is None or not correct_lengths:
        return 0.0
    if form == "range":
        return float(min(correct_lengths) <= predicted <= max(correct_lengths))
    mean = sum(correct_lengths) / len(correct_lengths)
    return min(predicted, mean) / max(predicted, mean)  # = exp(-|ln(predicted / mean)|)


class MetaScorer:
    """Scores every prediction about one problem against its outcome; the texts are lemmatised once.

    Args:
        outcome: the problem's solution group of this step.
        problem_text: the problem alone, without instructions: notions that occur in it do not count.
    """

    def __init__(self, outcome: Outcome, problem_text: str, options: RewardOptions | None = None) -> None:
        self.outcome = outcome
        self.options = options or RewardOptions()
        self._problem = NotionMatcher((problem_text,), self.options.matching)
        self._texts = NotionMatcher(outcome.texts, self.options.matching)
        self._template: frozenset[str] = frozenset()
        if self.options.notion == "rates":
            self._template = stop_lemmas() | frozenset(lemmas(self.options.template_text))
        self._wins: dict[str, bool | None] = {}

    def score(self, prediction: Prediction) -> MetaReward:
        """The reward of one prediction; a component that could not be read scores 0."""
        options = self.options
        return MetaReward(
            difficulty=difficulty_reward(
                prediction.pass_rate, self.outcome.pass_rate, base=options.base, form=options.difficulty
            ),
            length=length_reward(prediction.length, self.outcome.correct_lengths, form=options.length),
            notion=self.notion_reward(prediction.notions),
            weights=options.weights,
        )

    def notion_reward(self, notions: tuple[str, ...] | None) -> float:
        """Share of the distinct notions n with f(n, 1) > f(n, 0), strictly (version 1 Eq. 3-4).

        f(n, 1) and f(n, 0) count the correct and the incorrect solution rollouts whose text uses n (`counts`), or
        are these counts over the number of correct and incorrect rollouts, 0 where there are none (`rates`). Notions
        of the problem's text stand in neither numerator nor denominator; with `rates` nor do notions made of stop
        words and words of the template alone. With no notion left the reward is 0.
        """
        distinct = {self._texts.normal_form(notion): notion for notion in notions or ()}
        verdicts = [self._verdict(form, notion) for form, notion in distinct.items()]
        counted = [verdict for verdict in verdicts if verdict is not None]
        return sum(counted) / len(counted) if counted else 0.0

    def _verdict(self, form: str, notion: str) -> bool | None:
        """Whether the notion is commoner in correct rollouts; None if it does not count."""
        if form not in self._wins:
            self._wins[form] = self._judge(notion)
        return self._wins[form]

    def _judge(self, notion: str) -> bool | None:
        if self._problem.occurs(notion)[0]:
            return None
        rates = self.options.notion == "rates"
        if rates and self._template.issuperset(lemmas(notion)):
            return None
        flags = list(zip(self._texts.occurs(notion), self.outcome.correct, strict=True))
        in_correct = sum(used for used, correct in flags if correct)
        in_incorrect = sum(used for used, correct in flags if not correct)
        if not rates:
            return in_correct > in_incorrect
        n_correct = sum(self.outcome.correct)
        n_incorrect = len(flags) - n_correct
        # a / n > b / m without division; a side without rollouts has rate 0.
        return in_correct * max(n_incorrect, 1) > in_incorrect * max(n_correct, 1)


def meta_reward(
    prediction: Prediction,
    outcome: Outcome,
    problem_text: str,
    *,
    base: float = 0.01,
    difficulty: DifficultyReward = "power",
    length: LengthReward = "range",
    notion: NotionReward = "counts",
    matching: Matching = "lemma",
    template_text: str = "",
) -> MetaReward:
    """The reward of one prediction about a problem; `MetaScorer` serves a whole meta group.

    Cut and truncated rollouts are in the pass rate like any other, but their lengths are not in C. With no correct
    rollout the length and notion rewards are 0, so the total is at most 1/3.
    """
    options = RewardOptions(base, difficulty, length, notion, matching, template_text)
    return MetaScorer(outcome, problem_text, options).score(prediction)


def mean_reward(rewards: list[MetaReward]) -> MetaReward | None:
    """Component-wise mean over meta rollouts, for metrics; None without any."""
    if not rewards:
        return None
    n = len(rewards)
    return MetaReward(
        math.fsum(r.difficulty for r in rewards) / n,
        math.fsum(r.length for r in rewards) / n,
        math.fsum(r.notion for r in rewards) / n,
        rewards[0].weights,
    )
