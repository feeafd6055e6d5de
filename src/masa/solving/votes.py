"""Counting votes: answers that a grader would take for one another are one answer."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from masa.grading.equality import equal_answers
from masa.records import Problem

_Pair = tuple[str, str]
_Comparing = Generator[_Pair, bool | None, None]

_MOST_DOUBTS = 2


@dataclass(frozen=True, slots=True)
class Vote:
    """An answer and how many samples stated it."""

    answer: str
    """As the first of them wrote it."""
    count: int


@dataclass(slots=True)
class _Answer:
    text: str
    place: int
    """In the order in which answers were first given."""
    count: int = 0
    doubts: int = 0
    """Comparisons with it that came to no end."""


@dataclass(slots=True)
class Ballot:
    """The votes on one problem."""

    problem: Problem
    _answers: list[_Answer] = field(default_factory=list)
    _meaning: dict[str, _Answer] = field(default_factory=dict)
    """Every text that was ever cast, and the answer it is."""

    @property
    def votes(self) -> tuple[Vote, ...]:
        """Answers by their votes; of equally many the one that was given first is ahead."""
        return tuple(
            Vote(one.text, one.count) for one in sorted(self._answers, key=lambda one: (-one.count, one.place))
        )

    @property
    def counts(self) -> list[int]:
        """Votes an answer, not rising."""
        return [vote.count for vote in self.votes]

    def meaning(self, text: str) -> str:
        """The answer that a text which was cast stands for."""
        return self._meaning[text].text

    def cast(self, texts: Iterable[str]) -> _Comparing:
        """Counts texts, asking of (text, answer) whether they are equal where it is not the same text.

        A new text is compared with the answers in the order of their votes until it meets its equal. Where a comparison
        comes to no end (None), either may be the cause: the other is asked about last from then on, and a text to
        which it happens twice is an answer of its own, so that none wastes more than two time limits.
        """
        for text in texts:
            if text not in self._meaning:
                self._meaning[text] = yield from self._find(text)
            self._meaning[text].count += 1

    def _find(self, text: str) -> Generator[_Pair, bool | None, _Answer]:
        doubts = 0
        for answer in sorted(self._answers, key=lambda one: (one.doubts, -one.count, -one.place)):
            verdict = yield text, answer.text
            if verdict:
                return answer
            if verdict is None:
                answer.doubts += 1
                doubts += 1
                if doubts == _MOST_DOUBTS:
                    break
        self._answers.append(_Answer(text, len(self._answers), doubts=doubts))
        return self._answers[-1]


def count(ballots: Sequence[Ballot], texts: Sequence[Sequence[str]]) -> None:
    """Casts each ballot's texts, in order; what must be compared is compared for all ballots at a time."""
    running: list[tuple[Ballot, _Comparing]] = [
        (ballot, ballot.cast(cast)) for ballot, cast in zip(ballots, texts, strict=True)
    ]
    verdicts: list[bool | None] = [None] * len(running)  # a generator's first value is None
    while running:
        open_ones: list[tuple[Ballot, _Comparing]] = []
        pairs: list[_Pair] = []
        for (ballot, comparing), verdict in zip(running, verdicts, strict=True):
            try:
                pairs.append(comparing.send(verdict))
            except StopIteration:
                continue
            open_ones.append((ballot, comparing))
        running = open_ones
        verdicts = equal_answers(
            [ballot.problem for ballot, _ in running], [text for text, _ in pairs], [answer for _, answer in pairs]
        )
