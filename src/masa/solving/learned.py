"""When a further sample is not worth it, learnt from votes that were graded: optimal stopping over what was seen.

A vote's state is how many votes each answer has. From problems whose answers were drawn often enough, and graded, it is
known how often the leading answer is right in a state and which states follow; going backwards from the last vote
(Bellman, 1957) gives the value of stopping and of going on. So the rule knows what no formula does: that scattered
votes seldom come to anything, and how often two equal ones are right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from masa.awareness.beliefs import Beta
from masa.seeding import Purpose, derive_random
from masa.solving.stopping import UNIFORM, leads_by_beta
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

    waits: Mapping[State, int]
    """Of each state seen, the votes after which it may stop at the earliest; 0 to stop at once."""
    least_gain: float = LEAST_GAIN
    """By how much a sample had to raise the chance that the vote is right."""

    def leads(self, counts: Sequence[int], prior: Beta = UNIFORM) -> float:
        """Probability that the leading answer keeps its lead, as `AdaptiveConsistency` has it."""
        return leads_by_beta(counts, prior)

    def settled(self, counts: Sequence[int], prior: Beta = UNIFORM) -> bool:  # noqa: ARG002 - votes are all it knows
        """Whether the vote may stop; not in a state that was never seen."""
        return self.waits.get(tuple(counts)) == 0

    def least_to_settle(self, counts: Sequence[int], most: int, prior: Beta = UNIFORM) -> int:  # noqa: ARG002
        """Further samples before which it cannot stop, whatever they say, at most `most`: none is drawn in vain."""
        return min(most, max(1, self.waits.get(tuple(counts), 1)))


def learn_stopping(
    problems: Sequence[GradedVotes], samples: int, *, least_gain: float = LEAST_GAIN, seed: int = 0
) -> LearnedStopping:
    """The rule for votes of at most so many samples that does best on these problems.

    A problem's samples are exchangeable, so each is looked at in `ORDERS` orders. Samples that state no answer change
    no state: they make votes dearer. Right answers are one, however they are written; wrong ones as they are written.

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
    steps: defaultdict[State, Counter[State]] = defaultdict(Counter)
    drawn = stated = 0
    for number, problem in enumerate(problems):
        pairs = zip(problem.answers, problem.correct, strict=True)
        votes = [None if answer is None else _RIGHT if is_right else answer for answer, is_right in pairs]
        random = derive_random(seed, Purpose.EVALUATION, 0, number)
        for _ in range(ORDERS):
            before: State = ()
            order = random.sample(votes, samples)
            for state, is_right in _path([vote for vote in order if vote is not None]):
                seen[state] += 1
                right[state] += is_right
                steps[before][state] += 1
                before = state
            drawn += samples
            stated += sum(before)
    price = least_gain * drawn / max(1, stated)
    values: dict[State, float] = {}
    waits: dict[State, int] = {}
    for state in sorted(seen, key=sum, reverse=True):
        now = right[state] / seen[state]
        after = steps.get(state)
        later = 0.0 if not after else sum(values[s] * n for s, n in after.items()) / after.total() - price
        values[state] = max(now, later)
        waits[state] = 0 if not after or now >= later else 1 + min(waits[s] for s in after)
    return LearnedStopping(waits, least_gain)


def _path(votes: Sequence[object]) -> Iterator[tuple[State, bool]]:
    """The states that votes go through, and whether the right answer leads; of equally many the first given does."""
    counts: dict[object, int] = {}
    for vote in votes:
        counts[vote] = counts.get(vote, 0) + 1
        yield tuple(sorted(counts.values(), reverse=True)), max(counts, key=lambda one: counts[one]) is _RIGHT
