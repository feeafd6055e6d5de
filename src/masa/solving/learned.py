"""When a further sample is not worth it, learnt from votes that were graded: optimal stopping over what was seen.

A vote's state is how many votes each answer has. From problems whose answers were drawn often enough, and graded, it is
known how often the leading answer is right in a state and which states follow; going backwards from the last vote
(Bellman, 1957) gives the value of stopping and of going on. So the rule knows what no formula does: that scattered
votes seldom come to anything, and how often two equal ones are right.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from masa.awareness.beliefs import Beta
from masa.seeding import Purpose, derive_random
from masa.solving.stopping import UNIFORM, decided, leads_by_beta
from masa.solving.worth import LEAST_GAIN

ORDERS = 40
"""In which each problem's samples are taken to have come."""
_RIGHT = object()
State = tuple[int, ...]
"""Votes an answer, not rising."""


@dataclass(frozen=True, slots=True)
class GradedVotes:
    """Samples of one problem: the answer that each states, None without one, and whether it is right."""

    answers: tuple[str | None, ...]
    correct: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class LearnedStopping:
    """Stops where going on was not worth it; a rule for `Strategy.stopping`, made by `learn_stopping`."""

    stops: frozenset[State]
    """The states in which it stops; in one that was never seen it does not."""
    least_gain: float = LEAST_GAIN
    """By how much a sample had to raise the chance that the vote is right."""

    @property
    def digest(self) -> str:
        """Names the rule."""
        return hashlib.blake2b(repr(sorted(self.stops)).encode(), digest_size=8).hexdigest()

    def leads(self, counts: Sequence[int], prior: Beta = UNIFORM) -> float:
        """Probability that the leading answer keeps its lead, as `AdaptiveConsistency` has it."""
        return leads_by_beta(counts, prior)

    def settled(self, counts: Sequence[int], prior: Beta = UNIFORM) -> bool:  # noqa: ARG002 - votes are all it knows
        """Whether the vote may stop."""
        return tuple(counts) in self.stops

    def least_to_settle(self, counts: Sequence[int], most: int, prior: Beta = UNIFORM) -> int:  # noqa: ARG002
        """Further samples before which it cannot stop, whatever they say, at most `most`: none is drawn in vain."""
        first, *others = counts or [0]
        ahead = (sum(state) - sum(counts) for state in self.stops if _leads_to(counts, state))
        soonest = min(ahead, default=most)
        for more in range(1, min(soonest, most)):
            if decided([first + more, *others], most - more):
                return more
        return min(most, max(1, soonest))


def learn_stopping(
    problems: Sequence[GradedVotes], samples: int, *, least_gain: float = LEAST_GAIN, seed: int = 0
) -> LearnedStopping:
    """The rule for votes of at most so many samples that does best on these problems.

    A problem's samples are exchangeable, so each is looked at in `ORDERS` orders. Samples that state no answer change
    no state, and are paid for. Right answers are one, however they are written; wrong ones as they are written.

    Args:
        problems: of the kind that will be asked, answered by the same policy.
        samples: of a question, at most; every problem must have as many.
        least_gain: by how much a sample must raise the chance that the vote is right, in expectation.
        seed: of the orders.

    Raises:
        ValueError: without problems, or if one has too few samples.
    """
    short = [len(one.answers) for one in problems if len(one.answers) < samples]
    if short or not problems:
        raise ValueError(f"needs problems with {samples} samples each, got {min(short, default='no problem')}")
    seen: Counter[State] = Counter()
    right: Counter[State] = Counter()
    last_right: Counter[State] = Counter()
    spent: Counter[State] = Counter()
    steps: defaultdict[State, Counter[State]] = defaultdict(Counter)
    for number, problem in enumerate(problems):
        pairs = zip(problem.answers, problem.correct, strict=True)
        votes = [None if answer is None else _RIGHT if is_right else answer for answer, is_right in pairs]
        random = derive_random(seed, Purpose.ORDER, 0, number)
        for _ in range(ORDERS):
            before, was_right = State(), False
            for state, is_right in _path(random.sample(votes, samples)):
                spent[before] += 1
                if state != before:  # a vote, not silence
                    seen[state] += 1
                    right[state] += is_right
                    steps[before][state] += 1
                    before, was_right = state, is_right
            last_right[before] += was_right
    values: dict[State, float] = {}
    stops: set[State] = set()
    for state in sorted(seen, key=sum, reverse=True):
        # Where no vote follows, the samples were paid for and the leading answer is what it was.
        ends = sum(values[after] * count for after, count in steps[state].items()) + last_right[state]
        now, later = right[state] / seen[state], (ends - least_gain * spent[state]) / seen[state]
        values[state] = max(now, later)
        if now >= later:
            stops.add(state)
    return LearnedStopping(frozenset(stops), least_gain)


def _leads_to(counts: Sequence[int], state: State) -> bool:
    """Whether further votes may lead from the one to the other."""
    return len(counts) <= len(state) and all(few <= many for few, many in zip(counts, state, strict=False))


def _path(votes: Sequence[object]) -> Iterator[tuple[State, bool]]:
    """The state after each sample, and whether the right answer leads; of equally many the first given does."""
    counts: dict[object, int] = {}
    for vote in votes:
        if vote is not None:
            counts[vote] = counts.get(vote, 0) + 1
        leader = max(counts, key=lambda one: counts[one], default=None)
        yield tuple(sorted(counts.values(), reverse=True)), leader is _RIGHT
