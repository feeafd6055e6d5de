"""The learnt stopping rule: against every other rule on small cases, and drawn in rounds as one by one."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence

import pytest
from scripted import ScriptedEngine, problems, solve

from masa.records import FinishReason
from masa.solving import GradedVotes, LearnedStopping, StopReason, Strategy, learn_stopping, learned
from masa.solving.stopping import decided

State = tuple[int, ...]
Vote = str | None
RIGHT = "R"


def graded(*votes: Vote) -> GradedVotes:
    return GradedVotes(votes, tuple(vote == RIGHT for vote in votes))


def drawn(generator: random.Random, samples: int, silent: float) -> GradedVotes:
    """Samples of a problem with a pass rate of its own, whose wrong answers agree now and then."""
    rate = generator.random()

    def vote() -> Vote:
        if generator.random() < silent:
            return None
        return RIGHT if generator.random() < rate else generator.choice("abc")

    return graded(*(vote() for _ in range(samples)))


def states(votes: Sequence[Vote]) -> Iterator[tuple[State, bool]]:
    """After each sample the votes, and whether the right answer leads."""
    order: list[str] = []
    stated: list[str] = []
    for vote in votes:
        if vote is not None:
            stated.append(vote)
            order += [] if vote in order else [vote]
        counts = [stated.count(one) for one in order]
        yield tuple(sorted(counts, reverse=True)), bool(order) and order[counts.index(max(counts))] == RIGHT


def worth(stops: Collection[State], some: Sequence[GradedVotes], least_gain: float) -> float:
    """Exactly: accuracy less what samples cost, over all orders in which they may come."""
    found = []
    for problem in some:
        for votes in itertools.permutations(problem.answers):
            passed = list(states(votes))
            end = next((i for i, (state, _) in enumerate(passed) if state in stops), len(passed) - 1)
            found.append(passed[end][1] - least_gain * (end + 1))
    return statistics.fmean(found)


def partitions(total: int, most: int | None = None) -> Iterator[State]:
    if not total:
        yield ()
    for first in range(min(total, most or total), 0, -1):
        yield from ((first, *rest) for rest in partitions(total - first, first))


def stopping_states(rule: LearnedStopping, samples: int) -> set[State]:
    return {state for votes in range(1, samples + 1) for state in partitions(votes) if rule.settled(state)}


@pytest.mark.parametrize("silent", [0.0, 0.4])
def test_no_rule_does_better_on_what_it_was_learnt_from(silent: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "ORDERS", 1000)
    samples = 4
    open_ones = [state for votes in range(1, samples) for state in partitions(votes)]
    rules = [set(itertools.compress(open_ones, chosen)) for chosen in itertools.product((0, 1), repeat=len(open_ones))]
    generator = random.Random(0)
    chosen = set()
    for least_gain in (0.002, 0.01, 0.03, 0.1):
        some = [drawn(generator, samples, silent) for _ in range(8)]
        values = [worth(stops, some, least_gain) for stops in rules]
        stops = stopping_states(learn_stopping(some, samples, least_gain=least_gain), samples)
        assert worth(stops, some, least_gain) >= max(values) - 0.004
        assert max(values) - statistics.median(values) > 0.004  # or any rule would do
        chosen.add(frozenset(stops))
    assert len(chosen) > 1


def test_by_hand_votes_that_come_to_nothing_end_and_equal_ones_go_on() -> None:
    # Two answers that differ: never right. Twice the same one: always right. A third sample can change neither.
    some = [graded(*"abc"), graded(*"RRR")] * 4
    rule = learn_stopping(some, 3, least_gain=0.01)
    assert [rule.settled(counts) for counts in ([1], [1, 1], [2])] == [True] * 3
    # One of three right: the second sample says nothing, the third decides.
    some = [graded("R", "R", "a")] * 8
    rule = learn_stopping(some, 3, least_gain=0.01)
    assert [rule.settled(counts) for counts in ([1], [1, 1], [2], [2, 1])] == [False, False, True, True]
    assert learn_stopping(some, 3, least_gain=0.9).settled([1])


def test_samples_that_say_nothing_are_paid_for_and_are_no_sign_of_what_follows() -> None:
    # Whoever goes on from one vote is right already; the others say nothing more.
    some = [graded("R", "R", "R", "R"), graded("a", None, None, None)] * 4
    assert learn_stopping(some, 4, least_gain=0.01).settled([1])
    # The same votes with and without silence between them, at a gain that pays for the former alone.
    plain, scattered = [graded("R", "R", "a")] * 8, [graded("R", None, None, None, "R", None, None, None, "a")] * 8
    gain = 0.1
    assert not learn_stopping(plain, 3, least_gain=gain).settled([1])
    assert learn_stopping(scattered, 9, least_gain=gain).settled([1])


def wanted(rule: LearnedStopping, votes: Sequence[Vote], number: Callable[[list[int], int], int]) -> int:
    """Samples drawn of these, so many at a time."""
    count, counts = 0, list[int]()
    while count < len(votes):
        if counts and (rule.settled(counts) or decided(counts, len(votes) - count)):
            break
        count += number(counts, len(votes) - count)
        assert count <= len(votes)
        counts = [*list(states(votes[:count]))[-1][0]]
    return count


@pytest.mark.parametrize("silent", [0.0, 0.3])
def test_to_draw_in_rounds_stops_where_one_by_one_does(silent: float) -> None:
    samples, fewer = 8, 0
    generator = random.Random(1)
    for _ in range(20):
        # Of few problems, so that many states are never seen.
        rule = learn_stopping([drawn(generator, samples, silent) for _ in range(12)], samples)
        for _ in range(60):
            votes = drawn(generator, samples, silent).answers
            rounds: list[int] = []

            def number(counts: list[int], most: int, rule: LearnedStopping = rule, rounds: list[int] = rounds) -> int:
                rounds.append(rule.least_to_settle(counts, most))
                assert 1 <= rounds[-1] <= most
                return rounds[-1]

            count = wanted(rule, votes, number)
            assert count == wanted(rule, votes, lambda *_: 1)
            fewer += len(rounds) < count
    assert fewer > 100


def test_a_state_that_was_never_seen_goes_on() -> None:
    rule = learn_stopping([graded(*"RRRR")] * 3, 4)
    assert rule.settled([1])
    assert not rule.settled([1, 1])
    assert not rule.settled([2, 1])
    assert rule.least_to_settle([2, 1], 1) == 1
    nothing = learn_stopping([graded(None, None)] * 3, 2)
    assert not nothing.settled([1])
    assert nothing.least_to_settle([], 2) >= 1


def test_the_same_votes_give_the_same_rule_and_right_answers_are_one() -> None:
    generator = random.Random(2)
    some = [drawn(generator, 6, 0.2) for _ in range(10)]
    assert learn_stopping(some, 5) == learn_stopping(some, 5)
    written = [
        GradedVotes(
            tuple(
                f"{answer}{i}" if is_right else answer for i, (answer, is_right) in enumerate(zip(*pair, strict=True))
            ),
            pair[1],
        )
        for pair in ((one.answers, one.correct) for one in some)
    ]
    assert written != some
    assert learn_stopping(written, 5) == learn_stopping(some, 5)


def test_errors() -> None:
    with pytest.raises(ValueError, match="needs problems with 3 samples each, got 2"):
        learn_stopping([graded(*"RRR"), graded(*"RR")], 3)
    with pytest.raises(ValueError, match="got no problem"):
        learn_stopping([], 3)


def test_questions_by_a_learnt_rule() -> None:
    some = [graded(*"RRRRRR"), graded(*"RRRRRa")] * 4 + [graded(*"abcdef")] * 8
    rule = learn_stopping(some, 6, least_gain=0.02)
    texts = {0: ["7"] * 6, 1: list("123456"), 2: list("778787")}
    engine = ScriptedEngine(lambda key, place: f"\\boxed{{{texts[key][place]}}}")
    found = solve(engine, Strategy(6, rule), problems(3))
    assert [one.answer for one in found][::2] == ["7", "7"]
    assert [one.stopped for one in found][:2] == [StopReason.SETTLED] * 2
    assert sum(one.samples for one in found[:2]) < 6
    assert all(one.finish_reason is FinishReason.STOP for one in found)
